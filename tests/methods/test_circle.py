"""The U-Net with draws of channels: the same draws for every scan at test time, others in training."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from medad_plugins.methods.circle import DropoutUNet

FEATURES = (4, 8, 8)


def _network(spatial_dims: int = 2, **options: float) -> DropoutUNet:
    torch.manual_seed(0)
    return DropoutUNet(spatial_dims, 1, FEATURES, **options)  # type: ignore[arg-type]


def _image(*size: int, batch: int = 2) -> Tensor:
    return torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("size", [(16, 12), (9, 12, 11)])
@torch.no_grad()
def test_the_map_is_the_mean_over_the_kept_draws(size: tuple[int, ...]) -> None:
    network, image = _network(len(size), dropout=0.3, passes=4).eval(), _image(*size)
    said = []
    for draw in network.kept:
        levels, parts = network.unet.encode(image), draw.split(FEATURES)
        thin = [level * part.reshape([1, -1] + [1] * len(size)) for level, part in zip(levels, parts, strict=True)]
        said.append(1 / (1 + torch.exp(-network.unet.decode(thin))))
    torch.testing.assert_close(network(image), torch.stack(said).mean(0), rtol=1e-4, atol=1e-6)
    mean, variance = network.mean_and_variance(image)
    assert torch.equal(mean, network(image))
    torch.testing.assert_close(variance, torch.stack(said).var(0, unbiased=False), rtol=1e-2, atol=1e-6)
    assert float(variance.max()) > 0


def test_the_draws_are_of_the_requested_share_scaled_and_in_the_state_dict() -> None:
    network = _network(dropout=0.25, passes=500)
    assert network.kept.shape == (500, sum(FEATURES))
    values = sorted({round(float(value), 5) for value in network.kept.unique()})
    assert values == [0, round(4 / 3, 5)]
    assert float((network.kept == 0).float().mean()) == pytest.approx(0.25, abs=0.02)
    assert float(network.kept.mean()) == pytest.approx(1, abs=0.03)
    other = _network(dropout=0.25, passes=500)
    other.kept.zero_()
    other.load_state_dict(network.state_dict())
    assert torch.equal(other.kept, network.kept)


@torch.no_grad()
def test_a_map_needs_no_random_numbers_and_no_batch_mates() -> None:
    network, images = _network().eval(), _image(16, 16, batch=3)
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    together = network(images)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(network(images), together)
    for i in range(3):
        torch.testing.assert_close(network(images[i : i + 1])[0], together[i], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(torch.jit.script(network)(images), together, rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_training_draws_for_each_case_anew() -> None:
    network, image = _network(dropout=0.4).train(), _image(16, 16, batch=1)
    torch.manual_seed(3)
    twice = network(torch.cat([image, image]))
    assert not torch.allclose(twice[0], twice[1])
    assert not torch.allclose(network(image), network(image))
    torch.manual_seed(3)
    assert torch.equal(network(torch.cat([image, image])), twice)


@torch.no_grad()
def test_without_dropout_it_is_the_plain_network() -> None:
    network, image = _network(dropout=0.0, passes=3), _image(16, 16)
    expected = network.unet(image)
    torch.testing.assert_close(network.train()(image), expected)
    mean, variance = network.eval().mean_and_variance(image)
    torch.testing.assert_close(mean, torch.sigmoid(expected))
    assert float(variance.max()) < 1e-6


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match=r"dropout must lie in 0..1 and passes be positive, got 1.0 and 10"):
        DropoutUNet(dropout=1.0)
