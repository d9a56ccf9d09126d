"""Compiled programs kept from one command to the next."""

import hashlib
import os
import platform
from contextlib import suppress
from pathlib import Path

import jax

_LEAST_SECONDS = 0.2  # of compilation, for a program to be kept


def keep_programs() -> None:
    """Have JAX keep compiled programs in the user's cache folder, for all commands.

    JAX's own settings come first: JAX_COMPILATION_CACHE_DIR names another folder, and
    JAX_ENABLE_COMPILATION_CACHE=false keeps none. Where the folder cannot be made, none are kept either: the
    commands work as well, but for the time they take to start.
    """
    if jax.config.jax_compilation_cache_dir is not None:  # type: ignore[attr-defined]
        return
    try:
        folder = _folder()
    except RuntimeError:  # a user without a home
        return
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    if os.access(folder, os.W_OK):
        jax.config.update("jax_compilation_cache_dir", str(folder))  # type: ignore[no-untyped-call]
        jax.config.update("jax_persistent_cache_min_compile_time_secs", _LEAST_SECONDS)  # type: ignore[no-untyped-call]


def _folder() -> Path:
    """One for each kind of processor: programs of one need not run on another that shares the home folder."""
    chosen = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG specification tells programs to ignore relative paths (and the empty one).
    root = chosen if chosen.is_absolute() else Path("~/.cache").expanduser()
    kind = hashlib.sha256(_processor().encode()).hexdigest()[:12]
    return root / "hep" / f"programs-{kind}"


def _processor() -> str:
    """What tells processors apart that need different machine code."""
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
        return "\n".join(
            sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))})
        )
    return f"{platform.machine()} {platform.processor()}"
