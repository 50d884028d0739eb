"""The perceptual residual against a plain computation."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from medad_plugins.methods.ae import ConvAE
from medad_plugins.networks import PerceptualResidual


@pytest.mark.parametrize("spatial_dims", [2, 3])
@torch.no_grad()
def test_it_is_the_relative_difference_of_features(spatial_dims: int) -> None:
    torch.manual_seed(0)
    residual = PerceptualResidual(spatial_dims, 1, "resnet10", layers=(1, 2)).eval()
    one, other = torch.rand(2, 2, 1, *[32] * spatial_dims)
    expected = torch.zeros(2, 1, *[32] * spatial_dims)
    for layer in (0, 1):
        for case in range(2):
            found, own = (residual.features(image[case : case + 1])[layer][0] for image in (one, other))
            size = sum(abs(value) for value in own.flatten().tolist()) / own.numel()
            difference = ((found - own).abs().sum(0) / len(own) / size)[None, None]
            mode = "bilinear" if spatial_dims == 2 else "trilinear"
            expected[case] += functional.interpolate(difference, [32] * spatial_dims, mode=mode)[0] / 2
    torch.testing.assert_close(residual(one, other), expected, rtol=1e-3, atol=1e-5)
    assert float(residual(one, one).abs().max()) == 0


def test_gradients_reach_the_reconstruction_through_the_frozen_features() -> None:
    residual = PerceptualResidual(2, 1, "resnet10")
    one = torch.rand(1, 1, 32, 32, requires_grad=True)
    residual(one, torch.rand(1, 1, 32, 32)).mean().backward()
    assert one.grad is not None and float(one.grad.abs().max()) > 0
    assert not any(parameter.requires_grad for parameter in residual.parameters())


@torch.no_grad()
def test_in_the_autoencoder_it_travels_with_the_network() -> None:
    network = ConvAE(image_size=32, hidden_size=8, residual="perceptual", backbone="resnet10").train()
    assert not any(module.training for name, module in network.difference.named_modules() if name)
    network.eval()
    other = ConvAE(image_size=32, hidden_size=8, residual="perceptual", backbone="resnet10").eval()
    other.load_state_dict(network.state_dict())
    image = torch.rand(2, 1, 32, 32)
    assert torch.equal(network(image), other(image))
    torch.testing.assert_close(torch.jit.script(network)(image), network(image), rtol=1e-4, atol=1e-5)
