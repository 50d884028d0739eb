"""ISIC 2018, task 3 (HAM10000): dermoscopic pictures of skin lesions in seven classes.

Layout, seen in public code: ``ISIC2018_Task3_Training_Input`` and ``ISIC2018_Task3_Validation_Input`` with
``<image>.jpg``, ``ISIC2018_Task3_<part>_GroundTruth.csv`` in a folder of its name or beside, and
``ISIC2018_Task3_Training_LesionGroupings.csv``. Recalled: its columns (image, lesion_id), the columns of the truth
(image, MEL, NV, BCC, AKIEC, BKL, DF, VASC) and the validation part's counts, whose sums agree with the survey.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from medad_plugins.data.adapters.dataset_adapter import DatasetAdapter, Request
from medad_plugins.data.adapters.published_scan import Edition, Published, PublishedScan
from medad_plugins.data.adapters.source_folder import find_root, inside
from medad_plugins.data.adapters.tables import read_table
from medad_plugins.errors import InputError

__all__ = ["ISIC2018", "read_isic_part"]

CLASSES = {
    "NV": "nevus",
    "MEL": "melanoma",
    "BCC": "basal cell carcinoma",
    "AKIEC": "actinic keratosis",
    "BKL": "benign keratosis",
    "DF": "dermatofibroma",
    "VASC": "vascular lesion",
}
NORMAL = "nevus"
PARTS = ("Training", "Validation")
GROUPS = "ISIC2018_Task3_Training_LesionGroupings.csv"
SEGMENTATION = "this is task 1 or 2 (segmentation): get the files of task 3"
WRONG = {
    "ISIC2018_Task1-2_Training_Input": SEGMENTATION,
    "ISIC2018_Task1_Training_GroundTruth": SEGMENTATION,
    "HAM10000_metadata.csv": "HAM10000 by itself lacks the challenge's validation part: get the files of ISIC 2018",
}


def read_isic2018(request: Request) -> Published:
    """Nevi to train on, and the validation part to test on; pictures of one lesion are a cluster."""
    root, _ = find_root(request.source, [f"ISIC2018_Task3_{part}_Input" for part in PARTS], wrong=WRONG)
    groups = inside(root, GROUPS)
    lesions = {}
    if groups.exists():
        lesions = {row["image"]: row["lesion_id"] for row in read_table(groups, ("image", "lesion_id"))}
    nevi = [scan for scan in read_isic_part(root, "Training", "train", lesions) if scan.kind == NORMAL]
    return Published(nevi + read_isic_part(root, "Validation", "test", {}))


def read_isic_part(root: Path, part: str, split: str, lesions: Mapping[str, str]) -> list[PublishedScan]:
    """The pictures of Training, Validation or Test, by its ground truth.

    Raises:
        InputError: the ground truth is missing, or a row of it does not name one class.
    """
    name = f"ISIC2018_Task3_{part}_GroundTruth"
    table = next(
        (path for path in (inside(root, f"{name}/{name}.csv"), inside(root, f"{name}.csv")) if path.exists()), None
    )
    if table is None:
        todo = f"get {name}.zip and unzip it beside the pictures"
        raise InputError("the ground truth is missing", where=root, expected=f"{name}/{name}.csv", todo=todo)
    folder = inside(root, f"ISIC2018_Task3_{part}_Input")
    scans = []
    for number, row in enumerate(read_table(table, ("image", *CLASSES)), start=2):
        found = [column for column in CLASSES if row[column] in ("1", "1.0")]
        if len(found) != 1:
            raise InputError("a picture is not of one class", where=f"{table}, row {number}", found=len(found))
        kind = CLASSES[found[0]]
        image = folder / f"{row['image']}.jpg"
        scans.append(PublishedScan(image, kind, int(kind != NORMAL), split, cluster=lesions.get(row["image"], "")))
    return scans


ISIC2018 = DatasetAdapter(
    name="isic2018",
    title="ISIC 2018, task 3",
    download=(
        "challenge.isic-archive.com/data, 2018, task 3: the inputs and ground truths of training and validation, and "
        "the lesion groupings (optional)."
    ),
    licence="CC BY-NC 4.0 (recalled).",
    read=read_isic2018,
    editions=(
        Edition(
            "training and validation",
            {
                "train/nevus": 6705,
                "test/nevus": 123,
                "test/melanoma": 21,
                "test/basal cell carcinoma": 15,
                "test/actinic keratosis": 8,
                "test/benign keratosis": 22,
                "test/dermatofibroma": 1,
                "test/vascular lesion": 3,
            },
        ),
    ),
    remark='"Normal" means nevus: the abnormal classes are other skin lesions, most of them benign.',
)
