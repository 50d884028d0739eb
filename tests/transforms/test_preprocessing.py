"""ScanPreprocessing: values, checks, the way back, and batches of mixed formats."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from monai.data import CacheDataset, MetaTensor, decollate_batch, list_data_collate
from monai.transforms import Invertd
from PIL import Image
from scan_samples import AXIAL, OBLIQUE, dicom_image, write_series

from medad_plugins.data import ScanFormat, read_scan
from medad_plugins.errors import InputError
from medad_plugins.transforms import ScanPreprocessing

FLIPPED = np.array([[0, -2.0, 0, 4], [0, 0, 3.0, -5], [-1.5, 0, 0, 6], [0, 0, 0, 1]])
_C, _S = np.cos(0.3), np.sin(0.3)
ROTATED = np.array([[-_C, _S, 0, 4], [_S, _C, 0.0, -5], [0, 0, -3.0, 6], [0, 0, 0, 1]])


def _smooth(shape: Sequence[int], seed: int = 0) -> np.ndarray:
    """Positive smooth values 0..1, different along every axis and direction."""
    axes = np.meshgrid(*(np.linspace(0, 1, size) for size in shape), indexing="ij")
    bump = np.exp(-sum((axis - 0.3 - 0.1 * i) ** 2 for i, axis in enumerate(axes)) / 0.1)
    return (bump / bump.max() + np.random.RandomState(seed).rand(*shape) * 1e-3) / 1.001


def _png(path: Path, array: np.ndarray) -> Path:
    Image.fromarray(array).save(path)
    return path


def _nifti(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    nibabel.Nifti1Image(array, np.eye(4) if affine is None else affine).to_filename(path)
    return path


def _bytes(*shape: int) -> np.ndarray:
    return (_smooth(shape) * 200).astype(np.uint8)


def test_bytes_are_divided_by_255(tmp_path: Path) -> None:
    path = _png(tmp_path / "a.png", _bytes(20, 24))
    image = ScanPreprocessing(ScanFormat(2, (20, 24)))({"image": str(path)})["image"]
    assert isinstance(image, MetaTensor) and image.dtype == torch.float32 and image.shape == (1, 20, 24)
    assert torch.equal(image.as_tensor()[0], torch.from_numpy(_bytes(20, 24) / np.float32(255)))
    assert image.meta["filename_or_obj"] == str(path)


@pytest.mark.parametrize(("dtype", "intensity"), [(np.uint16, "auto"), (np.uint8, "percentile")])
def test_percentiles_become_0_and_1(tmp_path: Path, dtype: type, intensity: str) -> None:
    array: np.ndarray = (_smooth((20, 24)) * 200).astype(dtype)
    array[0, 0] = np.iinfo(dtype).max  # one hot pixel may not darken the rest
    image = ScanPreprocessing(ScanFormat(2, (20, 24), intensity=intensity))({"image": _png(tmp_path / "a.png", array)})[
        "image"
    ]
    low, high = np.percentile(array, (0.5, 99.5))
    np.testing.assert_allclose(image.numpy()[0], np.clip((array - low) / (high - low), 0, 1), atol=1e-6)
    assert (image.min(), image.max()) == (0, 1)


def test_percentiles_of_an_image_that_is_nearly_all_background(tmp_path: Path) -> None:
    array = np.zeros((40, 40), dtype=np.uint16)
    array[20, 20] = 700
    image = ScanPreprocessing(ScanFormat(2, 40))({"image": _png(tmp_path / "a.png", array)})["image"]
    assert (image.min(), image.max(), image.sum()) == (0, 1, 1)


def test_standard_takes_brightness_and_contrast_out_of_the_foreground(tmp_path: Path) -> None:
    """A scan of less contrast, as diffuse disease makes it, is no longer nearer to any mean."""
    foreground = np.random.RandomState(0).uniform(0.3, 0.9, (20, 24))
    foreground[:, :6] = 0.0
    scan = ScanPreprocessing(ScanFormat(2, (20, 24), intensity="standard"))
    images = []
    for number, (gain, offset) in enumerate(((200, 0), (90, 40), (250, 0))):
        array = np.where(foreground > 0, foreground * gain + offset, 0).astype(np.uint8)
        images.append(scan({"image": _png(tmp_path / f"{number}.png", array)})["image"].numpy()[0])
        inside = images[-1][foreground > 0]
        assert (inside.mean(), inside.std()) == (pytest.approx(0.5, abs=1e-3), pytest.approx(0.15, abs=1e-3))
        assert not images[-1][foreground == 0].any(), "where the body is looked for the background is black"
    np.testing.assert_allclose(images[1], images[0], atol=0.02)
    np.testing.assert_allclose(images[2], images[0], atol=0.02)
    flat = np.where(foreground > 0, 200, 0).astype(np.uint8)
    assert set(np.unique(scan({"image": _png(tmp_path / "flat.png", flat)})["image"].numpy())) == {0, 1}


def test_window_is_fixed_and_clips(tmp_path: Path) -> None:
    pixels = np.linspace(-1000, 1000, 400).reshape(20, 20).astype(np.int16)
    dicom_image(pixels).save_as(tmp_path / "a.dcm", enforce_file_format=True)
    image = ScanPreprocessing(ScanFormat(2, 20, intensity=[-100, 300]))({"image": str(tmp_path / "a.dcm")})["image"]
    np.testing.assert_allclose(image.numpy()[0], np.clip((pixels + 100) / 400, 0, 1), atol=1e-6)


def test_volumes_are_brought_to_ras(tmp_path: Path) -> None:
    array = (_smooth((16, 20, 24)) * 200).astype(np.uint8)
    path = _nifti(tmp_path / "a.nii", array, FLIPPED)
    image = ScanPreprocessing(ScanFormat(3, (20, 24, 16)))({"image": path})["image"]
    canonical = nibabel.as_closest_canonical(nibabel.load(path)).get_fdata()
    np.testing.assert_allclose(image.numpy()[0], canonical / 255, atol=1e-6)


@pytest.mark.parametrize(
    ("spatial_dims", "suffix", "affine"),
    [
        (2, ".png", None),
        (2, ".jpg", None),
        (2, ".dcm", None),
        (2, ".nii", ROTATED),
        (3, ".nii", None),
        (3, ".nii", FLIPPED),
        (3, ".nii.gz", ROTATED),
        (3, "", None),
    ],
)
@pytest.mark.parametrize("crop", [None, 0.8, "foreground"])
def test_a_map_comes_back_onto_the_scan(
    tmp_path: Path, spatial_dims: int, suffix: str, affine: np.ndarray | None, crop: Any
) -> None:
    shape = (33, 25) if spatial_dims == 2 else (33, 25, 18)
    path, array = tmp_path / f"scan{suffix}", (_smooth(shape) * 250).astype(np.uint8)
    if suffix in (".png", ".jpg"):
        _png(path, array)
    elif suffix.startswith(".nii"):
        _nifti(path, array, affine)
    elif suffix == ".dcm":
        place = {"ImagePositionPatient": [1, 2, 3], "ImageOrientationPatient": list(OBLIQUE), "PixelSpacing": [2, 1.5]}
        dicom_image(array, **place).save_as(path, enforce_file_format=True)
    else:
        write_series(path, array, OBLIQUE)
    scan = read_scan(path)
    preprocessing = ScanPreprocessing(ScanFormat(spatial_dims, (40, 44, 36)[:spatial_dims], in_channels=3, crop=crop))
    case = preprocessing({"image": str(path)})
    batch = list_data_collate([case, preprocessing({"image": str(path)})])
    assert batch["image"].shape == (2, 3, *(40, 44, 36)[:spatial_dims])
    batch["pred"] = batch["image"].mean(1, keepdim=True)
    restored = Invertd("pred", preprocessing, "image", nearest_interp=False)(decollate_batch(batch)[1])["pred"]
    assert restored.shape == (1, *scan.array.shape)
    np.testing.assert_array_equal(restored.affine.numpy(), scan.affine)
    expected = scan.array.astype(np.float32) / (255 if scan.stored_bits == 8 else np.percentile(scan.array, 99.5))
    inside = restored.numpy()[0] > 0.02  # a crop is 0 outside
    assert inside.mean() > 0.1
    np.testing.assert_allclose(restored.numpy()[0][inside], expected[inside], atol=0.25)
    assert np.corrcoef(restored.numpy()[0][inside], expected[inside])[0, 1] > 0.97


@pytest.mark.parametrize(("name", "spatial_dims"), [("pgbm003_flair", 3), ("oddities/CT_small.dcm", 2)])
def test_a_map_comes_back_onto_real_dicom(shared_data: Path, name: str, spatial_dims: int) -> None:
    _comes_back(shared_data / "dicom" / name, spatial_dims)


@pytest.mark.parametrize("name", ["normal_heads_3d/CT_pitch.nii.gz", "mslub_3d/patient07_FLAIR.nii.gz"])
def test_a_map_comes_back_onto_real_nifti(shared_data: Path, name: str) -> None:
    _comes_back(shared_data / name, 3)


def _comes_back(path: Path, spatial_dims: int) -> None:
    preprocessing = ScanPreprocessing(ScanFormat(spatial_dims, 48))
    case = preprocessing({"image": str(path)})
    case["pred"] = case["image"].clone()
    restored = Invertd("pred", preprocessing, "image", nearest_interp=False)(case)["pred"]
    scan = read_scan(path)
    assert restored.shape == (1, *scan.array.shape)
    np.testing.assert_array_equal(restored.affine.numpy(), scan.affine)
    assert np.corrcoef(restored.numpy().ravel(), scan.array.astype(np.float32).ravel())[0, 1] > 0.85


def test_batches_of_mixed_formats_collate(tmp_path: Path) -> None:
    pixels = _bytes(20, 24)
    paths = [_png(tmp_path / "a.png", pixels), _nifti(tmp_path / "b.nii.gz", pixels), tmp_path / "c.dcm"]
    dicom_image(
        pixels, ImagePositionPatient=[1, 2, 3], ImageOrientationPatient=list(AXIAL), PixelSpacing=[2, 2]
    ).save_as(paths[2], enforce_file_format=True)
    paths.append(_png(tmp_path / "rgb.png", np.dstack([pixels] * 3)))
    preprocessing = ScanPreprocessing(ScanFormat(2, 16))
    cases = [preprocessing({"image": str(path), "case_id": path.stem}) for path in paths]
    assert len({frozenset(case["image"].meta) for case in cases}) == 1
    batch = list_data_collate(cases)
    assert batch["image"].shape == (4, 1, 16, 16)
    assert batch["image"].meta["filename_or_obj"] == [str(path) for path in paths]
    assert [case["image"].meta["filename_or_obj"] for case in decollate_batch(batch)] == [str(path) for path in paths]


def test_grey_is_repeated_and_equal_channels_are_grey(tmp_path: Path) -> None:
    grey = _png(tmp_path / "grey.png", _bytes(20, 24))
    rgb = _png(tmp_path / "rgb.png", np.dstack([_bytes(20, 24)] * 3))
    as_three = ScanPreprocessing(ScanFormat(2, 16, in_channels=3))({"image": grey})["image"]
    assert as_three.shape == (3, 16, 16)
    assert torch.equal(
        as_three.as_tensor(), ScanPreprocessing(ScanFormat(2, 16, in_channels=3))({"image": rgb})["image"].as_tensor()
    )
    as_one = ScanPreprocessing(ScanFormat(2, 16))({"image": rgb})["image"]
    assert torch.equal(as_one.as_tensor(), as_three.as_tensor()[:1])


def test_shrinking_smooths_and_keeps_borders(tmp_path: Path) -> None:
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::4] = 200  # finer than the target grid
    image = ScanPreprocessing(ScanFormat(2, 16))({"image": _png(tmp_path / "a.png", stripes)})["image"].numpy()
    assert abs(image - 50 / 255)[0, :, 2:-2].max() < 0.02
    bright = np.full((64, 64), 200, np.uint8)
    bright[30:34, 30:34] = 190
    image = ScanPreprocessing(ScanFormat(2, 16))({"image": _png(tmp_path / "b.png", bright)})["image"].numpy()
    np.testing.assert_allclose(image[0, 0], 200 / 255, atol=1e-5)


def test_several_keys(tmp_path: Path) -> None:
    path = str(_png(tmp_path / "a.png", _bytes(20, 24)))
    case = ScanPreprocessing(ScanFormat(2, 16, crop="foreground"), keys=("image", "other"))(
        {"image": path, "other": path}
    )
    assert torch.equal(case["image"].as_tensor(), case["other"].as_tensor())


def test_host_array_without_the_reader_is_taken(tmp_path: Path) -> None:
    """MONAI Deploy drops the reader and hands in a MetaTensor with its own meta data."""
    preprocessing = ScanPreprocessing(ScanFormat(3, 16))
    preprocessing.transforms = preprocessing.transforms[1:]
    volume = torch.rand(20, 24, 18) * 900
    image = MetaTensor(volume, affine=torch.diag(torch.tensor([-1.0, -1.0, 2.0, 1.0])), meta={})
    image.meta["original_channel_dim"] = "no_channel"
    case = preprocessing({"image": image})
    assert case["image"].shape == (1, 16, 16, 16)
    assert 0 <= case["image"].min() < case["image"].max() <= 1
    case["pred"] = case["image"].clone()
    restored = Invertd("pred", preprocessing, "image", nearest_interp=False)(case)["pred"]
    assert restored.shape == (1, 20, 24, 18) and torch.equal(restored.affine, image.affine)


def test_works_inside_a_cached_dataset(tmp_path: Path) -> None:
    paths = [_png(tmp_path / f"{i}.png", _bytes(20, 20 + i)) for i in range(3)]
    data = CacheDataset(
        [{"image": path} for path in paths], ScanPreprocessing(ScanFormat(2, 16)), num_workers=2, progress=False
    )
    assert [case["image"].shape for case in map(data.__getitem__, range(3))] == [(1, 16, 16)] * 3


def _with(array: np.ndarray, value: float) -> np.ndarray:
    array = array.astype(np.float32)
    array[3, 4] = value
    return array


@pytest.mark.parametrize(
    ("spatial_dims", "array", "message"),
    [
        (2, _with(_bytes(20, 20), np.nan), "NaN or infinite voxels.*found 1 of 400"),
        (3, _with(_bytes(20, 20, 20), np.inf), "NaN or infinite voxels.*found 20 of 8000"),
        (3, np.full((20, 20, 20), 7, np.int16), "same value everywhere.*found 7"),
        (3, _bytes(20, 20, 3), "too thin.*at least 8 voxels.*20 x 20 x 3"),
        (3, _bytes(20, 20, 1), r"a 2D image of 20 x 20.*--spatial_dims 2"),
        (3, _bytes(20, 20), r"a 2D image of 20 x 20.*--spatial_dims 2"),
        (2, _bytes(20, 20, 20), r"a volume of 20 x 20 x 20.*--spatial_dims 3"),
        (3, _bytes(20, 20, 20, 4), "number of channels.*expected 1, found 4.*--in_channels 4"),
    ],
)
def test_scans_that_are_refused(tmp_path: Path, spatial_dims: int, array: np.ndarray, message: str) -> None:
    path = _nifti(tmp_path / "bad_scan.nii.gz", array)
    with pytest.raises(InputError, match=message) as caught:
        ScanPreprocessing(ScanFormat(spatial_dims, 16))({"image": str(path)})
    assert str(path) in str(caught.value)
    assert caught.value.__cause__ is None  # the user meets one sentence, not MONAI's chain


def test_pictures_that_are_refused(tmp_path: Path) -> None:
    coloured = _png(tmp_path / "colour.png", np.random.RandomState(0).randint(0, 255, (20, 20, 3)).astype(np.uint8))
    constant = _png(tmp_path / "constant.png", np.full((20, 20), 9, np.uint8))
    (tmp_path / "text.png").write_text("text")
    preprocessing = ScanPreprocessing(ScanFormat(2, 16))
    for path, message in (
        (coloured, r"number of channels: .*colour.png \(expected 1, found 3\); set --in_channels 3"),
        (constant, "same value everywhere: .*constant.png"),
        (tmp_path / "text.png", "not an image: .*text.png"),
        (tmp_path / "none.png", "does not exist: .*none.png"),
    ):
        with pytest.raises(InputError, match=message):
            preprocessing({"image": str(path)})
    assert ScanPreprocessing(ScanFormat(2, 16, in_channels=3))({"image": coloured})["image"].shape == (3, 16, 16)


def test_four_channels_into_a_network_of_four(tmp_path: Path) -> None:
    array = np.stack([_smooth((20, 20, 20), seed) * 10.0**seed for seed in range(4)], axis=-1).astype(np.float32)
    image = ScanPreprocessing(ScanFormat(3, 20, in_channels=4))({"image": _nifti(tmp_path / "a.nii", array)})["image"]
    assert image.shape == (4, 20, 20, 20)
    assert image.amax((1, 2, 3)).tolist() == [1.0] * 4  # every channel has its own unit


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"intensity": "minmax"}, "intensity.*found minmax"),
        ({"intensity": (5, 5)}, "intensity"),
        ({"crop": 1.5}, "crop.*found 1.5"),
        ({"image_size": (16, 16, 16)}, "image_size"),
        ({"image_size": 0}, "image_size"),
        ({"spatial_dims": 4}, "spatial_dims.*found 4"),
    ],
)
def test_options_that_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ScanPreprocessing(ScanFormat(**options))


@pytest.mark.parametrize(
    ("values", "options"),
    [
        (np.full((40, 40), -1000) + np.eye(40) * 50, {"intensity": [0, 80]}),
        (np.full((40, 40), 2000) + np.eye(40) * 50, {"intensity": [0, 80]}),
        (np.pad(np.full((20, 20), 90.0), ((0, 20), (0, 20))), {"crop": "foreground"}),
        (np.pad(np.eye(4), 18) * 0 + np.pad(np.ones((1, 1)), ((0, 39), (0, 39))), {"crop": 0.5}),
        (np.pad(np.full((1, 1), 1.0), ((499, 500), (499, 500))), {}),
    ],
    ids=["below the window", "above the window", "one value in the foreground", "cropped away", "resized away"],
)
@pytest.mark.parametrize("equalize", [False, True])
def test_a_scan_that_is_blank_to_the_network_is_refused(
    tmp_path: Path, values: np.ndarray, options: dict[str, Any], equalize: bool
) -> None:
    Image.fromarray(values.astype(np.float32)).save(tmp_path / "a.tif")
    preprocessing = ScanPreprocessing(ScanFormat(image_size=16, equalize=equalize, **options))
    with pytest.raises(InputError, match=r"blank to the network: .*a.tif"):
        preprocessing({"image": tmp_path / "a.tif"})
