"""pDDPM: every box in one call, from what is around it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medad_plugins.methods.pddpm import PDDPM

SMALL: dict[str, Any] = {
    "width": 4,
    "multipliers": (1, 2),
    "attention_levels": (),
    "blocks": 1,
    "boxes": 2,
    "predicts": "sample",
    "schedule": "cosine",
    "level": 500,
    "steps": 1,
}


class _TellsTheRest(nn.Module):
    """Says of a scan that it is all as bright as what is not noised, which is what most pixels are."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, noisy: Tensor, times: Tensor) -> Tensor:
        self.calls += 1
        assert times.tolist() == [499] * len(noisy)
        return noisy.flatten(1).median(1).values.reshape([-1] + [1] * (noisy.dim() - 1)).expand_as(noisy)


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("noise", ["gaussian", "simplex"])
@torch.no_grad()
def test_a_box_that_differs_from_the_others_is_found_in_one_call_a_box(spatial_dims: int, noise: str) -> None:
    network = PDDPM(spatial_dims, **SMALL, noise=noise, noise_period=4.0).eval()
    tells = network.unet = _TellsTheRest()
    image = torch.full((2, 1, *[8] * spatial_dims), 0.5)
    corner = (slice(None), slice(None), *[slice(0, 4)] * spatial_dims)
    image[corner] = 0.9
    found = network(image)
    assert tells.calls == 2**spatial_dims
    torch.testing.assert_close(found[corner], torch.full_like(found[corner], 0.4), rtol=1e-3, atol=1e-3)
    if spatial_dims == 3:  # of an image, two of the three quarters that are left are no majority
        found[corner] = 0
        assert float(found.max()) < 1e-3
