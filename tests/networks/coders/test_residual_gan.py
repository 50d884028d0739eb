"""How the residual networks of Wasserstein GANs start."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from medad_plugins.methods.f_anogan import FAnoGAN


def _scans(spatial_dims: int, edge: int) -> Tensor:
    """Smooth scans of -1..1."""
    noise = torch.randn(8, 1, *[edge // 8] * spatial_dims, generator=torch.Generator().manual_seed(0))
    mode = "bilinear" if spatial_dims == 2 else "trilinear"
    return nn.functional.interpolate(noise, scale_factor=8.0, mode=mode).tanh()


@pytest.mark.parametrize(("spatial_dims", "edge"), [(2, 64), (3, 16)])
def test_variances_are_those_of_the_public_code(spatial_dims: int, edge: int) -> None:
    """He's on the paths of blocks, Glorot's in the first and last layers and on shortcuts."""
    torch.manual_seed(0)
    network = FAnoGAN(spatial_dims, image_size=edge, width=16, latent_size=32)
    for name, module in network.named_modules():
        if not isinstance(module, (nn.Linear, nn.modules.conv._ConvNd)):
            continue
        taps = module.weight[0, 0].numel()
        expected = (4 if ".path." in name else 2) / (taps * (module.weight.shape[0] + module.weight.shape[1]))
        assert float(module.weight.detach().var()) == pytest.approx(expected, rel=0.35), name
        assert module.bias is not None and not module.bias.any()


def test_latents_do_not_begin_saturated() -> None:
    """With He's variance everywhere 60 % of the latents lie beyond 0.99, where tanh lets nothing through."""
    torch.manual_seed(0)
    network = FAnoGAN(image_size=64, width=16).train()
    scans = _scans(2, 64)
    with torch.no_grad():
        latents, features = network.encoder(scans), network.critic(scans)[1]
    assert float((latents.abs() > 0.99).float().mean()) < 0.2
    assert float(features.square().mean()) < 4, "beside which a squared residual would count nothing"
