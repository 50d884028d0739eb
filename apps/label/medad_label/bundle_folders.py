"""Which bundle folders the server serves, and under which names."""

from __future__ import annotations

from pathlib import Path

from medad_plugins.errors import InputError
from medad_plugins.files import home_path

__all__ = ["find_bundles"]


def find_bundles(models: str, model_dir: Path) -> dict[str, Path]:
    """Bundle folders by their names; nothing is looked up on the network.

    Args:
        models: paths of bundle folders, or their names in ``model_dir``, separated by commas; empty takes all of
            ``model_dir``.
        model_dir: the app's own folder for bundles.

    Raises:
        InputError: there is no bundle, one of them is not there, or two have the same name.
    """
    wanted = [text.strip() for text in models.split(",") if text.strip()]
    if wanted:
        folders = [_bundle(text, model_dir) for text in wanted]
    else:
        folders = sorted(path for path in model_dir.glob("*") if _is_bundle(path))
    if not folders:
        todo = "give the path of a bundle's folder: --conf models bundles/padim"
        raise InputError("there is no bundle to serve", where=model_dir, todo=todo)
    found: dict[str, Path] = {}
    for folder in folders:
        if folder.name in found:
            todo = "rename one of the folders"
            raise InputError("two bundles have the same name", where=folder, found=found[folder.name], todo=todo)
        found[folder.name] = folder
    return found


def _bundle(text: str, model_dir: Path) -> Path:
    for path in (Path(home_path(text)), model_dir / text):
        if _is_bundle(path):
            return path.resolve()
    expected = "the path of a folder with configs/metadata.json, or its name in the app's folder model"
    raise InputError("this is not a bundle", where=f"--conf models {text}", expected=expected)


def _is_bundle(folder: Path) -> bool:
    return (folder / "configs" / "metadata.json").is_file()
