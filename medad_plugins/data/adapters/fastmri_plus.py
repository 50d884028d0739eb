"""fastMRI+: brain MR of fastMRI with radiologists' labels and boxes (Zhao and others, 2022).

Layout, seen in the project's own files: ``brain.csv`` (file, slice, study_level, x, y, width, height, label), a row for
each finding, and ``brain_file_list.csv`` without a header; boxes refer to ``reconstruction_rss`` ``(slices, rows,
columns)`` turned upside down. Counts taken from these tables (T1 without contrast: 340 volumes, 177 normal or a
normal variant, 147 with findings, 16 with nothing but artefacts). Recalled: fastMRI's ``multicoil_train`` and
``multicoil_val`` with ``<file>.h5``, and the element of ``ismrmrd_header`` that holds the field of view. The survey's
131 + 15 normal volumes are drawn; its 171 pathological ones cannot be identified from the tables.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from medad_plugins.data.adapters.dataset_adapter import DatasetAdapter, Request
from medad_plugins.data.adapters.outline_masks import Outline, box, draw_outlines
from medad_plugins.data.adapters.published_scan import Edition, Published, PublishedScan
from medad_plugins.data.adapters.source_folder import find_root, inside
from medad_plugins.data.adapters.tables import read_number, read_table
from medad_plugins.errors import InputError
from medad_plugins.files import atomic_path

__all__ = ["FASTMRI_PLUS"]

logger = logging.getLogger(__name__)

TABLE, FILE_LIST = "brain.csv", "brain_file_list.csv"
CONTRAST = "AXT1"
NORMAL = {"Normal for age", "Normal variant"}
ARTEFACTS = {"Possible artifact", "Motion artifact"}
WRONG = {"knee.csv": "get brain.csv and brain_file_list.csv of fastMRI+ too"}


# boxes of a file by slice
_Boxes = dict[int, list[Outline]]


def read_fastmri_plus(request: Request) -> Published:
    """Volumes of one contrast whose h5 files lie below the source, with the boxes as masks."""
    root, layout = find_root(request.source, (f"Annotations/{TABLE}",), (TABLE,), wrong=WRONG)
    table = inside(root, (f"Annotations/{TABLE}", TABLE)[layout])
    listed = table.with_name(FILE_LIST)
    if not listed.exists():
        todo = "get it from the same place: files without findings stand only there"
        raise InputError("the list of files is missing", where=listed, todo=todo)
    labels: dict[str, list[str]] = {name: [] for name in listed.read_text("utf-8").split()}
    boxes: dict[str, _Boxes] = {}
    for row in read_table(table, ("file", "slice", "study_level", "x", "y", "width", "height", "label")):
        labels.setdefault(row["file"], []).append(row["label"])
        if row["x"]:
            x, y, width, height = (read_number(row[name], table, name) for name in ("x", "y", "width", "height"))
            in_file = boxes.setdefault(row["file"], {})
            in_file.setdefault(int(read_number(row["slice"], table, "slice")), []).append(box(x, y, width, height))
    contrast = str(request.options.get("contrast", CONTRAST))
    names = [name for name in labels if f"_{contrast}_" in name]
    if not names:
        found = ", ".join(sorted({name.split("_")[2] for name in labels if name.count("_") > 2})) or "no files"
        raise InputError("no volume has this contrast", where=table, expected=contrast, found=found)
    files = _files(request.source, root)
    scans = []
    for name in names:
        if kind := _kind(labels[name]):
            image = request.output / "images" / f"{name}.nii.gz"
            source = files.get(f"{name}.h5", request.source / f"{name}.h5")
            scans.append(PublishedScan(image, kind, int(kind != "normal"), patient=name, source=source))

    def write(scan: PublishedScan) -> PublishedScan:
        found = boxes.get(scan.image.name.removesuffix(".nii.gz"))
        mask = request.output / "masks" / scan.image.name if scan.label and found else None
        if not scan.image.exists() or (mask and not mask.exists()):
            volume, affine = _read_volume(scan.source or scan.image)
            _save(volume, affine, scan.image)
            if mask and found:
                _save(_mask(volume.shape, found), affine, mask)
        return replace(scan, mask=mask)

    return Published(scans, convert=write)


def _kind(labels: Sequence[str]) -> str:
    """Normal, pathological, or "" where there is nothing but artefacts; a listed file without labels has no finding."""
    names = set(labels)
    if names - NORMAL - ARTEFACTS:
        return "pathological"
    return "" if names & ARTEFACTS else "normal"


def _files(*folders: Path) -> dict[str, Path]:
    """The h5 files below the folders by name."""
    return {path.name: path for folder in folders for path in sorted(folder.rglob("*.h5"))}


def _read_volume(path: Path) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """The reconstruction ``(x, y, z)``, upright as radiologists saw it, and an affine with its spacing in mm.

    The orientation is that of the usual axial display (columns to the patient's left, rows to the back); the position
    in the scanner is not kept.
    """
    try:
        h5py = importlib.import_module("h5py")
    except ImportError as error:
        raise InputError(
            "the package that reads h5 files is missing", expected="h5py", todo="pip install h5py"
        ) from error
    try:
        with h5py.File(path, "r") as file:
            stack = np.asarray(file["reconstruction_rss"], np.float32)
            header = bytes(file["ismrmrd_header"][()]) if "ismrmrd_header" in file else b""
    except (OSError, KeyError) as error:
        todo = "take multicoil_train and multicoil_val, which have it; the test files have not"
        raise InputError(
            "the file has no reconstruction", where=path, expected="reconstruction_rss", todo=todo
        ) from error
    volume = stack[:, ::-1, :].transpose(2, 1, 0)
    spacing = _spacing(header, volume.shape)
    return np.ascontiguousarray(volume), np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])


def _spacing(header: bytes, shape: tuple[int, ...]) -> tuple[float, float, float]:
    """Millimetres between voxels, from the reconstructed field of view; 1 mm where the header does not give it."""
    try:
        root = ElementTree.fromstring(header)
        space = next(element for element in root.iter() if _tag(element) == "reconSpace")
        view = next(element for element in space if _tag(element) == "fieldOfView_mm")
        x, y, z = (float(next(e.text or "" for e in view if _tag(e) == axis)) for axis in "xyz")
    except (ElementTree.ParseError, StopIteration, ValueError):
        logger.warning("A file does not give its field of view: 1 mm is assumed.")
        return 1.0, 1.0, 1.0
    # the reconstruction is cut to a square of the matrix; one slice is as thick as the field of view is deep
    return x / shape[0], y / shape[1], z


def _tag(element: ElementTree.Element) -> str:
    return element.tag.rsplit("}", 1)[-1]


def _mask(shape: tuple[int, ...], boxes: _Boxes) -> NDArray[np.uint8]:
    mask = np.zeros(shape, np.uint8)
    for index, outlines in boxes.items():
        if 0 <= index < shape[2]:
            mask[:, :, index] = (np.asarray(draw_outlines(outlines, (shape[0], shape[1]))) > 0).T
    return mask


def _save(volume: NDArray[Any], affine: NDArray[np.float64], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        nib.save(nib.Nifti1Image(volume, affine), temporary)


FASTMRI_PLUS = DatasetAdapter(
    name="fastmri_plus",
    title="fastMRI+ (brain)",
    download=(
        "fastmri.med.nyu.edu (agreement): the multicoil brain files; github.com/microsoft/fastmri-plus: the folder "
        "Annotations. Put Annotations and the h5 files below one folder. Needs pip install h5py."
    ),
    licence="fastMRI's data sharing agreement: academic use, no sharing. Annotations: MIT (recalled).",
    read=read_fastmri_plus,
    editions=(Edition("T1 without contrast", {"normal": 177, "pathological": 147}),),
    sizes={
        ("train", "normal"): 131,
        ("val", "normal"): 15,
        ("test", "normal"): 31,
        ("test", "pathological"): 147,
    },
    options={"contrast": "AXT1 (the survey's), AXT1POST or AXFLAIR; the counts are those of AXT1"},
    remark="Volumes of about 16 thick slices. Labels are one radiologist's; masks are boxes; some findings have none.",
    spatial_dims=3,
)
