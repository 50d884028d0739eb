"""Finding the root of a published data set in what a user unzipped."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from medad_plugins.data.scan_files import PICTURE_SUFFIXES
from medad_plugins.errors import InputError

__all__ = ["find_root", "inside", "pictures"]

DEPTH_BELOW = 3
LEVELS_ABOVE = 2
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".7z", ".rar")
SHOWN = 6


def find_root(source: Path, *layouts: Sequence[str], wrong: Mapping[str, str] | None = None) -> tuple[Path, int]:
    """The folder that holds the data set: ``source``, else one a few levels below it, else one just above it.

    Args:
        source: what the user gave.
        layouts: for each published layout the files and folders its root has, as relative paths; upper and lower case
            are not distinguished.
        wrong: names that mark another part of the publication, with the sentence's end that says so and what to get.

    Returns:
        the root, and which of the layouts it has.

    Raises:
        InputError: the source does not exist, no folder has a layout (naming what is missing, a wrong part or an
            archive that is still packed), or several do, as after unzipping twice.
    """
    if not source.is_dir():
        todo = "give the folder the data set was unzipped into as --source"
        raise InputError("the source is not a folder", where=source, todo=todo)
    levels = _levels(source)
    for folders in levels:
        found = [(folder, number) for folder in folders for number in _fitting(folder, layouts)[:1]]
        if len(found) > 1:
            names = ", ".join(str(folder) for folder, _ in found[:SHOWN])
            todo = "give one of them as --source"
            raise InputError("several folders hold the data set", where=source, expected=1, found=names, todo=todo)
        if found:
            return found[0]
    for folder in source.resolve().parents[:LEVELS_ABOVE]:
        for number in _fitting(folder, layouts)[:1]:
            return folder, number
    raise _not_found(source, [folder for folders in levels for folder in folders], layouts, wrong or {})


def inside(folder: Path, relative: str) -> Path:
    """A file or folder below ``folder``, ignoring case; as spelt where there is none."""
    path = folder
    for part in relative.split("/"):
        if not (path / part).exists():
            names = os.listdir(path) if path.is_dir() else []
            part = next((name for name in sorted(names) if name.casefold() == part.casefold()), part)
        path = path / part
    return path


def pictures(folder: Path) -> list[Path]:
    """The picture files directly in a folder, sorted; hidden ones, such as macOS leaves in archives, are skipped."""
    names = sorted(os.listdir(folder)) if folder.is_dir() else []
    return [folder / name for name in names if name.lower().endswith(PICTURE_SUFFIXES) and not name.startswith(".")]


def _levels(source: Path) -> list[list[Path]]:
    """The source and the folders below it, level by level."""
    levels = [[source]]
    for _ in range(DEPTH_BELOW):
        below = [Path(entry.path) for folder in levels[-1] for entry in _scan(folder) if entry.is_dir()]
        levels.append(sorted(path for path in below if not path.name.startswith((".", "__MACOSX"))))
    return levels


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except PermissionError as error:
        raise InputError("a folder of the source cannot be read", where=folder, todo="allow reading it") from error


def _fitting(folder: Path, layouts: Sequence[Sequence[str]]) -> list[int]:
    return [number for number, names in enumerate(layouts) if all(inside(folder, name).exists() for name in names)]


def _not_found(
    source: Path, folders: Sequence[Path], layouts: Sequence[Sequence[str]], wrong: Mapping[str, str]
) -> InputError:
    for folder in folders:
        for name, reason in wrong.items():
            if (path := inside(folder, name)).exists():
                return InputError("the source holds another part of the data set", where=path, todo=reason)
    archives = [path for folder in folders[:20] for path in _archives(folder)]
    # the folder that comes nearest to a layout shows best what is missing
    score, best, names = 0.0, source, layouts[0]
    for folder in folders:
        for layout in layouts:
            share = sum(inside(folder, name).exists() for name in layout) / len(layout)
            if share > score:
                score, best, names = share, folder, layout
    missing = [name for name in names if not inside(best, name).exists()]
    todo = f"unzip {archives[0].name}" if archives else "unzip the whole download and give its folder as --source"
    if score:
        expected = f"{', '.join(missing)} beside {', '.join(name for name in names if name not in missing)}"
        return InputError("a part of the data set is missing", where=best, expected=expected, todo=todo)
    expected = " or ".join(", ".join(layout) for layout in layouts)
    listing = sorted(os.listdir(source))
    found = ", ".join(listing[:SHOWN]) + (", ..." if len(listing) > SHOWN else "") or "an empty folder"
    what = "the source is not laid out as published"
    return InputError(what, where=source, expected=f"a folder with {expected}", found=found, todo=todo)


def _archives(folder: Path) -> list[Path]:
    names = sorted(entry.name for entry in _scan(folder) if entry.is_file())
    return [folder / name for name in names if name.lower().endswith(ARCHIVES)]
