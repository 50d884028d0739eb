"""LoadImageScand: one set of meta keys, nothing of the patient, and tensors from hosts."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import EnsureChannelFirstd
from PIL import Image
from scan_samples import AXIAL, SECRETS, dicom_image, write_series

from medad_plugins.errors import InputError
from medad_plugins.transforms import LoadImageScan, LoadImageScand

META_KEYS = {
    *("affine", "original_affine", "spatial_shape", "original_channel_dim", "filename_or_obj", "stored_bits", "space"),
    "has_geometry",
}


@pytest.fixture
def scans(tmp_path: Path) -> dict[str, Path]:
    """The same 12 x 9 pixels (numbers of a byte) in every 2D format, and three volumes."""
    pixels = np.random.RandomState(0).randint(0, 255, (9, 12)).astype(np.uint8)
    paths = {name: tmp_path / name for name in ("a.png", "b.nii.gz", "c.dcm", "rgb.png", "v.nii", "series")}
    Image.fromarray(pixels).save(paths["a.png"])
    Image.fromarray(pixels).convert("RGB").save(paths["rgb.png"])
    nibabel.Nifti1Image(pixels.T, np.eye(4)).to_filename(paths["b.nii.gz"])
    place = {"ImagePositionPatient": [1, 2, 3], "ImageOrientationPatient": list(AXIAL), "PixelSpacing": [2, 2]}
    dicom_image(pixels, **place).save_as(paths["c.dcm"], enforce_file_format=True)
    volume = np.repeat(pixels[None].astype(np.int16), 5, 0)
    write_series(paths["series"], volume)
    header = nibabel.Nifti1Header()
    header["descrip"], header["db_name"] = SECRETS["PatientName"], SECRETS["PatientID"]
    nibabel.Nifti1Image(volume.T, np.eye(4), header).to_filename(paths["v.nii"])
    return paths


def test_same_pixels_and_meta_keys_for_every_format(scans: dict[str, Path]) -> None:
    images = {name: LoadImageScan(2)(str(scans[name])) for name in ("a.png", "b.nii.gz", "c.dcm")}
    for name, image in images.items():
        assert torch.equal(image.as_tensor(), images["a.png"].as_tensor()), name
        assert image.dtype == torch.float32 and set(image.meta) == META_KEYS
        assert image.meta["filename_or_obj"] == str(scans[name]) and image.meta["stored_bits"] == 8
        assert image.affine.shape == (4, 4) and list(image.meta["spatial_shape"]) == [12, 9]
        assert torch.equal(image.affine, torch.as_tensor(image.meta["original_affine"]))


def test_channels_go_first(scans: dict[str, Path]) -> None:
    load, first = LoadImageScand("image", 2), EnsureChannelFirstd("image")
    assert first(load({"image": str(scans["a.png"])}))["image"].shape == (1, 12, 9)
    case = load({"image": scans["rgb.png"], "case_id": "kept"})
    assert list(case["image"].meta["spatial_shape"]) == [12, 9] and case["case_id"] == "kept"
    assert first(case)["image"].shape == (3, 12, 9)


@pytest.mark.parametrize("name", ["c.dcm", "series", "v.nii"])
def test_nothing_of_the_patient_is_in_meta(scans: dict[str, Path], name: str) -> None:
    image = LoadImageScan(3)(str(scans[name]))
    assert set(image.meta) == META_KEYS
    text = repr(image.meta) + repr(image.__dict__)
    assert not [secret for secret in (*SECRETS.values(), "1.2.826") if secret in text]


def test_name_is_one_that_monai_deploy_strips() -> None:
    assert "LoadImage" in LoadImageScand.__name__


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_arrays_of_hosts_pass(kind: type) -> None:
    values = np.random.RandomState(0).rand(12, 9).astype(np.float32)
    image = LoadImageScan(2)(kind(values))
    assert set(image.meta) == META_KEYS and torch.equal(image.as_tensor(), torch.from_numpy(values))
    assert EnsureChannelFirstd("image")({"image": image})["image"].shape == (1, 12, 9)
    with_channel = EnsureChannelFirstd("image")({"image": LoadImageScan(2)(kind(values[None]))})["image"]
    assert with_channel.shape == (1, 12, 9)
    assert LoadImageScan(2)(kind((values * 255).astype(np.uint8))).meta["stored_bits"] == 8


def test_host_array_is_not_changed_through_the_result() -> None:
    values = torch.zeros(12, 9)
    LoadImageScan(2)(values).add_(1)
    assert values.sum() == 0


def test_meta_tensor_of_a_host_keeps_its_geometry_and_loses_the_rest() -> None:
    affine = torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0]))
    meta = {"original_channel_dim": "no_channel", "filename_or_obj": "scan", "PatientName": "Leak^Name"}
    given = MetaTensor(torch.rand(5, 6, 7), affine=affine, meta=meta)
    image = LoadImageScan(3)(given)
    assert set(image.meta) == META_KEYS and torch.equal(image.affine, affine.double())
    assert EnsureChannelFirstd("image")({"image": image})["image"].shape == (1, 5, 6, 7)
    last = MetaTensor(torch.rand(5, 6, 7, 2), meta={"original_channel_dim": -1})
    assert EnsureChannelFirstd("image")({"image": LoadImageScan(3)(last)})["image"].shape == (2, 5, 6, 7)


def test_other_types_are_refused() -> None:
    with pytest.raises(InputError, match="found list"):
        LoadImageScan(2)(["a.png"])  # type: ignore[arg-type]


def test_an_empty_path_is_not_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_series(tmp_path, np.arange(360, dtype=np.int16).reshape(3, 10, 12))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="a case has no image"):
        LoadImageScan(3)("")
