"""The tool that gives normal scans a test set with synthetic blobs."""

from __future__ import annotations

import runpy
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medad_plugins.data import find_cases

TOOL = runpy.run_path(str(Path(__file__).resolve().parents[2] / "tools" / "add_blob_anomalies.py"))


@pytest.mark.parametrize("shape", [(40, 30), (24, 20, 16)])
def test_a_blob_changes_the_scan_where_its_mask_says(shape: tuple[int, ...]) -> None:
    scan = np.random.RandomState(0).rand(*shape).astype(np.float32)
    changed, mask = TOOL["add_blob"](scan, np.random.RandomState(1))
    inside = mask == 1
    assert inside.any() and not inside.all()
    assert np.abs(changed - scan)[inside].min() > 0
    # beyond the soft edge nothing changes
    assert np.count_nonzero(changed != scan) < 2.5 * inside.sum() + 60
    again, _ = TOOL["add_blob"](scan, np.random.RandomState(1))
    assert np.array_equal(changed, again)


def test_every_normal_test_case_is_there_with_and_without_a_blob(tmp_path: Path) -> None:
    source, target = tmp_path / "normal", tmp_path / "blobs"
    source.mkdir()
    random = np.random.RandomState(0)
    rows = ["image,label,mask,split,class"]
    for index, split in enumerate(("train", "val", "test", "test")):
        image = nib.Nifti1Image(random.randint(0, 200, (16, 18, 20)).astype(np.uint8), np.diag([2.0, 2, 3, 1]))
        nib.save(image, source / f"scan{index}.nii.gz")
        rows.append(f"scan{index}.nii.gz,0,,{split},normal")
    (source / "datalist.csv").write_text("\n".join(rows), encoding="utf-8")

    TOOL["add_blob_anomalies"](str(source), str(target))

    assert [case["image"] for case in find_cases(target, split="train")] == [str(source / "scan0.nii.gz")]
    cases = find_cases(target, split="test")
    assert [case["label"] for case in cases] == [0, 1, 0, 1]
    for normal, blob in zip(cases[::2], cases[1::2], strict=True):
        plain, changed, mask = (
            nib.Nifti1Image.from_filename(str(path)) for path in (normal["image"], blob["image"], blob["mask"])
        )
        # stored alike, so that reading scales both alike
        assert plain.get_data_dtype() == changed.get_data_dtype() == np.uint8
        assert np.array_equal(plain.affine, changed.affine)
        assert np.array_equal(changed.affine, mask.affine)
        differs = plain.get_fdata() != changed.get_fdata()
        assert (differs & (mask.get_fdata() == 1)).sum() >= 0.9 * (mask.get_fdata() == 1).sum()
