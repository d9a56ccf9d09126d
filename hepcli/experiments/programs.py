"""Compiled programs kept from one command to the next."""

import hashlib
import os
import platform
from contextlib import suppress
from pathlib import Path

import jax

_LEAST_SECONDS = 0.2  # of compilation, for a program to be kept
_MOST_MAPPINGS = 1 / 8  # of those allowed; a run takes about 500, and 25 MB


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


def make_room() -> None:
    """Let go of compiled programs before there are more than the system allows one process.

    JAX keeps every program it has compiled, and on a CPU each takes some mappings of memory, of which Linux
    allows a process 65,530: after about 130 runs in one process LLVM would fail, with a segmentation fault.
    Programs that are still in use are compiled again when they are next asked for.
    """
    with suppress(OSError, ValueError):  # no Linux: no such limit
        allowed = int(Path("/proc/sys/vm/max_map_count").read_text(encoding="ascii"))
        with open("/proc/self/maps", "rb") as mappings:
            taken = sum(1 for _ in mappings)
        if taken > allowed * _MOST_MAPPINGS:
            jax.clear_caches()  # type: ignore[no-untyped-call]


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
