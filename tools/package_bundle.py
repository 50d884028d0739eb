"""Packages a trained bundle as one zip that the Model Zoo, MONAI's commands and hosts take.

    python tools/package_bundle.py edc [--output_dir dist] [--ckpt_path MODEL] [--model_url URL]

It holds the bundle's files with a JSON twin of each configuration, the model, licences, and a manifest with the SHA-256
of every file. See docs/packaging.md.
"""

from __future__ import annotations

from pathlib import Path

from medad_plugins.command_line import run_tool
from medad_plugins.errors import InputError
from medad_plugins.packaging import package_bundle

__all__ = ["package"]

BUNDLES = Path(__file__).resolve().parents[1] / "bundles"


def package(bundle: str, output_dir: str = "dist", ckpt_path: str = "", model_url: str = "") -> None:
    """Write the zip.

    Args:
        bundle: name of a bundle of this project, or the path of any bundle's folder.
        output_dir: where to write.
        ckpt_path: the model, by default the bundle's models/model.pt.
        model_url: where the model will be downloaded from; the zip then lists it instead of holding it.
    """
    root = BUNDLES / bundle if (BUNDLES / bundle).is_dir() else Path(bundle)
    if not root.is_dir():
        names = sorted(folder.name for folder in BUNDLES.iterdir() if (folder / "configs").is_dir())
        raise InputError("there is no such bundle", where=bundle, expected=f"a folder or one of {', '.join(names)}")
    package_bundle(root, output_dir, ckpt_path, model_url)


if __name__ == "__main__":
    run_tool(package)
