"""One picture through every format and orientation: equal for the network, and its map back in the right place."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImage
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform
from PIL import Image
from scan_samples import dicom_image

from medad_plugins.data import ScanFormat, read_scan
from medad_plugins.transforms import ScanPreprocessing
from medad_plugins.transforms.postprocessing import RestoreScanGridd
from medad_plugins.transforms.writers import SaveImageAnomalyd

ROWS, COLUMNS = 20, 28
PICTURE = np.random.RandomState(0).randint(0, 200, (ROWS, COLUMNS)).astype(np.uint8)
PICTURE[1, 2] = 255  # the one bright spot, near the upper left corner
AXIAL = ["".join(codes) for pair in (("RL", "AP"), ("AP", "RL")) for codes in product(*pair)]
SCAN = ScanFormat(2, (ROWS, COLUMNS))


def _write_nifti(path: Path, codes: str, shown: str = "PLS", picture: np.ndarray = PICTURE) -> Path:
    """A slice with axes ``codes``, whose rows and columns are the first two of ``shown``."""
    slab = picture.reshape(picture.shape + (1,) * (3 - picture.ndim))
    stored = apply_orientation(slab, ornt_transform(axcodes2ornt(shown), axcodes2ornt(codes)))
    affine = np.diag([2.0, 3, 4, 1]) @ np.linalg.inv(inv_ornt_aff(axcodes2ornt(codes), stored.shape))
    nibabel.Nifti1Image(stored, affine).to_filename(path)
    return path


def _write_dicom(path: Path, flip_rows: bool, flip_columns: bool, transpose: bool) -> Path:
    pixels = np.flip(PICTURE, tuple(axis for axis, flips in enumerate((flip_rows, flip_columns)) if flips))
    down, right = (0, -1 if flip_rows else 1, 0), (-1 if flip_columns else 1, 0, 0)
    along_row, along_column = (down, right) if transpose else (right, down)
    pixels = np.ascontiguousarray(pixels.T if transpose else pixels)
    place = {"ImagePositionPatient": [0, 0, 0], "ImageOrientationPatient": [*along_row, *along_column]}
    dicom_image(pixels, **place, PixelSpacing=[1, 1]).save_as(path, enforce_file_format=True)
    return path


def _files(folder: Path) -> list[Path]:
    Image.fromarray(PICTURE).save(folder / "a.png")
    Image.fromarray(PICTURE).save(folder / "a.tif")
    files = [folder / "a.png", folder / "a.tif"]
    files += [_write_nifti(folder / f"{codes}.nii.gz", f"{codes}{across}") for codes in AXIAL for across in "SI"]
    turns = product((False, True), repeat=3)
    return files + [_write_dicom(folder / f"{i}.dcm", *turn) for i, turn in enumerate(turns)]


def test_one_picture_in_every_format_is_one_for_the_network(tmp_path: Path) -> None:
    preprocessing = ScanPreprocessing(SCAN)
    files = _files(tmp_path)
    assert len(files) == 2 + 16 + 8
    for path in files:
        image = preprocessing({"image": str(path)})["image"]
        np.testing.assert_array_equal(image.numpy()[0], PICTURE / np.float32(255), err_msg=path.name)


@pytest.mark.parametrize("size", [(ROWS, COLUMNS), (16, 24), 37])
def test_a_spot_of_the_map_comes_back_to_its_voxel(tmp_path: Path, size: int | tuple[int, int]) -> None:
    preprocessing = ScanPreprocessing(ScanFormat(2, size))
    restore = RestoreScanGridd("pred", preprocessing, output_keys="map")
    for path in _files(tmp_path):
        scan = read_scan(path)
        image = preprocessing({"image": str(path)})["image"]
        anomaly_map = torch.zeros(image.shape)
        anomaly_map[0, int(1.5 / ROWS * image.shape[1]), int(2.5 / COLUMNS * image.shape[2])] = 1
        restored = restore({"image": image, "pred": anomaly_map})["map"]
        assert restored.shape[1:] == scan.array.shape
        assert np.array_equal(restored.affine, scan.affine)
        found = np.unravel_index(int(restored.argmax()), scan.array.shape)
        spot = np.unravel_index(int(scan.array.argmax()), scan.array.shape)
        assert np.abs(np.subtract(found, spot)).max() <= (0 if size == (ROWS, COLUMNS) else 1), path.name
        if size == (ROWS, COLUMNS):
            mask = (restored > 0.5).to(torch.uint8)
            case: dict[Any, Any] = {"case_id": path.name, "anomaly_map": restored, "anomaly_mask": mask}
            case = SaveImageAnomalyd(("anomaly_map", "anomaly_mask"), tmp_path / "out")(case)
            for key in ("anomaly_map_file", "anomaly_mask_file"):
                written = read_scan(Path(str(case[key])))
                assert np.argwhere(written.array).tolist() == [list(spot)], f"{path.name} {key}"
                np.testing.assert_allclose(written.affine, scan.affine, atol=1e-5)


@pytest.mark.parametrize(
    ("axis", "shown", "stored"),
    [(2, "PLS", "RAS"), (2, "PLS", "LPI"), (1, "ILA", "ARS"), (1, "ILA", "PSL"), (0, "IPR", "SRA"), (0, "IPR", "RAI")],
)
def test_a_slice_of_a_volume_is_the_picture_that_it_is_as_a_scan(
    tmp_path: Path, axis: int, shown: str, stored: str
) -> None:
    volume = np.random.RandomState(1).randint(0, 255, (12, 16, 10)).astype(np.uint8)  # rows, columns, across
    path = _write_nifti(tmp_path / "v.nii.gz", stored, shown, volume)
    edges = [12, 16]
    edges.insert(axis, 10)
    preprocessing = ScanPreprocessing(ScanFormat(3, edges, slice_axis=axis))
    image = preprocessing({"image": path})["image"]
    for number in (0, 7):
        single = _write_nifti(tmp_path / f"{number}.nii", shown, shown, volume[..., number])
        alone = ScanPreprocessing(ScanFormat(2, (12, 16)))({"image": single})["image"]
        assert torch.equal(image.as_tensor().select(1 + axis, number), alone.as_tensor())
        np.testing.assert_array_equal(alone.numpy()[0], volume[..., number] / np.float32(255))
    restore = RestoreScanGridd("pred", preprocessing, output_keys="map")
    restored = restore({"image": image, "pred": image.as_tensor()})["map"]
    np.testing.assert_allclose(restored.numpy()[0], read_scan(path).array / 255, atol=1e-5)


def test_older_models_see_scans_as_they_are_stored(tmp_path: Path) -> None:
    Image.fromarray(PICTURE).save(tmp_path / "a.png")
    image = ScanPreprocessing(ScanFormat(2, (COLUMNS, ROWS), orientation="stored"))({"image": tmp_path / "a.png"})
    assert np.array_equal(image["image"].numpy()[0], PICTURE.T / np.float32(255))
    path = _write_nifti(tmp_path / "a.nii", "PLS")
    image = ScanPreprocessing(ScanFormat(2, (ROWS, COLUMNS), orientation="stored"))({"image": path})
    assert np.array_equal(image["image"].numpy()[0], PICTURE / np.float32(255))
    volume = np.random.RandomState(1).randint(0, 255, (12, 16, 10)).astype(np.uint8)
    path = _write_nifti(tmp_path / "v.nii", "RAS", "RAS", volume)
    scan = ScanFormat(3, (12, 16, 10), slice_axis=2, orientation="stored")
    assert np.array_equal(ScanPreprocessing(scan)({"image": path})["image"].numpy()[0], volume / np.float32(255))


def test_pictures_from_hosts_stand_as_their_files_do(tmp_path: Path) -> None:
    """A host's reader gives a picture the identity for want of an affine; plain arrays have none at all."""
    preprocessing = ScanPreprocessing(SCAN)
    Image.fromarray(PICTURE).save(tmp_path / "a.png")
    path = _write_nifti(tmp_path / "a.nii.gz", "RAS")
    arrays = [
        PICTURE.T,
        MetaTensor(PICTURE.T),
        MetaTensor(read_scan(path).array, affine=torch.as_tensor(read_scan(path).affine)),
    ]
    for given in (LoadImage(dtype=None)(tmp_path / "a.png"), *arrays):
        image = preprocessing({"image": given})["image"]
        np.testing.assert_array_equal(image.numpy()[0], PICTURE / np.float32(255))


def test_colours_stay_with_their_pixels(tmp_path: Path) -> None:
    colours = np.random.RandomState(2).randint(0, 255, (ROWS, COLUMNS, 3)).astype(np.uint8)
    Image.fromarray(colours).save(tmp_path / "a.png")
    image = ScanPreprocessing(ScanFormat(2, (ROWS, COLUMNS), 3))({"image": tmp_path / "a.png"})["image"]
    np.testing.assert_array_equal(image.numpy(), colours.transpose(2, 0, 1) / np.float32(255))
