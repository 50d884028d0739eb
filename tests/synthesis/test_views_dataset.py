"""Every recipe's work in two views."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.transforms import Lambda, RandGaussianNoised

from medad_plugins.data import IterationLoader
from medad_plugins.synthesis import medmix, views_dataset
from medad_plugins.transforms import TwoViews
from synthesis.textured_scans import scan


def _dataset(dims: int, slice_axis: int | None = None, std: float = 0.05) -> Any:
    def prepare(case: dict[str, Any]) -> dict[str, Any]:
        return {**case, "image": torch.from_numpy(scan(dims, case["number"]))}

    cases: Any = [{"case_id": str(n), "number": n} for n in range(3)]
    view = RandGaussianNoised("image", prob=1.0, std=std, sample_std=False)
    network_dims = dims if slice_axis is None else 2
    recipes = [medmix(patches, foreign=slice_axis is None) for patches in (1, 2)]
    return views_dataset(cases, Lambda(prepare), recipes, view, spatial_dims=network_dims, slice_axis=slice_axis)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_batch_has_each_class_of_each_scan_twice(dims: int) -> None:
    loader = IterationLoader(_dataset(dims), batch_size=2, epoch_length=1, seed=3)
    (batch,) = list(loader)
    classes = batch["recipe_index"].tolist()
    assert classes == [0, 0, 1, 1, 2, 2] * 2
    one, two = batch["image"][0::2], batch["image"][1::2]
    difference = (one - two).flatten(1).std(1)
    # the same version, of two independent noises
    torch.testing.assert_close(torch.as_tensor(difference), torch.full((6,), 0.05 * 2**0.5), rtol=0.15, atol=0)


def test_batches_follow_from_the_seed() -> None:
    batches = [next(iter(IterationLoader(_dataset(2), 2, 1, seed)))["image"] for seed in (1, 1, 2)]
    assert torch.equal(batches[0], batches[1])
    assert not torch.equal(batches[0], batches[2])


def test_slices_of_a_volume_are_scans_of_their_own() -> None:
    versions = _dataset(3, slice_axis=2)[0]
    assert len(versions) == 8 * 3 * 2
    assert all(version["image"].shape == scan(3, 0).shape[:3] for version in versions)


def test_views_of_one_case() -> None:
    views = TwoViews(RandGaussianNoised("image", prob=1.0))
    views.set_random_state(seed=0)
    case: dict[str, Any] = {"image": torch.zeros(1, 4, 4), "recipe_index": 2}
    first, second = views(case)
    assert first["recipe_index"] == second["recipe_index"] == 2
    assert not torch.equal(first["image"], second["image"]) and not bool(case["image"].any())
    views.set_random_state(seed=0)
    assert torch.equal(views(case)[0]["image"], first["image"])


def test_views_of_slices() -> None:
    views = TwoViews(RandGaussianNoised("image", prob=0.0), slice_axis=1, slices=3)
    views.set_random_state(seed=0)
    volume = torch.from_numpy(scan(3, 0))
    found = [torch.as_tensor(view["image"]) for view in views({"image": volume})]
    assert len(found) == 6 and all(torch.equal(found[2 * n], found[2 * n + 1]) for n in range(3))
    slices = list(volume.unbind(2))
    assert all(any(torch.equal(one, each) for each in slices) for one in found)
    assert not torch.equal(found[0], found[2])
