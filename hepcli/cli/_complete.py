"""What the Tab key offers: names, keys and runs. Where nothing fits, the shell offers files."""

from pathlib import Path

_DEPTH = 3
"""Folders below the word that are looked through for runs."""
_MOST = 200
"""Runs that are offered."""


_SWEEPS = "sweeps/"


def all_names(incomplete: str) -> list[tuple[str, str]]:
    """Presets and sweeps, as `hep presets` lists them, and their titles."""
    from hepcli.experiments.presets import list_presets

    return [(own.name, own.title) for own in list_presets() if own.name.startswith(incomplete)]


def preset_names(incomplete: str) -> list[tuple[str, str]]:
    """Presets, for --preset."""
    return [(name, title) for name, title in all_names(incomplete) if not name.startswith(_SWEEPS)]


def sweep_names(incomplete: str) -> list[tuple[str, str]]:
    """Sweeps, by the name that `hep sweep` takes."""
    return [(name.removeprefix(_SWEEPS), title) for name, title in all_names(_SWEEPS + incomplete)]


def keys(incomplete: str) -> list[str]:
    """Keys of a configuration, for --set and --vary, each with its "="."""
    from hepcli.experiments.presets import setting_keys

    return [f"{key}=" for key in setting_keys() if key.startswith(incomplete)]


def data_names(incomplete: str) -> list[str]:
    """Data sets that can be downloaded or imported."""
    from hepcli.settings import DATASETS

    return [name for name in DATASETS if name.startswith(incomplete)]


def runs(incomplete: str) -> list[str]:
    """Run folders that begin with the word, a few folders below it at most."""
    try:
        return _runs(incomplete)
    except (OSError, RuntimeError, ValueError):
        return []  # no such home, a folder that may not be searched, a word that is no path


def _runs(incomplete: str) -> list[str]:
    start = Path(incomplete).expanduser()
    whole = incomplete.endswith(("/", "\\")) or not incomplete
    folder, prefix = (start, "") if whole else (start.parent, start.name)
    found: list[str] = []
    level = [own for own in _folders(folder) if own.name.startswith(prefix)]
    for _ in range(_DEPTH):
        found += [str(own) for own in level if (own / "config.toml").is_file()]
        level = [sub for own in level if not (own / "config.toml").is_file() for sub in _folders(own)]
    if incomplete.startswith("~"):
        home = str(Path("~").expanduser())
        found = [f"~{path.removeprefix(home)}" for path in found]
    return sorted(found)[:_MOST]


def _folders(folder: Path) -> list[Path]:
    """The folders in a folder that can be looked into, hidden ones left out."""
    try:
        return [own for own in folder.iterdir() if not own.name.startswith(".") and own.is_dir()]
    except OSError:
        return []  # a word that is no folder, or not ours: nothing to offer
