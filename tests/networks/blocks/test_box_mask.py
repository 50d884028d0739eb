"""Boxes painted over scans."""

from __future__ import annotations

import pytest
import torch

from medad_plugins.networks.blocks.box_mask import mask_boxes


@pytest.mark.parametrize("size", [(64, 64), (32, 32, 64)])
def test_one_black_box_of_ten_64ths_in_each_case(size: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    image = torch.rand(5, 2, *size) * 0.5 + 0.5
    masked = mask_boxes(image, "one")
    places = set()
    for one, other in zip(masked, image, strict=True):
        changed = (one != other).all(0)
        assert float(one[:, changed].abs().max()) == 0 and torch.equal(one[:, ~changed], other[:, ~changed])
        at = changed.nonzero()
        edges = (at.amax(0) - at.amin(0) + 1).tolist()
        assert edges == [round(edge * 10 / 64) for edge in size] and int(changed.sum()) == torch.tensor(edges).prod()
        places.add(tuple(at.amin(0).tolist()))
    assert len(places) > 1, "every case has a place of its own"


def test_a_box_reaches_every_border_and_none_beyond() -> None:
    torch.manual_seed(0)
    black = (mask_boxes(torch.ones(4000, 1, 16, 16), "one") == 0)[:, 0]
    assert set(black.sum((1, 2)).tolist()) == {4} and bool(black.any(0).all())


@pytest.mark.parametrize("dims", [2, 3])
def test_several_boxes_none_to_three_in_greys_of_the_batch(dims: int) -> None:
    torch.manual_seed(0)
    image = torch.full((300, 1, *[16] * dims), 0.5)
    image[0] = 0.2
    image[1] = 0.8
    masked = mask_boxes(image, "several")
    greys = [len(one.unique()) - 1 for one in masked[2:]]
    assert set(greys) == {0, 1, 2, 3} and 0.2 <= float(masked.min()) and float(masked.max()) < 0.8001
    changed = (masked != image).flatten(1).float().mean(1)
    assert float(changed.max()) <= 3 * 0.5**dims


def test_none_is_the_scan_itself_and_others_are_refused() -> None:
    image = torch.rand(2, 1, 8, 8)
    assert mask_boxes(image, "none") is image
    with pytest.raises(ValueError, match="mask_input must be one of"):
        mask_boxes(image, "all")
