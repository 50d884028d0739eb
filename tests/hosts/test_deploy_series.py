"""Which series of a study the application for MONAI Deploy takes; needs no MONAI Deploy."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from dicom_studies import write_exam
from scan_samples import AXIAL, SECRETS

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "apps" / "deploy"))

from series_selection import BundleInput, find_series, select_series

from medad_plugins.data.dicom_series import read_dicom_scan
from medad_plugins.errors import InputError

VOLUMES, IMAGES = BundleInput(3), BundleInput(2)


def _volume(slices: int = 9, seed: int = 0) -> np.ndarray:
    return np.random.RandomState(seed).randint(0, 900, (slices, 12, 10)).astype(np.uint16)


def _study(folder: Path) -> Path:
    """Two readable volumes, a scout of three images across each other, a CT, and files that are no images."""
    write_exam(folder / "a", _volume(), "1", SeriesDescription="AX T2 FLAIR")
    write_exam(folder / "b", _volume(seed=1), "2", SeriesDescription="AX T1")
    write_exam(folder / "c", _volume(3), "3", AXIAL, SeriesDescription="scout")
    write_exam(folder / "d", _volume(20), "5", AXIAL, Modality="CT", SeriesDescription="CT")
    (folder / "report.txt").write_text("text")
    (folder / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"LEAK")
    return folder


def test_series_are_found_below_a_folder(tmp_path: Path) -> None:
    series = find_series(_study(tmp_path))
    assert [(one.modality, one.frames) for one in series] == [("MR", 9), ("MR", 9), ("MR", 3), ("CT", 20)]


def test_the_description_chooses(tmp_path: Path) -> None:
    series, scan = select_series(_study(tmp_path), VOLUMES, "flair")
    np.testing.assert_array_equal(scan.numpy(), read_dicom_scan(tmp_path / "a").array)
    assert {path.parent.name for path in series.files} == {"a"}


def test_the_modality_of_the_bundle_chooses(tmp_path: Path) -> None:
    assert select_series(_study(tmp_path), BundleInput(3, "CT"))[0].modality == "CT"


def test_all_series_in_one_folder(tmp_path: Path) -> None:
    _study(tmp_path / "study")
    for path in (tmp_path / "study").glob("?/*"):
        shutil.copy(path, tmp_path / f"{path.parent.name}{path.stem}")  # without a suffix, as many archives have it
    expected = read_dicom_scan(tmp_path / "study" / "b")
    shutil.rmtree(tmp_path / "study")
    scan = select_series(tmp_path, VOLUMES, "T1")[1]
    np.testing.assert_array_equal(scan.numpy(), expected.array)
    np.testing.assert_array_equal(scan.affine, expected.affine)


def test_several_series_are_not_guessed_between(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="several series that this bundle can read.*MEDAD_SERIES") as raised:
        select_series(_study(tmp_path), BundleInput(3, "MR"))
    assert "FLAIR" not in str(raised.value)


def test_every_series_gets_its_reason(tmp_path: Path) -> None:
    _study(tmp_path)
    shutil.rmtree(tmp_path / "b")
    next((tmp_path / "a").glob("slice004*")).unlink()
    with pytest.raises(InputError) as raised:
        select_series(tmp_path, BundleInput(3, "MR"))
    said = str(raised.value)
    assert "the study holds no series that this bundle can read" in said
    assert "expected a volume of parallel slices of modality MR" in said
    for reason in ("1 missing slice", "[MR, 3 images, c/slice000.dcm] too few slices", "modality CT"):
        assert reason in said
    assert not [secret for secret in SECRETS.values() if secret in said]


def test_a_single_series_says_itself_what_is_wrong(tmp_path: Path) -> None:
    write_exam(tmp_path, _volume(), offsets=[0, 3, 6, 9, 15, 18, 21, 24, 27])
    with pytest.raises(InputError, match="do not form an even grid.*1 missing slice"):
        select_series(tmp_path, VOLUMES)


def test_a_bundle_for_images_takes_the_single_image(tmp_path: Path) -> None:
    write_exam(tmp_path / "a", _volume())
    write_exam(tmp_path / "b", _volume(1), "2")
    series, scan = select_series(tmp_path, IMAGES)
    assert (series.frames, scan.shape) == (1, (10, 12))
    shutil.rmtree(tmp_path / "b")
    with pytest.raises(InputError, match=r"expected a single image.*\[MR, 9 images, a/slice000.dcm\] more than one"):
        select_series(tmp_path, IMAGES)


@pytest.mark.parametrize(
    ("wanted", "message"), [("PET", "description does not match"), ("(", "not a regular expression")]
)
def test_a_wish_that_fits_none(tmp_path: Path, wanted: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        select_series(_study(tmp_path), VOLUMES, wanted)


def test_no_study(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no DICOM image in the study's folder"):
        find_series(tmp_path)
    with pytest.raises(InputError, match="the study's folder does not exist"):
        find_series(tmp_path / "nowhere")
