"""What a diffusion model is taught."""

from __future__ import annotations

import pytest
import torch
from monai.networks.schedulers import DDPMScheduler
from torch import Tensor, nn

from medad_plugins.diffusion import NoisingBatch, NoisingInferer


class _Times(nn.Module):
    def forward(self, x: Tensor, times: Tensor) -> Tensor:
        self.seen = x
        return x.bfloat16() * times.reshape(-1, *[1] * (x.dim() - 1))


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_scans_are_scaled_and_noised_by_their_time(spatial_dims: int) -> None:
    scans = torch.rand(4, 1, *[6] * spatial_dims, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(1)
    image, target, arguments, named = NoisingBatch(50)({"image": scans, "label": 0})
    torch.testing.assert_close(image, scans * 2 - 1)
    assert arguments == () and torch.equal(target, named["noise"])
    assert named["timesteps"].shape == (4,) and 0 <= int(named["timesteps"].min()) <= int(named["timesteps"].max()) < 50
    scheduler, network = DDPMScheduler(50), _Times()
    prediction = NoisingInferer(scheduler)(image, network, **named)
    products = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 50), 0)[named["timesteps"]]
    products = products.reshape(-1, *[1] * (spatial_dims + 1))
    expected = products.sqrt() * image + (1 - products).sqrt() * target
    torch.testing.assert_close(network.seen, expected)
    assert prediction.dtype == torch.float32


def test_the_same_seed_gives_the_same_noise() -> None:
    scans = torch.rand(2, 1, 4, 4)
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        drawn.append(NoisingBatch(1000)({"image": scans})[3])
    assert all(torch.equal(drawn[0][name], drawn[1][name]) for name in drawn[0])
    assert not torch.equal(drawn[0]["noise"], drawn[2]["noise"])
