"""Small components of masks."""

from __future__ import annotations

import torch

from medad_plugins.scorers import without_small_components


def test_small_components_go_and_large_ones_stay_in_every_case() -> None:
    mask = torch.zeros(2, 1, 8, 8, dtype=torch.bool)
    mask[0, 0, 0, :3] = True
    mask[0, 0, 4:7, 4:7] = True
    mask[1, 0, [1, 2, 3, 4], [1, 2, 3, 4]] = True  # connected by corners
    kept = without_small_components(mask, 4)
    assert int(kept[0].sum()) == 9 and not bool(kept[0, 0, 0].any())
    assert torch.equal(kept[1], mask[1])
    assert torch.equal(without_small_components(mask, 1), mask)
    assert not bool(without_small_components(torch.zeros_like(mask), 3).any())


def test_volumes() -> None:
    mask = torch.zeros(1, 1, 5, 5, 5, dtype=torch.bool)
    mask[0, 0, 1:3, 1:3, 1:3] = True
    mask[0, 0, 4, 4, 4] = True
    kept = without_small_components(mask, 2)
    assert int(kept.sum()) == 8 and not bool(kept[0, 0, 4, 4, 4])
