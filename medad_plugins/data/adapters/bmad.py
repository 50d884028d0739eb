"""BMAD: six prepared data sets (Bao and others), each a folder of class folders.

Layout, seen in the project's own description: ``train/good``, ``valid/good``, ``valid/Ungood``, ``test/good``,
``test/Ungood``; the sets with masks have ``img`` and ``anomaly_mask`` (in earlier downloads, recalled: ``label``).
Counts recalled from the paper.
"""

from __future__ import annotations

from dataclasses import replace

from medad_plugins.data.adapters.dataset_adapter import DatasetAdapter, Request
from medad_plugins.data.adapters.medianomaly import listed_scans, normal_and_abnormal
from medad_plugins.data.adapters.published_scan import Edition, Published, PublishedScan
from medad_plugins.data.adapters.source_folder import find_root

__all__ = ["BMAD"]

LAYOUT = ("train/good", "valid", "test/good", "test/Ungood")


def read_bmad(request: Request) -> Published:
    """One of its data sets, with its validation part of both classes."""
    root, _ = find_root(request.source, LAYOUT)
    scans = [_with_mask(scan) for scan in listed_scans(root)]
    return Published(scans, counts=normal_and_abnormal(scans))


def _with_mask(scan: PublishedScan) -> PublishedScan:
    if scan.mask is None and scan.label and scan.image.parent.name == "img":
        mask = scan.image.parent.parent / "anomaly_mask" / scan.image.name
        return replace(scan, mask=mask) if mask.exists() else scan
    return scan


def _edition(name: str, train: int, valid: tuple[int, int], test: tuple[int, int]) -> Edition:
    keys = ("train/normal", "val/normal", "val/abnormal", "test/normal", "test/abnormal")
    return Edition(name, dict(zip(keys, (train, *valid, *test), strict=True)))


BMAD = DatasetAdapter(
    name="bmad",
    title="BMAD",
    download="github.com/DorisBao/BMAD names the place; give one of its unpacked folders.",
    licence="That of the data set each folder was made from.",
    read=read_bmad,
    editions=(
        _edition("brain MR (BraTS2021)", 7500, (39, 44), (640, 3075)),
        _edition("liver CT (BTCV, LiTS)", 1542, (93, 73), (833, 660)),
        _edition("retinal OCT (RESC)", 4297, (45, 70), (1041, 764)),
        _edition("retinal OCT (OCT2017)", 26315, (8, 24), (242, 726)),
        _edition("chest X-ray (RSNA)", 8000, (70, 1420), (781, 16413)),
        _edition("histopathology (Camelyon16)", 5088, (100, 100), (997, 1120)),
    ),
    remark="Prepared pictures, not the original scans; every bundle also reads the folder directly as dataset_dir.",
)
