"""Weights of a network as one file that other tools read: safetensors, or NumPy's .npz."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hepcli.config import config_hash
from hepcli.data import ARCHIVE_ERRORS, HEADER_ERRORS
from hepcli.errors import CheckpointError, ConfigError, OutputError
from hepcli.experiments.saved import SavedRun
from hepcli.files import replacing, write_failure

SUFFIXES = (".safetensors", ".npz")
METADATA = "__metadata__"
"""The entry of an .npz that holds the metadata, as JSON; safetensors has a place of its own for it."""


def export(
    checkpoint: Path,
    out: Path,
    step: int | Literal["best"] | None = None,
    data_dir: Path | None = None,
    code: Sequence[Path] = (),
) -> tuple[Path, tuple[str, ...]]:
    """Write the weights of a run, float32, named `CONNECTION.kernel` and `CONNECTION.bias`.

    Args:
        checkpoint: a run folder, its checkpoints/ or one step in it.
        out: the file, .safetensors or .npz; one that is there is replaced.
        step: which step; "best" for the best on the validation examples, None for the one `checkpoint`
            names, else the newest intact one.
        data_dir: where data sets are kept; that of the run must be known, for the shapes of the weights.
        code: files with own components, besides those of the run.

    Returns:
        The file, and notices for the user.

    Raises:
        CheckpointError: not a run, no such step, or nothing intact.
        CodeError: a file with own components is missing, has changed or cannot be loaded.
        ConfigError: `out` ends in something else, or there is no best step.
        DatasetError: the data set is not known.
        OutputError: the file cannot be written.
    """
    if out.suffix not in SUFFIXES:
        what = f"--out {out}: weights are written as {' or '.join(SUFFIXES)}."
        raise ConfigError(what, "Choose one of them.")
    run = SavedRun(checkpoint, data_dir=data_dir, code=code, reads_data=False)
    restored = run.restore_chosen(step)
    metadata = {
        "format": "hepcli",
        "hepcli": version("hepcli"),
        "config": json.dumps(run.config.model_dump(mode="json")),
        "config_hash": config_hash(run.config),
        "step": str(restored.step),
    }
    arrays = flat(restored.state.params)
    _write(out, arrays, metadata | {"sha256": _digest(arrays)})
    return out, restored.damaged


def flat(params: Mapping[str, Mapping[str, Any]]) -> dict[str, NDArray[np.float32]]:
    """Parameters by their names in a file."""
    return {
        f"{connection}.{leaf}": np.ascontiguousarray(value, np.float32)
        for connection, leaves in params.items()
        for leaf, value in leaves.items()
    }


def read_weights(file: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Read a file of weights.

    Args:
        file: .safetensors or .npz.

    Returns:
        The arrays by name, and the metadata, none where another tool wrote the file.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    from safetensors import SafetensorError

    advice = "Give a file written by hep export, or one with the same array names (such as in-l1.kernel)."
    try:
        arrays, metadata = _read_safetensors(file) if file.suffix == ".safetensors" else _read_npz(file)
        if "sha256" in metadata and metadata["sha256"] != _digest(arrays):
            raise ValueError("its arrays have changed since they were exported")
    except FileNotFoundError as error:
        raise CheckpointError(f"{file} does not exist.", advice) from error
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error.strerror or error}.", advice) from error
    except (SafetensorError, KeyError, AttributeError, *ARCHIVE_ERRORS, *HEADER_ERRORS) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise CheckpointError(f"{file} contains no readable weights: {reason}.", advice) from error
    return arrays, metadata


def _digest(arrays: Mapping[str, NDArray[Any]]) -> str:
    """Of names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, value in sorted(arrays.items()):
        digest.update(f"{name} {value.dtype.str} {value.shape} ".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()


def _write(out: Path, arrays: dict[str, NDArray[np.float32]], metadata: dict[str, str]) -> None:
    from safetensors.numpy import save

    try:
        with replacing(out) as temporary, temporary.open("wb") as file:
            if out.suffix == ".safetensors":
                file.write(save(arrays, metadata))
            else:
                np.savez(file, **arrays, **{METADATA: np.array(json.dumps(metadata))})  # type: ignore[arg-type]
    except OSError as error:
        raise OutputError(
            f"{out} cannot be written: {write_failure(out, error)}.", "Choose another --out."
        ) from error


def _read_safetensors(file: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    from safetensors import safe_open

    if file.is_dir():
        raise IsADirectoryError(21, "it is a folder")
    with safe_open(file, framework="numpy") as opened:
        return {name: opened.get_tensor(name) for name in opened.keys()}, dict(opened.metadata() or {})  # noqa: SIM118


def _read_npz(file: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    with file.open("rb") as handle, np.load(handle, allow_pickle=False) as opened:
        if not isinstance(opened, np.lib.npyio.NpzFile):
            raise ValueError("it is a single array")
        arrays = {name: opened[name] for name in opened.files}
    text = arrays.pop(METADATA, None)
    return arrays, {} if text is None else json.loads(str(text))
