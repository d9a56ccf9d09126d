"""Examples whose free phase does not settle: the published code's numbers, and what becomes of them."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from hepcli.engine import (
    ERROR_SIGNALS,
    ESTIMATORS,
    GradientSettings,
    Problem,
    RelaxationSettings,
    activities,
    estimate,
    free_phase,
)

from .cases import CASES, distance, make_problem, naive_relax, on_arrays
from .reference import Reference, relative_error
from .test_reference import nested, second, settings_of

reference = functools.cache(lambda: Reference("unsettled"))


@functools.cache
def ours():
    """Our value of every array of the file, by its name there."""
    ref = reference()

    def signals(problem):
        free = free_phase(problem)
        found = nested("free/state", free.phase.state) | {"free/residual": free.phase.residual}
        for key in second("error_signal", ref.arrays):
            gradient = settings_of(key)._replace(adjoint_steps=ref.meta["nudged_steps"])
            own = problem._replace(gradient=gradient)
            vector, _ = ERROR_SIGNALS[gradient.method](free._replace(problem=own))
            found |= nested(f"error_signal/{key}", vector)
        for key in second("gradient", ref.arrays):
            gradient = settings_of(key)._replace(adjoint_steps=ref.meta["nudged_steps"])
            found |= nested(f"gradient/{key}", estimate(problem._replace(gradient=gradient)).gradient)
        return found

    return on_arrays(signals, ref.problem())


def test_no_array_is_left_unchecked():
    stored = {key for key in reference().arrays if not key.startswith("params/")} - {"x", "y"}
    in_file = {key.replace("readout/Dense_0", "readout") for key in ours()}
    assert in_file == stored


def test_most_examples_alternate():
    settled = np.array(reference().meta["settled"])
    assert settled.sum() == 2
    np.testing.assert_array_equal(np.asarray(ours()["free/residual"]) < 1e-3, settled)


@pytest.mark.parametrize("which", ["settled", "unsettled"])
@pytest.mark.parametrize("key", ["free/state", "free/residual", "error_signal"])
def test_states_and_signals_agree_with_the_published_code(key, which):
    chosen = np.array(reference().meta["settled"]) == (which == "settled")
    errors = {
        name: relative_error({name: np.asarray(found)[chosen]}, {name: reference().arrays[name][chosen]})
        for name, found in ours().items()
        if name.startswith(key) and not (key == "free/residual" and which == "settled")  # rounding there
    }
    print(which, max(errors.values(), default=0.0))
    assert not {name: error for name, error in errors.items() if not error < 1e-8}


def test_gradients_agree_with_the_published_code():
    errors = {}
    for name, found in ours().items():
        if name.startswith("gradient/"):
            stored = name.replace("readout/Dense_0", "readout")
            errors[name] = relative_error({name: found}, {name: reference().arrays[stored]})
    print(max(errors.values()))
    assert not {name: error for name, error in errors.items() if not error < 1e-8}
