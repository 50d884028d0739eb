"""MedMNIST v2: small pictures in one npz file (Yang and others, 2023).

Layout, seen as a real file: ``train_images``, ``train_labels``, ``val_...``, ``test_...``, images
``(n, rows, columns)`` or ``(n, rows, columns, 3)`` uint8, labels ``(n, 1)``. Counts of pneumoniamnist seen; those of
the others and the meaning of their labels recalled.
"""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from medad_plugins.data.adapters.dataset_adapter import DatasetAdapter, Request
from medad_plugins.data.adapters.published_scan import Edition, Published, PublishedScan
from medad_plugins.errors import InputError
from medad_plugins.files import atomic_path

__all__ = ["MEDMNIST"]

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class _Labels:
    """The classes in the order of the labels, and which of them is normal."""

    kinds: tuple[str, ...]
    normal: int


SETS = {
    "pneumoniamnist": _Labels(("normal", "pneumonia"), 0),
    "breastmnist": _Labels(("malignant", "normal"), 1),
    "octmnist": _Labels(("cnv", "dme", "drusen", "normal"), 3),
    "retinamnist": _Labels(("normal", "grade 1", "grade 2", "grade 3", "grade 4"), 0),
}


def read_medmnist(request: Request) -> Published:
    """Normal pictures to train on, validation and test pictures of all classes, each written as a PNG."""
    path = _find_file(request.source)
    labels_of = SETS[_set_name(path)]
    images, labels = _read(path)
    scans, pixels = [], {}
    for split in SPLITS:
        if labels[split].max(initial=0) >= len(labels_of.kinds):
            expected = f"labels 0 to {len(labels_of.kinds) - 1}"
            raise InputError("a label is unknown", where=path, expected=expected, found=int(labels[split].max()))
        for number, (picture, value) in enumerate(zip(images[split], labels[split], strict=True)):
            kind, label = labels_of.kinds[value], int(value != labels_of.normal)
            if split == "train" and label:
                continue
            file = request.output / "images" / split / kind.replace(" ", "_") / f"{split}{number:05d}.png"
            scans.append(PublishedScan(file, kind, label, split, source=path))
            pixels[file] = picture

    def write(scan: PublishedScan) -> PublishedScan:
        scan.image.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(scan.image) as temporary:
            Image.fromarray(pixels[scan.image]).save(temporary)
        return scan

    counts = {f"{_set_name(path)} {split}": len(labels[split]) for split in SPLITS}
    return Published(scans, counts=counts, convert=write)


def _set_name(path: Path) -> str:
    return re.sub(r"_\d+$", "", path.stem.lower())


def _find_file(source: Path) -> Path:
    files = [source] if source.is_file() else sorted(source.rglob("*.npz")) if source.is_dir() else []
    known = [path for path in files if path.suffix == ".npz" and _set_name(path) in SETS]
    if len(known) == 1:
        return known[0]
    todo = "give one file as --source"
    found = ", ".join(path.name for path in (known or files)[:6]) or "none"
    expected = "one of " + ", ".join(f"{name}.npz" for name in SETS)
    raise InputError(
        "the source does not hold one MedMNIST file", where=source, expected=expected, found=found, todo=todo
    )


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            images = {split: archive[f"{split}_images"] for split in SPLITS}
            labels = {split: archive[f"{split}_labels"].reshape(-1).astype(int) for split in SPLITS}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        expected = "train_images, train_labels and so on"
        raise InputError(
            "the file is damaged or not MedMNIST's", where=path, expected=expected, todo="download it again"
        ) from error
    for split in SPLITS:
        if images[split].ndim not in (3, 4) or len(images[split]) != len(labels[split]):
            raise InputError("images and labels do not fit", where=f"{path}, {split}", todo="download it again")
        if images[split].dtype != np.uint8:
            raise InputError("the images are not 8-bit", where=f"{path}, {split}", found=images[split].dtype)
    return images, labels


def _edition(name: str, train: int, val: int, test: int) -> Edition:
    return Edition(name, {f"{name} train": train, f"{name} val": val, f"{name} test": test})


MEDMNIST = DatasetAdapter(
    name="medmnist",
    title="MedMNIST v2",
    download=f"medmnist.com: one npz file, of any picture size: {', '.join(SETS)}.",
    licence="CC BY 4.0 (recalled).",
    read=read_medmnist,
    editions=(
        _edition("pneumoniamnist", 4708, 524, 624),
        _edition("breastmnist", 546, 78, 156),
        _edition("octmnist", 97477, 10832, 1000),
        _edition("retinamnist", 1080, 120, 400),
    ),
    remark="Patients are not published. breastmnist's normal class includes benign lesions.",
)
