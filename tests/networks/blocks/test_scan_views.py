"""A scan turned and mirrored."""

from __future__ import annotations

import pytest
import torch

from medad_plugins.networks import ScanViews


def test_views_are_turned_and_mirrored() -> None:
    image = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ScanViews()(image)[0], image) and len(ScanViews()(image)) == 1
    quarters = ScanViews(rotations=4)(image)
    expected = {k: image.rot90(k, (2, 3)) for k in range(4)}
    torch.testing.assert_close(quarters[2], expected[2], rtol=0, atol=1e-4)
    # the angles rise one way or the other
    order = (1, 3) if torch.allclose(quarters[1], expected[1], atol=1e-4) else (3, 1)
    torch.testing.assert_close(quarters[1], expected[order[0]], rtol=0, atol=1e-4)
    torch.testing.assert_close(quarters[3], expected[order[1]], rtol=0, atol=1e-4)
    both = ScanViews(2, mirrored=1, rotations=2)(image)
    assert len(both) == 4 and torch.equal(both[2], image.flip(3)) and torch.equal(both[3], both[1].flip(3))
    assert [view.shape for view in ScanViews(3, 2, 3)(torch.rand(1, 1, 8, 6, 4))] == [(1, 1, 8, 6, 4)] * 6


@pytest.mark.parametrize("settings", [{"rotations": 0}, {"mirrored": 2}, {"spatial_dims": 3, "mirrored": -1}])
def test_refusals(settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="rotations must be positive and mirrored one of the"):
        ScanViews(**settings)
