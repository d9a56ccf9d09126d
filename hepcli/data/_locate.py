"""Finding local copies of a data set's archives, packed or unpacked."""

from pathlib import Path

from hepcli.data._spec import Archives, DatasetSpec
from hepcli.errors import DatasetError


def locate_archives(spec: DatasetSpec, source: Archives, source_dir: Path) -> dict[str, Path]:
    """Find every archive of a data set in a folder.

    Args:
        spec: the data set.
        source: where its examples come from.
        source_dir: folder with the archives under their official names. One ending in .gz may
            be decompressed; of one that holds several files, these may lie in its own folder
            there, or in source_dir itself.

    Returns:
        By official name the archive, or the folder of its files.

    Raises:
        DatasetError: source_dir is no folder, or files are missing; all are named.
    """
    if not source_dir.is_dir():
        raise DatasetError(
            f"{source_dir} is not a folder.", f"Give the folder that contains the {spec.name} files."
        )
    result: dict[str, Path] = {}
    missing: list[str] = []
    for name in source.filenames:
        path = _find(source, source_dir, name)
        if path is not None:
            result[name] = path
        else:
            missing += _missing_names(source, source_dir, name)
    if missing:
        others = [name for name in source.other_versions if (source_dir / name).exists()]
        told = (
            f" {others[0]} contains the same data in another version, which hep cannot read."
            if others
            else ""
        )
        raise DatasetError(
            f"{source_dir} lacks {', '.join(missing)}.{told}",
            "Put the official files into one folder; they may be unpacked.",
        )
    return result


def _find(source: Archives, source_dir: Path, name: str) -> Path | None:
    for path in (source_dir / name, source_dir / name.removesuffix(".gz")):
        if path.is_file():
            return path
    if contents := source.contents.get(name):
        for folder in (source_dir / contents.folder, source_dir):
            if all((folder / file).is_file() for file in contents.names):
                return folder
    return None


def _missing_names(source: Archives, source_dir: Path, name: str) -> list[str]:
    """Return the archive's name, or those of the files that a half-unpacked one lacks."""
    if contents := source.contents.get(name):
        for folder in (source_dir / contents.folder, source_dir):
            missing = [file for file in contents.names if not (folder / file).is_file()]
            if len(missing) < len(contents.names):
                return [str((folder / file).relative_to(source_dir)) for file in missing]
    return [name]
