"""Tiles of training scans, and scans at a spacing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import Dataset, MetaTensor

from medad_plugins.data import IterationLoader, PassLoader, ScanFormat, cached_dataset
from medad_plugins.data.sample_cohort import generate_case
from medad_plugins.errors import InputError
from medad_plugins.transforms import RandScanTiled, RestoreScanGridd, ScanPreprocessing

LEFT_DOWN = np.diag([-1.0, -1.0, 1.0, 1.0])


def _volume(path: Path, shape: tuple[int, ...], edges: tuple[float, ...]) -> Path:
    grids = np.meshgrid(*(np.linspace(-1, 1, length) for length in shape), indexing="ij")
    ball = np.clip(1.2 - sum(grid**2 for grid in grids), 0, 1)
    nib.save(nib.Nifti1Image((1000 * ball).astype(np.float32), np.diag([*edges, 1.0])), path)
    return path


# tiles


def test_tiles_have_their_middle_in_the_foreground() -> None:
    image = torch.zeros(1, 100, 100)
    image[:, 10:20, 70:90] = 1
    draw = RandScanTiled([16, 16]).set_random_state(0)
    bright = [float(draw({"image": image})["image"].mean()) > 0 for _ in range(60)]
    assert 45 <= sum(bright) < 60, "most, but air is drawn too"


def test_the_body_and_masks_are_cut_in_the_same_place() -> None:
    image = torch.rand(2, 40, 30)
    body = (image[:1] > 0.99).float()
    draw = RandScanTiled([8, 8]).set_random_state(3)
    tile = draw({"image": image, "body": body, "case_id": "a", "label": torch.tensor(0)})
    assert torch.equal(tile["body"], (tile["image"][:1] > 0.99).float())
    assert tile["case_id"] == "a" and tile["label"].ndim == 0


def test_scans_smaller_than_a_tile_are_padded_and_the_cached_scan_stays() -> None:
    image = torch.ones(1, 5, 12)
    tile = RandScanTiled([8, 8]).set_random_state(0)({"image": image})["image"]
    assert tile.shape == (1, 8, 8) and float(tile.sum()) == 5 * 8
    tile += 1
    assert float(image.max()) == 1


def test_loaders_draw_the_same_tiles_whatever_was_drawn_before(tmp_path: Path) -> None:
    cases = [{"image": _volume(tmp_path / f"{n}.nii.gz", (24, 20, 22), (1, 1, 1)), "case_id": str(n)} for n in range(3)]
    scan = ScanFormat(3, 24, roi_size=16)
    cached: Any = cached_dataset(cases, ScanPreprocessing(scan), progress=False)
    # tiles lie below a dataset that varies them, as synthetic anomalies do
    dataset = Dataset(cached, lambda case: case)
    loader = IterationLoader(dataset, batch_size=4, epoch_length=2, seed=5)
    first = [batch["image"] for batch in loader]
    assert first[0].shape == (4, 1, 16, 16, 16)
    cached[0]
    loader.set_epoch(0)
    assert all(torch.equal(one, other["image"]) for one, other in zip(first, loader, strict=True))
    visits = [batch["image"] for batch in PassLoader(dataset, batch_size=2)]
    assert [len(batch) for batch in visits] == [16, 8], "eight tiles of every scan"
    assert len({tuple(tile.flatten().tolist()) for tile in visits[0]}) == 16


# spacing


@pytest.mark.parametrize(("shape", "edges"), [((30, 24, 12), (1.0, 1.0, 3.0)), ((20, 21, 22), (2.0, 2.0, 2.0))])
def test_a_scan_is_brought_to_the_spacing_and_its_map_back(
    tmp_path: Path, shape: tuple[int, ...], edges: tuple[float, ...]
) -> None:
    path = _volume(tmp_path / "scan.nii.gz", shape, edges)
    preprocessing = ScanPreprocessing(ScanFormat(3, 32, spacing=2))
    case = preprocessing({"image": path})
    image: MetaTensor = case["image"]
    assert image.shape[1:] == tuple(round(length * edge / 2) for length, edge in zip(shape, edges, strict=True))
    np.testing.assert_allclose(image.pixdim, 2)
    restored = RestoreScanGridd("image", preprocessing, output_keys="scan")(case)["scan"]
    assert restored.shape[1:] == shape
    stored: Any = nib.load(path)
    np.testing.assert_allclose(restored.affine, stored.affine)
    own = stored.get_fdata() / 1000
    assert float(np.abs(restored[0].numpy() - own).mean()) < 0.05


def test_a_spacing_that_the_scan_has_changes_nothing(tmp_path: Path) -> None:
    path = _volume(tmp_path / "scan.nii.gz", (16, 17, 18), (2.0, 2.0, 2.0))
    whole = ScanPreprocessing(ScanFormat(3, [16, 17, 18]))({"image": path})["image"]
    spaced = ScanPreprocessing(ScanFormat(3, 32, spacing=2))({"image": path})["image"]
    assert torch.equal(whole.as_tensor(), spaced.as_tensor())


def test_coronal_slices_and_pictures_have_their_own_axes(tmp_path: Path) -> None:
    # a coronal slice as a 2D NIfTI file: its axes run to the left and up
    affine = np.array([[-1.0, 0, 0, 0], [0, 0, -1, 0], [0, 2, 0, 0], [0, 0, 0, 1]])
    pixels = (generate_case(2, 40, 1)[0][:40, :30] * 1000).astype(np.float32)
    nib.save(nib.Nifti1Image(pixels[..., None], affine), tmp_path / "slice.nii.gz")
    image = ScanPreprocessing(ScanFormat(2, 32, spacing=2))({"image": tmp_path / "slice.nii.gz"})["image"]
    assert sorted(image.shape[1:]) == [20, 30]


def test_refuses_a_spacing_of_more_voxels_than_fit(tmp_path: Path) -> None:
    path = _volume(tmp_path / "scan.nii.gz", (20, 20, 20), (1.0, 1.0, 1.0))
    with pytest.raises(InputError, match=r"too many voxels at this spacing.*10\.\d GiB.*larger --spacing"):
        ScanPreprocessing(ScanFormat(3, 32, spacing=0.0142))({"image": path})


@pytest.mark.parametrize(
    ("key", "value"), [("roi_size", 0), ("roi_size", [8, 8]), ("spacing", 0), ("spacing", [1, 2]), ("overlap", 0.95)]
)
def test_refuses_tiles_that_there_are_not(key: str, value: Any) -> None:
    with pytest.raises(InputError, match=key):
        ScanFormat(3, 32, **{key: value})
