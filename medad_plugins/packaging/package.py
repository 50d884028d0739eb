"""A trained bundle as one zip: what the Model Zoo, MONAI's commands and a hospital without this project can use."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from medad_plugins.bundle import method_of
from medad_plugins.engines.model_file import ModelFile, save_state_dict
from medad_plugins.errors import InputError
from medad_plugins.files import atomic_path, output_folder, write_json, written
from medad_plugins.manifest import Manifest, sha256
from medad_plugins.packaging.json_twins import write_json_twins
from medad_plugins.packaging.model_metadata import describe_model
from medad_plugins.versions import require_bundle_fits

__all__ = ["package_bundle"]

logger = logging.getLogger(__name__)

REQUIRED = (
    "LICENSE",
    "configs/metadata.json",
    "configs/train.yaml",
    "configs/inference.yaml",
    "configs/evaluate.yaml",
    "configs/logging.conf",
    "docs/README.md",
    "docs/data_license.txt",
)
MODEL = "models/model.pt"
LARGE_FILES = "large_files.yml"
ZOO_LIMIT = 25 * 2**20  # bytes of a file in the Model Zoo's repository
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the zip format's first day: equal contents give equal zips


def package_bundle(
    bundle_root: str | os.PathLike[str], output_dir: str | os.PathLike[str], ckpt_path: str = "", model_url: str = ""
) -> Path:
    """Write ``<name>_v<version>.zip``, which holds the folder ``<name>``; equal bundles and models give equal bytes.

    The name is that of the bundle's folder, which may have been renamed.

    In it: the bundle's own files; a JSON twin of each YAML configuration; ``models/model.pt``, a plain state dict to
    readers that need no more; metadata with this model's grid; and ``manifest.json`` with the SHA-256 of every file.

    Args:
        bundle_root: the bundle's folder.
        output_dir: where to write.
        ckpt_path: the model, by default the bundle's ``models/model.pt``.
        model_url: where the model will be downloaded from; the zip then holds ``large_files.yml`` in place of the
            model, which is written beside the zip, to be put there.

    Returns:
        the zip.

    Raises:
        InputError: there is no such bundle, a file of it is missing, its newest version has no changelog entry, or the
            model is missing, damaged or another bundle's.
    """
    root = Path(os.path.abspath(bundle_root))
    missing = [name for name in REQUIRED if not (root / name).is_file()]
    if missing:
        raise InputError("the bundle's folder is not complete", where=root, expected=", ".join(missing))
    require_bundle_fits(root)
    metadata = _metadata(root)
    model = ModelFile(ckpt_path or root / MODEL, method_of(root))
    folder, title = output_folder(output_dir), f"{root.name}_v{metadata['version']}"
    with written(folder), tempfile.TemporaryDirectory(dir=folder, prefix=".") as temporary:
        stage = Path(temporary) / root.name
        _stage(root, stage, metadata, model)
        if model_url:
            _write_large_files(stage, model_url)
        listed = [path for path in stage.rglob("*") if path.is_file()]
        Manifest.of_files(stage, listed, bundle=root.name, version=str(metadata["version"])).write()
        if model_url:
            shutil.move(stage / MODEL, folder / f"{title}_model.pt")
        with atomic_path(folder / f"{title}.zip") as path:
            _zip(stage, path)
    package = folder / f"{title}.zip"
    _tell(package, folder / f"{title}_model.pt" if model_url else None)
    return package


def _metadata(root: Path) -> dict[str, Any]:
    path = root / "configs" / "metadata.json"
    metadata: dict[str, Any] = json.loads(path.read_text("utf-8"))
    if metadata.get("version") not in metadata.get("changelog", {}):
        found = f"version {metadata.get('version')} and entries for {', '.join(metadata.get('changelog', {}))}"
        todo = "say in changelog what is new in this version"
        raise InputError("the bundle's version has no changelog entry", where=path, found=found, todo=todo)
    return metadata


def _stage(root: Path, stage: Path, metadata: dict[str, Any], model: ModelFile) -> None:
    """The bundle's folder as it will be in the zip, but for the manifest."""
    for part in ("configs", "docs"):
        shutil.copytree(root / part, stage / part, ignore=shutil.ignore_patterns(".*", "__pycache__"))
    shutil.copyfile(root / "LICENSE", stage / "LICENSE")
    readme = stage / "docs" / "README.md"
    readme.write_text(_standalone(readme.read_text("utf-8"), method_of(root)), encoding="utf-8")
    write_json(stage / "configs" / "metadata.json", describe_model(metadata, model))
    write_json_twins(stage / "configs")
    output_folder(stage / "models")
    save_state_dict(stage / MODEL, model.content)


def _standalone(text: str, name: str) -> str:
    """A README's text where the project around the bundle is not there: commands from inside, no links upwards."""
    without_links = re.sub(r"\[([^\]]+)\]\((?:\.\./)+[^)]*\)", r"\1", text)
    return without_links.replace(f"bundles/{name}/", "")


def _write_large_files(stage: Path, url: str) -> None:
    """The Model Zoo's list of what is downloaded instead of kept; a JSON string is a YAML one too."""
    entry = {"path": MODEL, "url": url, "hash_val": sha256(stage / MODEL), "hash_type": "sha256"}
    lines = [f"{'-' if name == 'path' else ' '} {name}: {json.dumps(value)}" for name, value in entry.items()]
    (stage / LARGE_FILES).write_text("\n".join(["large_files:", *lines, ""]), encoding="utf-8")


def _zip(stage: Path, path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(stage.rglob("*")):
            if file.is_file():
                entry = zipfile.ZipInfo(file.relative_to(stage.parent).as_posix(), _EPOCH)
                entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
                with file.open("rb") as source, archive.open(entry, "w") as target:
                    shutil.copyfileobj(source, target)


def _tell(written: Path, model: Path | None) -> None:
    logger.info("%s, %.1f MB, SHA-256 %s", written, written.stat().st_size / 1e6, sha256(written))
    if model is not None:
        logger.info("put %s where --model_url points to.", model)
        return
    with zipfile.ZipFile(written) as archive:
        large = [entry for entry in archive.infolist() if entry.file_size > ZOO_LIMIT]
    for entry in large:
        size = entry.file_size / 2**20
        logger.info("%s: %.0f MB, the Model Zoo's repository takes 25; give --model_url for it.", entry.filename, size)
