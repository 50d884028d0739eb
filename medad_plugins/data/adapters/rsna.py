"""RSNA Pneumonia Detection Challenge (Kaggle, 2018), stage 2.

Layout, seen in public code that reads it: ``stage_2_train_labels.csv`` (patientId, x, y, width, height, Target; a row
for each box), ``stage_2_detailed_class_info.csv`` (patientId, class) and ``stage_2_train_images/<patientId>.dcm``; also
RSNA's ``pneumonia-challenge-dataset-mappings_2018.json`` (subset_img_id, img_id), which is a separate download.
Counts seen likewise: 8851 normal, 11821 neither, 6012 with lung opacity.
"""

from __future__ import annotations

import json
from pathlib import Path

from medad_plugins.data.adapters.dataset_adapter import DatasetAdapter, Request
from medad_plugins.data.adapters.outline_masks import Outline, box, outline_masks
from medad_plugins.data.adapters.published_scan import Edition, Published, PublishedScan
from medad_plugins.data.adapters.source_folder import find_root, inside
from medad_plugins.data.adapters.tables import read_number, read_table
from medad_plugins.errors import InputError

__all__ = ["RSNA"]

LABELS, CLASSES, IMAGES = "stage_2_train_labels.csv", "stage_2_detailed_class_info.csv", "stage_2_train_images"
PATIENTS = "pneumonia-challenge-dataset-mappings_2018.json"
KINDS = {
    "normal": ("normal", 0),
    "no lung opacity / not normal": ("not normal", 1),
    "lung opacity": ("lung opacity", 1),
}
STAGE_1 = "this is stage 1, whose labels were corrected later: get the stage 2 files"
WRONG = {
    "stage_1_train_labels.csv": STAGE_1,
    "stage_1_train_images": STAGE_1,
    "stage_2_test_images": "the test images have no labels: get stage_2_train_images and the two CSV files",
}


def read_rsna(request: Request) -> Published:
    """Its radiographs, the boxes of opacities as rectangular masks, patients by NIH's numbers where they are known."""
    root, _ = find_root(request.source, (LABELS, CLASSES, IMAGES), wrong=WRONG)
    folder = inside(root, IMAGES)
    kinds = _kinds(inside(root, CLASSES))
    patients = _patients(root)
    scans = [
        PublishedScan(folder / f"{name}.dcm", *KINDS[kind], patient=patients.get(name, name))
        for name, kind in kinds.items()
    ]
    boxes: dict[Path, list[Outline]] = {}
    table = inside(root, LABELS)
    for row in read_table(table, ("patientId", "x", "y", "width", "height", "Target")):
        if row["Target"] in ("1", "1.0"):
            x, y, width, height = (read_number(row[name], table, name) for name in ("x", "y", "width", "height"))
            boxes.setdefault(folder / f"{row['patientId']}.dcm", []).append(box(x, y, width, height))
    return Published(scans, convert=outline_masks(boxes, request.output / "masks"))


def _kinds(table: Path) -> dict[str, str]:
    """The class of each radiograph; it is repeated for each of its boxes."""
    kinds: dict[str, str] = {}
    for row in read_table(table, ("patientId", "class")):
        kind = row["class"].lower()
        if kind not in KINDS:
            expected = "Normal, Lung Opacity or No Lung Opacity / Not Normal"
            raise InputError("a class is unknown", where=table, expected=expected, found=kind[:40])
        if kinds.setdefault(row["patientId"], kind) != kind:
            raise InputError("a radiograph has two classes", where=table, todo="download the table again")
    return kinds


def _patients(root: Path) -> dict[str, str]:
    """NIH's patient number of each radiograph, whose files are called ``<patient>_<follow-up>.png`` there."""
    path = inside(root, PATIENTS)
    if not path.exists():
        return {}
    try:
        return {entry["subset_img_id"]: entry["img_id"].split("_")[0] for entry in json.loads(path.read_text("utf-8"))}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError("the map of patients is not RSNA's", where=path, todo="download it again") from error


RSNA = DatasetAdapter(
    name="rsna",
    title="RSNA Pneumonia Detection Challenge",
    download=(
        "Kaggle, competition rsna-pneumonia-detection-challenge: stage_2_train_images, stage_2_train_labels.csv and "
        f"stage_2_detailed_class_info.csv. Optional, from RSNA's page of the challenge: {PATIENTS}, beside the tables; "
        "with it the split keeps NIH's patients together."
    ),
    licence="The competition's rules: non-commercial research and education (recalled).",
    read=read_rsna,
    editions=(Edition("stage 2", {"normal": 8851, "not normal": 11821, "lung opacity": 6012}),),
    sizes={("train", "normal"): 3851, ("test", "normal"): 1000, ("test", "lung opacity"): 1000},
    remark=(
        "Masks are the annotators' boxes. Without the map of patients each radiograph counts as a patient, though some "
        "patients have several."
    ),
)
