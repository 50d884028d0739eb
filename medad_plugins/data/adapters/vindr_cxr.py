"""VinDr-CXR: chest radiographs, each of the training part read by three radiologists.

Layouts, seen in public code: PhysioNet's ``annotations/image_labels_train.csv`` (image_id, rad_id, a column of 0 and 1
for each finding, "No finding"), ``annotations/annotations_train.csv`` (image_id, rad_id, class_name, x_min, y_min,
x_max, y_max) and ``train/<image_id>.dicom``; Kaggle's ``train.csv`` with the columns of the boxes. Recalled: that the
counts of the survey (10606 normal, 4394 abnormal) are those of its training part, a scan being normal if no reader
found anything. The survey gives no split: the sizes are MedIAnomaly's (recalled), drawn from the training part.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medad_plugins.data.adapters.dataset_adapter import DatasetAdapter, Request
from medad_plugins.data.adapters.outline_masks import Outline, box, outline_masks
from medad_plugins.data.adapters.published_scan import Edition, Published, PublishedScan
from medad_plugins.data.adapters.source_folder import find_root, inside
from medad_plugins.data.adapters.tables import read_number, read_table

__all__ = ["VINDR_CXR"]

IMAGE_LABELS, BOXES, KAGGLE = "annotations/image_labels_train.csv", "annotations/annotations_train.csv", "train.csv"
NOTHING = "No finding"
CORNERS = ("x_min", "y_min", "x_max", "y_max")
WRONG = {
    "annotations/image_labels_test.csv": "get the folder train and annotations/image_labels_train.csv too",
    "sample_submission.csv": "this is the test part without labels: get the folder train and train.csv",
}


def read_vindr_cxr(request: Request) -> Published:
    """Its training part; abnormal is what any reader found something on; all readers' boxes as rectangular masks."""
    root, layout = find_root(request.source, (IMAGE_LABELS, "train"), (KAGGLE, "train"), wrong=WRONG)
    table = inside(root, (IMAGE_LABELS, KAGGLE)[layout])
    images = inside(root, "train")
    if layout == 0:
        rows = read_table(table, ("image_id", NOTHING))
        found = {row["image_id"] for row in rows if row[NOTHING] not in ("1", "1.0")}
        names = list(dict.fromkeys(row["image_id"] for row in rows))
        box_table = inside(root, BOXES)
        boxes = _boxes(read_table(box_table, _COLUMNS), box_table, images) if box_table.exists() else {}
    else:
        rows = read_table(table, _COLUMNS)
        found = {row["image_id"] for row in rows if row["class_name"] != NOTHING}
        names = list(dict.fromkeys(row["image_id"] for row in rows))
        boxes = _boxes(rows, table, images)
    scans = [
        PublishedScan(_file(images, name), "abnormal" if name in found else "normal", int(name in found), patient=name)
        for name in names
    ]
    return Published(scans, convert=outline_masks(boxes, request.output / "masks"))


_COLUMNS = ("image_id", "class_name", *CORNERS)


def _file(folder: Path, name: str) -> Path:
    path = folder / f"{name}.dicom"
    return path if path.exists() or not (folder / f"{name}.dcm").exists() else folder / f"{name}.dcm"


def _boxes(rows: Sequence[dict[str, str]], table: Path, images: Path) -> dict[Path, list[Outline]]:
    boxes: dict[Path, list[Outline]] = {}
    for row in rows:
        if row["class_name"] != NOTHING and row["x_min"]:
            left, top, right, bottom = (read_number(row[name], table, name) for name in CORNERS)
            boxes.setdefault(_file(images, row["image_id"]), []).append(box(left, top, right - left, bottom - top))
    return boxes


VINDR_CXR = DatasetAdapter(
    name="vindr_cxr",
    title="VinDr-CXR",
    download=(
        "PhysioNet, vindr-cxr 1.0.0 (credentialed access): train and annotations; or Kaggle, competition "
        "vinbigdata-chest-xray-abnormalities-detection: train and train.csv."
    ),
    licence="PhysioNet Credentialed Health Data License 1.5.0 (recalled): no sharing, no re-identification.",
    read=read_vindr_cxr,
    editions=(Edition("version 1.0.0, training part", {"normal": 10606, "abnormal": 4394}),),
    sizes={("train", "normal"): 4000, ("test", "normal"): 1000, ("test", "abnormal"): 1000},
    remark="The survey gives no split; masks are the union of three readers' boxes; patients are not published.",
)
