"""What a preset may name is what the rooms below provide."""

from typing import get_args

import pytest
from hepcli.config.network import ActivationName, LossName
from hepcli.config.tables import MethodName, OptimizerName, ScheduleName, SolverName

from hepcli.settings import ACTIVATIONS, ESTIMATORS, LOSSES, OPTIMIZERS, SCHEDULES, SOLVERS


@pytest.mark.parametrize(
    ("allowed", "provided"),
    [
        (MethodName, ESTIMATORS),
        (SolverName, SOLVERS),
        (ActivationName, ACTIVATIONS),
        (LossName, LOSSES),
        (OptimizerName, OPTIMIZERS),
        (ScheduleName, SCHEDULES),
    ],
    ids=["methods", "solvers", "activations", "losses", "optimizers", "schedules"],
)
def test_names_agree_with_the_configuration(allowed, provided):
    assert set(get_args(allowed)) == set(provided)


def test_error_signals_are_estimators():
    assert set(ERROR_SIGNALS) < set(ESTIMATORS)
