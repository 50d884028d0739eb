"""The scan stays, its copy is changed by whatever transforms there are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import RandCoarseDropout, RandCoarseShuffle, RandHistogramShift

from medad_plugins.synthesis import ChangedCopyd


def _damage(dims: int) -> ChangedCopyd:
    return ChangedCopyd(
        "image",
        [
            RandHistogramShift((4, 6), prob=0.5),
            RandCoarseShuffle(5, [2] * dims, max_spatial_size=[4] * dims, prob=0.5),
            RandCoarseDropout(1, [4] * dims, max_holes=3, prob=0.5),
        ],
    )


@pytest.mark.parametrize("shape", [(1, 24, 32), (3, 16, 16), (2, 16, 24, 16)])
def test_scan_first_then_its_changed_copy(shape: tuple[int, ...]) -> None:
    transform, changed = _damage(len(shape) - 1), 0
    for seed in range(20):
        image = torch.rand(shape)
        before = image.clone()
        transform.set_random_state(seed=seed)
        result = transform({"image": image, "label": 1})
        assert result["label"] == 1 and result["image"].shape == (2 * shape[0], *shape[1:])
        assert torch.equal(result["image"][: shape[0]], before)
        assert torch.equal(image, before), "cached scans are used again"
        assert result["image"].dtype == torch.float32
        changed += not torch.equal(result["image"][shape[0] :], before)
    assert 12 <= changed < 20, "each with probability 1/2"


def test_copy_is_what_the_transforms_make() -> None:
    image = torch.rand(1, 8, 8)
    joined = ChangedCopyd("image", [lambda x: 2 * x, lambda x: x + 1])({"image": image})["image"]
    torch.testing.assert_close(joined[1:], 2 * image + 1)


def test_shuffling_keeps_the_values_of_its_window() -> None:
    image = torch.arange(64.0).reshape(1, 8, 8)
    transform = ChangedCopyd("image", RandCoarseShuffle(1, [4, 4], prob=1.0))
    transform.set_random_state(seed=0)
    copy = transform({"image": image})["image"][1]
    rows, columns = np.nonzero((copy != image[0]).numpy())
    box = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    assert 2 <= np.ptp(rows) < 4 and 2 <= np.ptp(columns) < 4
    assert sorted(copy[box].ravel().tolist()) == sorted(image[0][box].ravel().tolist())


def test_same_seed_same_copy() -> None:
    image, transform = torch.rand(1, 16, 16), _damage(2)
    results = []
    for seed in (1, 1, 2):
        transform.set_random_state(seed=seed)
        results.append(torch.stack([transform({"image": image})["image"] for _ in range(5)]))
    assert torch.equal(results[0], results[1]) and not torch.equal(results[0], results[2])
    assert not torch.equal(results[0][0], results[0][1])


def test_meta_data_come_along() -> None:
    image = MetaTensor(torch.rand(1, 16, 16), meta={"filename_or_obj": "a.png"})
    joined = _damage(2)({"image": image})["image"]
    assert isinstance(joined, MetaTensor) and joined.meta["filename_or_obj"] == "a.png"
