"""MedIAnomaly-Data: seven prepared data sets (Cai and others), each a folder.

Layouts, seen in the project's own description: RSNA, VinCXR, BrainTumor and LAG have ``images`` and ``data.json``;
Camelyon16 has ``train/good``, ``test/good``, ``test/Ungood``; BraTS2021 has ``train``, ``test/normal``, ``test/tumor``,
``test/annotation``; ISIC2018_Task3 is the challenge's training and test part. Counts recalled from the paper.
"""

from __future__ import annotations

import re
from pathlib import Path

from medad_plugins.data.adapters.dataset_adapter import DatasetAdapter, Request
from medad_plugins.data.adapters.isic2018 import NORMAL, read_isic_part
from medad_plugins.data.adapters.published_scan import Edition, Published, PublishedScan
from medad_plugins.data.adapters.source_folder import find_root
from medad_plugins.data.datalists import find_datalist, read_datalist
from medad_plugins.errors import InputError

__all__ = ["MEDIANOMALY", "listed_scans", "normal_and_abnormal"]

LAYOUTS = (
    ("data.json", "images"),
    ("train", "test/normal", "test/tumor"),
    ("train/good", "test/good", "test/Ungood"),
    ("ISIC2018_Task3_Training_Input", "ISIC2018_Task3_Test_Input"),
)
# slices of BraTS name their patient: BraTS2021_00003_flair_60.png, in BMAD 00003_60.png
BRATS_PATIENT = re.compile(r"^(?:BraTS2021_)?(\d{5})_")


def read_medianomaly(request: Request) -> Published:
    """One of its data sets."""
    root, layout = find_root(request.source, *LAYOUTS)
    if layout == 3:
        nevi = [scan for scan in read_isic_part(root, "Training", "train", {}) if scan.kind == NORMAL]
        scans = nevi + read_isic_part(root, "Test", "test", {})
    else:
        scans = listed_scans(root)
    return Published(scans, counts=normal_and_abnormal(scans))


def listed_scans(root: Path) -> list[PublishedScan]:
    """The scans of a folder that is read as it is: a data.json, or class folders.

    Raises:
        InputError: it has neither.
    """
    # a datalist.csv that was prepared into the source folder must not be taken for the source
    path = root / "data.json" if (root / "data.json").is_file() else root
    if path is root and find_datalist(root) != root:
        todo = "take the folder as published, without a list in it"
        raise InputError("the folder holds a list of its own", where=find_datalist(root), todo=todo)
    scans = []
    for case in read_datalist(path):
        image = Path(case["image"])
        patient = BRATS_PATIENT.match(image.name)
        scans.append(
            PublishedScan(
                image,
                case["class"],
                case["label"],
                case["split"],
                Path(case["mask"]) if case.get("mask") else None,
                patient=patient.group(1) if patient else "",
            )
        )
    return scans


def normal_and_abnormal(scans: list[PublishedScan]) -> dict[str, int]:
    """Counts by split and label."""
    keys = [f"{scan.split}/{'abnormal' if scan.label else 'normal'}" for scan in scans]
    return {key: keys.count(key) for key in dict.fromkeys(keys)}


def _edition(name: str, train: int, normal: int, abnormal: int) -> Edition:
    return Edition(name, {"train/normal": train, "test/normal": normal, "test/abnormal": abnormal})


MEDIANOMALY = DatasetAdapter(
    name="medianomaly",
    title="MedIAnomaly-Data",
    download="zenodo.org/records/12677223; give one of its unpacked folders, e.g. MedIAnomaly-Data/RSNA.",
    licence="That of the data set each folder was made from.",
    read=read_medianomaly,
    editions=(
        _edition("RSNA", 3851, 1000, 1000),
        _edition("VinCXR", 4000, 1000, 1000),
        _edition("BrainTumor", 1000, 600, 600),
        _edition("LAG", 1500, 811, 811),
        _edition("ISIC2018_Task3", 6705, 909, 603),
        _edition("Camelyon16", 5088, 997, 1120),
        _edition("BraTS2021", 4211, 828, 1948),
    ),
    remark="Prepared pictures, not the original scans; every bundle also reads the folder directly as dataset_dir.",
)
