"""The tool that gives normal scans a test set with synthetic anomalies."""

from __future__ import annotations

import runpy
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medad_plugins.data import find_cases
from medad_plugins.errors import InputError
from medad_plugins.synthesis.published import blob, cutpaste

TOOL = runpy.run_path(str(Path(__file__).resolve().parents[2] / "tools" / "make_synthetic_test_set.py"))


def _body(shape: tuple[int, ...], scale: float) -> np.ndarray:
    """A textured body of intensities up to a scale in dark air."""
    scan = np.zeros(shape, dtype=np.float32)
    inner = tuple(slice(edge // 8, edge - edge // 8) for edge in shape)
    scan[inner] = (0.5 + 0.4 * np.random.RandomState(0).rand(*scan[inner].shape)) * scale
    return scan


@pytest.mark.parametrize(("shape", "scale"), [((40, 30), 1.0), ((24, 20, 16), 900.0)])
def test_an_anomaly_changes_the_scan_where_its_mask_says(shape: tuple[int, ...], scale: float) -> None:
    scan = _body(shape, scale)
    made = TOOL["make_anomaly"](scan, np.eye(4), [blob()], 1)
    differs = made["image"] != scan
    assert made["recipe"] == "blob" and np.array_equal(differs, made["mask"] == 1)
    assert differs.any() and not differs[scan == 0].any()
    assert 0.1 * scale < np.abs(made["image"] - scan).max() < 0.6 * scale
    again = TOOL["make_anomaly"](scan, np.eye(4), [blob()], 1)
    assert np.array_equal(made["image"], again["image"])
    assert TOOL["make_anomaly"](np.zeros(shape, np.float32), np.eye(4), [blob(), cutpaste("box")], 1) is None


def test_larger_balls_change_more() -> None:
    scan = _body((24, 20, 16), 1.0)
    small, large = (TOOL["make_anomaly"](scan, np.eye(4), [blob(r)], 1)["mask"].sum() for r in ((0.1, 0.1), (0.3, 0.3)))
    # balls of 1.6 and 4.8 voxels' radius
    assert small < 40 and 200 < large < 600


def test_every_normal_test_case_is_there_with_and_without_an_anomaly(tmp_path: Path) -> None:
    source, target = tmp_path / "normal", tmp_path / "synthetic"
    source.mkdir()
    rows = ["image,label,mask,split,class"]
    for index, split in enumerate(("train", "val", "test", "test")):
        values = _body((16 + index, 18, 20), 200).astype(np.uint8)
        nib.save(nib.Nifti1Image(values, np.diag([2.0, 2, 3, 1])), source / f"scan{index}.nii.gz")
        rows.append(f"scan{index}.nii.gz,0,,{split},normal")
    (source / "datalist.csv").write_text("\n".join(rows), encoding="utf-8")

    TOOL["make_synthetic_test_set"](str(source), str(target), ["blob", "cutpaste_box"])

    assert [case["image"] for case in find_cases(target, split="train")] == [str(source / "scan0.nii.gz")]
    cases = find_cases(target, split="test")
    assert [case["label"] for case in cases] == [0, 1, 0, 1]
    assert [case["class"] for case in cases] == ["normal", "blob", "normal", "cutpaste_box"]
    for normal, changed in zip(cases[::2], cases[1::2], strict=True):
        one, two, mask = (
            nib.Nifti1Image.from_filename(str(path)) for path in (normal["image"], changed["image"], changed["mask"])
        )
        # stored alike, so that reading scales both alike
        assert one.get_data_dtype() == two.get_data_dtype() == np.uint8
        assert np.array_equal(one.affine, two.affine) and np.array_equal(two.affine, mask.affine)
        differs, inside = one.get_fdata() != two.get_fdata(), mask.get_fdata() == 1
        assert not (differs & ~inside).any() and differs[inside].mean() > 0.7


def test_recipes_that_need_other_scans_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a recipe is not known.*some of blob, sink.*found pii"):
        TOOL["make_synthetic_test_set"](str(tmp_path), str(tmp_path / "synthetic"), ["blob", "pii"])
    with pytest.raises(InputError, match=r"radius of the balls is out of range: blob_radius.*found 0.2\)"):
        TOOL["make_synthetic_test_set"](str(tmp_path), str(tmp_path / "synthetic"), ["blob"], blob_radius=0.2)


def test_lesions_of_volumes_are_listed_with_their_size_and_patient(tmp_path: Path) -> None:
    source = tmp_path / "normal"
    source.mkdir()
    rows = ["image,label,mask,split,class,patient"]
    for index, split in enumerate(("train", "train", "test")):  # a list need not have val
        values = _body((40, 44, 40), 200).astype(np.uint8)
        nib.save(nib.Nifti1Image(values, np.diag([2.0, 2, 2, 1])), source / f"scan{index}.nii.gz")
        rows.append(f"scan{index}.nii.gz,0,,{split},normal,p{index}")
    (source / "datalist.csv").write_text("\n".join(rows), encoding="utf-8")
    for folder in ("one", "two"):
        TOOL["make_synthetic_test_set"](str(source), str(tmp_path / folder), ["lesions"], every=True, seed=4)
    cases = find_cases(tmp_path / "one", split="test")
    assert [case["class"] for case in cases] == ["normal", *TOOL["LESIONS"]]
    assert {case["patient"] for case in cases} == {"p2"}
    for case in cases[1:]:
        mask = np.asarray(nib.Nifti1Image.from_filename(str(case["mask"])).dataobj)
        assert float(case["ml"]) == pytest.approx(mask.sum() * 8 / 1000, abs=0.01)
        assert case["from_2_ml"] == str(int(float(case["ml"]) >= 2))
    assert cases[0]["from_2_ml"] == "1"
    first = str(cases[1]["image"])
    one, two = (nib.Nifti1Image.from_filename(path) for path in (first, first.replace("/one/", "/two/")))
    assert np.array_equal(one.dataobj, two.dataobj)


def test_images_have_no_millilitres(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="lesions in millilitres are of volumes"):
        TOOL["make_synthetic_test_set"]("", str(tmp_path / "made"), ["lesions"])
