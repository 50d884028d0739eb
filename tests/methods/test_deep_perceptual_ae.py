"""The deep perceptual autoencoder: its blocks, its loss and its map against plain computations."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.errors import InputError
from medad_plugins.losses import RelativePerceptualL1
from medad_plugins.methods.deep_perceptual_ae import DeepPerceptualAE
from medad_plugins.methods.deep_perceptual_ae.coder import PreActivationBlock


def _network(spatial_dims: int = 2, **others: Any) -> DeepPerceptualAE:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"image_size": 32, "width": 4, "backbone": "resnet10", "weights": "none"} | others
    return DeepPerceptualAE(spatial_dims, 1, **settings)


def _scan(*size: int, batch: int = 2, seed: int = 0) -> Tensor:
    return torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(seed))


def _measured(network: DeepPerceptualAE, image: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Have the features standardised by some scans; mean and deviation of each channel of each layer."""
    with torch.no_grad():
        network.set_centre(network.embed(image).mean(0))
        found = []
        for features in network.difference.features(image):
            values = features.transpose(0, 1).flatten(1)
            found.append((values.mean(1), values.std(1, unbiased=False)))
    least = 1e-2 * torch.cat([deviation for _, deviation in found]).mean() + 1e-6
    return [(mean, deviation.clamp_min(least)) for mean, deviation in found]


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_loss_and_map_are_the_relative_difference_of_standardised_features(spatial_dims: int) -> None:
    size = [32] * spatial_dims
    network = _network(spatial_dims, layers=[1, 2]).eval()
    image, other = _scan(*size), _scan(*size, seed=1)
    moments = _measured(network, _scan(*size, batch=3, seed=2))
    expected, losses = torch.zeros(2, 1, *size), []
    with torch.no_grad():
        for case in range(2):
            for layer, (mean, deviation) in enumerate(moments):
                true, found = (
                    ((network.difference.features(x[case : case + 1])[layer][0].movedim(0, -1) - mean) / deviation)
                    for x in (image, other)
                )
                relative = (found - true).abs() / true.abs().mean()
                losses.append(float(relative.mean()))
                mode = "bilinear" if spatial_dims == 2 else "trilinear"
                coarse = relative.mean(-1)[None, None]
                expected[case] += functional.interpolate(coarse, size, mode=mode, align_corners=False)[0] / 2
        torch.testing.assert_close(network.difference(other, image), expected, rtol=1e-3, atol=1e-4)
        loss = float(RelativePerceptualL1(network.difference)(other, image))
    assert loss == pytest.approx(sum(losses) / 4, rel=1e-3)
    # the score that the paper takes, the loss of one scan, is the mean of the map
    assert float(expected.mean()) == pytest.approx(loss, rel=1e-3)


def test_the_map_compares_the_reconstruction_and_only_the_coder_learns() -> None:
    network, image = _network(), _scan(32, 32)
    with torch.no_grad():
        rebuilt = network.reconstruct(image)
        torch.testing.assert_close(network.eval()(image), network.difference(rebuilt, image))
    loss = RelativePerceptualL1(network.difference, pixel_weight=0.5)
    rebuilt = network.train()(image)
    plain = RelativePerceptualL1(network.difference)(rebuilt, image)
    value = loss(rebuilt, image)
    assert float((value - plain).detach()) == pytest.approx(
        0.5 * float((rebuilt - image).abs().mean().detach()), rel=1e-4
    )
    value.backward()
    learnt = {name.split(".")[0] for name, p in network.named_parameters() if p.grad is not None and bool(p.grad.any())}
    assert learnt == {"encoder", "decoder"}


@pytest.mark.parametrize("resize", ["none", "half", "double"])
def test_a_block_written_out(resize: str) -> None:
    torch.manual_seed(0)
    block: Any = PreActivationBlock(2, 3, 5, resize)
    x = torch.randn(2, 3, 6, 8)
    grid = {"none": x, "half": functional.avg_pool2d(x, 2), "double": x.repeat_interleave(2, 2).repeat_interleave(2, 3)}
    shortcut = block.shortcut[1](grid[resize])
    torch.testing.assert_close(block(x), shortcut)  # at first it changes nothing else
    nn.init.normal_(block.path[4].weight)
    activated = functional.leaky_relu(x, 0.2)
    if resize == "half":
        activated = functional.avg_pool2d(activated, 2)
    elif resize == "double":
        activated = activated.repeat_interleave(2, 2).repeat_interleave(2, 3)
    expected = block.path[4](functional.leaky_relu(block.path[2](activated), 0.2)) + shortcut
    torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize(
    ("bottleneck", "size", "latent"), [("vector", (32, 48), (16, 1, 1)), ("spatial", (32, 48), (3, 8, 12))]
)
def test_latents_are_as_narrow_as_they_are_said_to_be(bottleneck: str, size: Any, latent: Any) -> None:
    network = _network(image_size=size, bottleneck=bottleneck, latent_size=latent[0]).eval()
    image = _scan(*size)
    with torch.no_grad():
        assert tuple(network.encoder(image).shape[1:]) == latent
        assert network.reconstruct(image).shape == image.shape


def test_widths_and_sizes_that_cannot_be() -> None:
    first: Any = _network(width=[2, 3, 4, 5]).encoder
    assert first[0].out_channels == 2
    with pytest.raises(InputError, match="widths"):
        _network(width=[2, 3])
    with pytest.raises(InputError, match="halved"):
        _network(image_size=33)
    with pytest.raises(ValueError, match="bottleneck"):
        _network(bottleneck="narrow")


def test_other_backbones_and_features_as_they_are() -> None:
    network, image = _network(backbone="efficientnet_lite0", standardise=False, image_size=64).eval(), _scan(64, 64)
    with torch.no_grad():
        assert float(network(image).min()) >= 0
    assert not any("shift" in name for name in network.state_dict())


def test_moments_travel_with_the_network_also_scripted() -> None:
    network, image = _network().eval(), _scan(32, 32)
    _measured(network, _scan(32, 32, batch=3, seed=2))
    other = _network().eval()
    other.load_state_dict(network.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(other(image), network(image))
        torch.testing.assert_close(torch.jit.script(network)(image), network(image), rtol=1e-4, atol=1e-5)
