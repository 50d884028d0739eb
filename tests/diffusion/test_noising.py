"""What a diffusion model is trained on."""

from __future__ import annotations

import ignite.distributed as idist
import pytest
import torch
from monai.networks.schedulers import DDPMScheduler
from torch import Tensor, nn

from medad_plugins.diffusion import NoisingBatch, NoisingInferer, draw_noise


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


@pytest.mark.parametrize("kind", ["simplex", "coarse"])
def test_other_noise_and_another_target(kind: str) -> None:
    scans = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(3)
    image, target, _, named = NoisingBatch(50, kind, "sample")({"image": scans})
    torch.manual_seed(3)
    assert torch.equal(named["noise"], draw_noise(kind, scans.shape))
    assert torch.equal(target, image), "the clean scan is to be predicted"


def test_processes_share_what_one_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    scans = torch.rand(4, 1, 8, 8)
    torch.manual_seed(0)
    whole = NoisingBatch(1000, boxes=2)({"image": scans})[3]
    monkeypatch.setattr(idist, "get_world_size", lambda: 2)
    for rank in (0, 1):
        monkeypatch.setattr(idist, "get_rank", lambda rank=rank: rank)
        torch.manual_seed(0)
        own = NoisingBatch(1000, boxes=2)({"image": scans[rank::2]})[3]
        assert own.keys() == {"noise", "timesteps", "noised"}
        assert all(torch.equal(own[name], whole[name][rank::2]) for name in own)
