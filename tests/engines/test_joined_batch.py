"""Images of a case as one input."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from medad_plugins.engines import JoinedBatch

VOLUMES = torch.arange(2 * 1 * 3 * 4 * 5, dtype=torch.float32).reshape(2, 1, 3, 4, 5)
BATCH = {"image": MetaTensor(VOLUMES), "clean": -VOLUMES, "mask": torch.cat([VOLUMES * 2, VOLUMES * 3], 1)}


def test_the_images_lie_in_the_order_of_the_keys() -> None:
    joined, target = JoinedBatch(["clean", "image", "mask"])(BATCH)
    assert type(joined) is torch.Tensor and joined is target
    assert torch.equal(joined, torch.cat([-VOLUMES, VOLUMES, 2 * VOLUMES, 3 * VOLUMES], 1))


def test_slices_of_all_are_cut_in_the_same_places() -> None:
    torch.manual_seed(0)
    joined, _ = JoinedBatch(["mask", "image"], slice_axis=2, count=3)(BATCH)
    assert joined.shape == (6, 3, 3, 4)
    assert torch.equal(joined[:, :1], 2 * joined[:, 2:]) and torch.equal(joined[:, 1:2], 3 * joined[:, 2:])


def test_the_image_must_be_among_them() -> None:
    with pytest.raises(ValueError, match="image must be one of the keys"):
        JoinedBatch(["clean", "mask"])
