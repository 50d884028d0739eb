"""APTOS 2019 Blindness Detection (Kaggle): fundus photographs graded for diabetic retinopathy.

Layout recalled: ``train.csv`` (id_code, diagnosis 0 to 4) and ``train_images/<id_code>.png``; ``test.csv`` has no
grades. Counts recalled: 1805, 370, 999, 193 and 295 of grades 0 to 4, which agrees with the survey's 1,857 abnormal.
"""

from __future__ import annotations

from medad_plugins.data.adapters.dataset_adapter import DatasetAdapter, Request
from medad_plugins.data.adapters.published_scan import Edition, Published, PublishedScan
from medad_plugins.data.adapters.source_folder import find_root, inside
from medad_plugins.data.adapters.tables import read_table
from medad_plugins.errors import InputError

__all__ = ["APTOS2019"]

GRADES = {"0": "normal", "1": "mild", "2": "moderate", "3": "severe", "4": "proliferative"}
WRONG = {"test_images": "the test images have no grades: get train_images and train.csv"}


def read_aptos2019(request: Request) -> Published:
    """Its graded photographs; every retinopathy is abnormal."""
    root, _ = find_root(request.source, ("train.csv", "train_images"), wrong=WRONG)
    table, folder = inside(root, "train.csv"), inside(root, "train_images")
    scans = []
    for number, row in enumerate(read_table(table, ("id_code", "diagnosis")), start=2):
        kind = GRADES.get(row["diagnosis"])
        if kind is None:
            raise InputError("a grade is unknown", where=f"{table}, row {number}", expected="0 to 4")
        scans.append(PublishedScan(folder / f"{row['id_code']}.png", kind, int(kind != "normal")))
    return Published(scans)


APTOS2019 = DatasetAdapter(
    name="aptos2019",
    title="APTOS 2019 Blindness Detection",
    download="Kaggle, competition aptos2019-blindness-detection: train_images and train.csv.",
    licence="The competition's rules (recalled): research and education.",
    read=read_aptos2019,
    editions=(
        Edition("training part", {"normal": 1805, "mild": 370, "moderate": 999, "severe": 193, "proliferative": 295}),
    ),
    sizes={
        ("train", "normal"): 1000,
        ("test", "normal"): 805,
        ("test", "mild"): 370,
        ("test", "moderate"): 999,
        ("test", "severe"): 193,
        ("test", "proliferative"): 295,
    },
    remark="Patients are not published; image size and camera go with the grade.",
)
