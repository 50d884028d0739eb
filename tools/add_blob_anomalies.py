"""Gives normal volumes or slices a test set with synthetic blobs, to try a method where no lesion is to be had.

    python tools/add_blob_anomalies.py --dataset_dir NORMAL_SCANS --output_dir FOLDER [--seed 0]

Every case of the split test is written twice: as it is (label 0), and with one blob (label 1) and its mask. Train and
validation cases are listed where they are. A blob is a ball with a soft edge, 8 to 16 % of the scan's shortest edge in
radius, brighter or darker than its surroundings by one to two standard deviations of the scan's foreground.
"""

from __future__ import annotations

import csv
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from medad_plugins.command_line import run_tool
from medad_plugins.data import find_cases, read_scan
from medad_plugins.files import output_folder

__all__ = ["add_blob", "add_blob_anomalies"]


def add_blob(scan: NDArray, random: np.random.RandomState) -> tuple[NDArray, NDArray]:
    """A scan ``(*spatial)`` with one blob, float32, and the blob's mask, uint8."""
    foreground = scan > np.percentile(scan, 40)
    centre = np.argwhere(foreground)[random.randint(foreground.sum())]
    radius = random.uniform(0.08, 0.16) * min(scan.shape)
    grid = np.indices(scan.shape)
    distance = np.sqrt(sum((axis - c) ** 2 for axis, c in zip(grid, centre, strict=True)))
    strength = np.clip(radius + 0.5 - distance, 0, 1)
    contrast = random.choice([-1, 1]) * random.uniform(1, 2) * scan[foreground].std()
    return (scan + strength * contrast).astype(np.float32), (strength >= 0.5).astype(np.uint8)


def add_blob_anomalies(dataset_dir: str, output_dir: str, datalist: str = "", seed: int = 0) -> None:
    """Write the data set.

    Args:
        dataset_dir: folder with a datalist.
        output_dir: where to write images, masks and ``datalist.csv``.
        datalist: the list's name, if not the usual one.
        seed: of the blobs.
    """
    folder = output_folder(output_dir)
    for name in ("images", "masks"):
        output_folder(folder / name)
    random = np.random.RandomState(seed)
    rows = []
    for split in ("train", "val", "test"):
        for case in find_cases(dataset_dir, datalist, split):
            if split != "test":
                rows.append((case["image"], case["label"], "", split, case.get("class", "")))
                continue
            if case["label"] != 0:
                continue
            scan = read_scan(Path(str(case["image"])))
            normal = np.asarray(scan.array, dtype=np.float32)
            changed, mask = add_blob(normal, random)
            plain, blob = f"images/{case['case_id']}.nii.gz", f"images/{case['case_id']}_blob.nii.gz"
            # both are written, as the source is stored: 8-bit scans and others are scaled differently on reading
            if scan.stored_bits == 8:
                normal, changed = (np.rint(values.clip(0, 255)).astype(np.uint8) for values in (normal, changed))
            for name, values in ((plain, normal), (blob, changed), (f"masks/{case['case_id']}_blob.nii.gz", mask)):
                nib.save(nib.Nifti1Image(values, scan.affine), folder / name)
            rows.append((plain, 0, "", split, "normal"))
            rows.append((blob, 1, f"masks/{case['case_id']}_blob.nii.gz", split, "blob"))
    with (folder / "datalist.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("image", "label", "mask", "split", "class"))
        writer.writerows(rows)
    print(f"{len(rows)} rows in {folder / 'datalist.csv'}")


if __name__ == "__main__":
    run_tool(add_blob_anomalies)
