"""Scans and classes of a batch."""

from __future__ import annotations

import torch
from monai.data import MetaTensor

from medad_plugins.engines import ClassBatch


def test_the_image_is_plain_and_the_classes_are_whole_numbers() -> None:
    batch = {"image": MetaTensor(torch.rand(3, 1, 4, 4)), "recipe_index": [2, 0, 1], "other": torch.tensor([1, 1, 1])}
    image, classes = ClassBatch()(batch, "cpu")
    assert type(image) is torch.Tensor and torch.equal(image, batch["image"].as_tensor())  # type: ignore[attr-defined]
    assert classes.dtype == torch.long and classes.tolist() == [2, 0, 1]
    assert ClassBatch("other")(batch)[1].tolist() == [1, 1, 1]
