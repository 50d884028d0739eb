"""Finding scans below a folder and telling formats apart."""

from __future__ import annotations

import logging
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image
from scan_samples import OBLIQUE, dicom_image, write_series

from medad_plugins.data.scan_files import find_scans, read_scan
from medad_plugins.errors import InputError


def _volume(slices: int) -> np.ndarray:
    return np.random.RandomState(slices).randint(0, 900, (slices, 9, 12)).astype(np.int16)


def _picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.arange(108, dtype=np.uint8).reshape(9, 12)).save(path)
    return path


def _names(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in find_scans(folder)]


def test_all_formats_below_a_folder_sorted(tmp_path: Path) -> None:
    _picture(tmp_path / "b" / "two.PNG")
    _picture(tmp_path / "a.jpeg")
    nibabel.Nifti1Image(_volume(4), np.eye(4)).to_filename(tmp_path / "c.nii.gz")
    write_series(tmp_path / "patient" / "series", _volume(4))
    (tmp_path / "d").mkdir()
    dicom_image(_volume(1)[0]).save_as(tmp_path / "d" / "IM0001", enforce_file_format=True)
    (tmp_path / "datalist.csv").write_text("image,label\n")
    (tmp_path / "readme").write_text("no DICOM")
    _picture(tmp_path / "._a.png")
    _picture(tmp_path / ".thumbnails" / "a.png")
    assert _names(tmp_path) == ["a.jpeg", "b/two.PNG", "c.nii.gz", "d/IM0001", "patient/series"]


def test_folder_that_is_a_series_is_one_scan(tmp_path: Path) -> None:
    write_series(tmp_path, _volume(4))
    assert find_scans(tmp_path) == [tmp_path]


def test_bad_series_stays_one_scan_so_that_reading_can_say_why(tmp_path: Path) -> None:
    write_series(tmp_path / "tilted", _volume(4), OBLIQUE, step=(0, 0, 1))
    write_series(tmp_path / "gap", _volume(4), offsets=[0, 3, 9, 12])
    broken = write_series(tmp_path / "truncated", _volume(4))[1]
    broken.write_bytes(broken.read_bytes()[:200])
    for path in write_series(tmp_path / "mixed", _volume(4), SeriesInstanceUID="1.2.3"):
        path.rename(path.with_name(f"first_{path.name}"))
    write_series(tmp_path / "mixed", _volume(4), SeriesInstanceUID="1.2.4")
    assert _names(tmp_path) == ["gap", "mixed", "tilted", "truncated"]
    for name in ("gap", "mixed", "tilted", "truncated"):
        with pytest.raises(InputError, match=name):
            read_scan(tmp_path / name)


def test_unrelated_files_in_a_folder_are_single_scans(tmp_path: Path) -> None:
    place = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "PixelSpacing": [1, 1]}
    for i in range(3):
        position = {"ImagePositionPatient": [0, 0, i], "SeriesInstanceUID": f"1.2.{i}"}
        dicom_image(_volume(1)[0], **place, **position).save_as(
            tmp_path / f"unrelated{i}.dcm", enforce_file_format=True
        )
        # one series, no positions: e.g. radiographs
        dicom_image(_volume(1)[0]).save_as(tmp_path / f"views{i}.dcm", enforce_file_format=True)
    assert _names(tmp_path) == [f"unrelated{i}.dcm" for i in range(3)] + [f"views{i}.dcm" for i in range(3)]


def test_real_folders(shared_data: Path) -> None:
    found = _names(shared_data / "dicom")
    assert [name for name in found if "/" not in name] == ["ct_ge_tilt_rle", "hippocrop_mr", "pgbm003_flair"]
    assert len([name for name in found if name.startswith("oddities/")]) == 25


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    _picture(tmp_path / "elsewhere" / "a.png")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "loop").symlink_to(tmp_path / "data")
    assert _names(tmp_path / "data") == ["link/a.png"]


@pytest.mark.parametrize("name", ["empty", "missing"])
def test_nothing_to_find(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no image")
    with pytest.raises(InputError, match=f"{name}"):
        find_scans(tmp_path / name)


def test_read_scan_by_content_and_by_name(tmp_path: Path) -> None:
    pixels = _volume(1)[0]
    dicom_image(pixels).save_as(tmp_path / "IM0001", enforce_file_format=True)
    np.testing.assert_array_equal(read_scan(tmp_path / "IM0001").array, pixels.T)
    write_series(tmp_path / "series", _volume(4))
    assert read_scan(tmp_path / "series").array.shape == (12, 9, 4)
    assert read_scan(_picture(tmp_path / "A.PNG")).array.shape == (12, 9)


@pytest.mark.parametrize(("name", "message"), [("none.png", "does not exist"), ("a.xyz", "no known image format")])
def test_paths_that_are_no_scan(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "a.xyz").write_text("whatever")
    with pytest.raises(InputError, match=message):
        read_scan(tmp_path / name)


def test_labels_of_a_monai_label_server_are_no_scans(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a.png", "labels/final/a.png", "labels/original/a.png", "other/labels/b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((8, 8), dtype=np.uint8)).save(tmp_path / name)
    (tmp_path / "datastore_v2.json").write_text("{}")
    with caplog.at_level(logging.INFO):
        found = find_scans(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in found] == ["a.png", "other/labels/b.png"]
    assert "1 MONAI Label's masks (labels)" in caplog.text
