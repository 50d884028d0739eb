"""Br35H: slices of brain MR with and without a tumour.

Layout, seen in a public description and in part as real files: ``no/No<n>.jpg``, ``yes/y<n>.jpg``, 1500 each, and
``pred`` without labels. Seen in public code: ``Br35H-Mask-RCNN`` repeats files of ``yes`` in TRAIN, VAL and TEST with
``annotations_all.json``. Recalled: 801 of them, and that this file is of the VGG Image Annotator, with polygons,
ellipses and circles.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medad_plugins.data.adapters.dataset_adapter import DatasetAdapter, Request
from medad_plugins.data.adapters.outline_masks import Outline, box, image_size, outline_masks
from medad_plugins.data.adapters.published_scan import Edition, Published, PublishedScan
from medad_plugins.data.adapters.source_folder import find_root, inside, pictures
from medad_plugins.errors import InputError

__all__ = ["BR35H"]

logger = logging.getLogger(__name__)

OUTLINES = "Br35H-Mask-RCNN"
WRONG = {
    "annotations_all.json": "Br35H-Mask-RCNN holds tumours only: give the folder with yes and no as --source",
    "pred": "pred has no labels: get the folders yes and no too",
}


def read_br35h(request: Request) -> Published:
    """Its slices, and the tumours' outlines as masks where Br35H-Mask-RCNN is there."""
    root, _ = find_root(request.source, ("yes", "no"), wrong=WRONG)
    normal = [PublishedScan(path, "normal", 0) for path in pictures(inside(root, "no"))]
    tumours = [PublishedScan(path, "tumor", 1) for path in pictures(inside(root, "yes"))]
    folder = inside(root, OUTLINES)
    outlines = _outlines(folder, {scan.image.name: scan.image for scan in tumours}) if folder.is_dir() else {}
    return Published(normal + tumours, convert=outline_masks(outlines, request.output / "masks"))


def _outlines(folder: Path, images: Mapping[str, Path]) -> dict[Path, list[Outline]]:
    """The outlines of each image of ``yes`` that has the size of the file that was annotated."""
    path = inside(folder, "annotations_all.json")
    if not path.exists():
        logger.warning("%s has no annotations_all.json: there are no masks.", folder)
        return {}
    annotated = {file.name: file for part in ("TRAIN", "VAL", "TEST") for file in pictures(inside(folder, part))}
    found: dict[Path, list[Outline]] = {}
    resized = 0
    try:
        for entry in json.loads(path.read_text("utf-8")).values():
            name, regions = entry["filename"], entry["regions"]
            if name not in images:
                continue
            if name in annotated and image_size(annotated[name]) != image_size(images[name]):
                resized += 1
                continue
            shapes = regions.values() if isinstance(regions, dict) else regions
            found[images[name]] = [_outline(shape["shape_attributes"]) for shape in shapes]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        todo = "use the file as published, or leave the folder out"
        raise InputError(
            "the outlines are not readable", where=path, expected="VGG Image Annotator's JSON", todo=todo
        ) from error
    if resized:
        logger.warning("%d images of yes have another size than their annotated copies: they get no mask.", resized)
    return found


def _outline(shape: Mapping[str, Any]) -> Outline:
    if shape["name"] in ("polygon", "polyline"):
        return Outline("polygon", tuple(zip(shape["all_points_x"], shape["all_points_y"], strict=True)))
    if shape["name"] in ("ellipse", "circle"):
        rx = shape["r"] if shape["name"] == "circle" else shape["rx"]
        ry = shape["r"] if shape["name"] == "circle" else shape["ry"]
        return Outline("ellipse", ((shape["cx"] - rx, shape["cy"] - ry), (shape["cx"] + rx, shape["cy"] + ry)))
    return box(shape["x"], shape["y"], shape["width"], shape["height"])


BR35H = DatasetAdapter(
    name="br35h",
    title="Br35H",
    download="Kaggle, dataset ahmedhamada0/brain-tumor-detection: the folders yes and no (Br35H-Mask-RCNN for masks).",
    licence="Unknown: for research, not to be published again.",
    read=read_br35h,
    editions=(Edition("3000 labelled slices", {"normal": 1500, "tumor": 1500}),),
    sizes={("train", "normal"): 1000, ("test", "normal"): 500, ("test", "tumor"): 1500},
    remark=(
        "Most normal test slices have a near copy in train: quote a grouped list beside this one (audit_dataset.py "
        "--write_grouped makes it). Image size goes with the label. Patients are not published."
    ),
)
