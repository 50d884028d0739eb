"""The U-Net with attention, and the one conditioned on the time step."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from medad_plugins.networks import AttentionUNet, TimeUNet
from medad_plugins.networks.coders.attention_unet import LocationAttention
from medad_plugins.networks.coders.time_unet import time_embedding


def _unet(spatial_dims: int, **arguments: int) -> AttentionUNet:
    torch.manual_seed(0)
    network = AttentionUNet(spatial_dims, 3, 2, 8, **arguments)  # type: ignore[arg-type]
    for parameter in network.parameters():  # which end with zeros
        if not bool(parameter.any()):
            nn.init.normal_(parameter, 0, 0.2)
    return network.eval()


def _input(*grid: int, channels: int = 3) -> Tensor:
    return torch.rand(2, channels, *grid, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
@pytest.mark.parametrize("grid", [(8, 8), (7, 10), (1, 1), (4, 6, 5)])
def test_gives_a_map_of_the_same_grid_of_any_size(grid: tuple[int, ...]) -> None:
    network, x = _unet(len(grid)), _input(*grid)
    out = network(x)
    assert out.shape == (2, 2, *grid) and bool(torch.isfinite(out).all())
    torch.testing.assert_close(network(x[:1]), out[:1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.jit.script(network)(x), out, rtol=1e-4, atol=1e-5)


def test_starts_at_zero() -> None:
    assert not bool(AttentionUNet(2, 3, 2, 8)(_input(8, 8)).any())


def test_grids_are_as_wide_and_attend_as_configured() -> None:
    network = AttentionUNet(2, 5, 5, 4, multipliers=(1, 2, 4), blocks=2, attention_levels=(1, 2))
    widths = [[int(block.first[2].out_channels) for block in level.blocks] for level in network.down]  # type: ignore[union-attr]
    assert widths == [[4, 4], [8, 8], [16, 16]]
    attends = [[isinstance(a, LocationAttention) for a in level.attentions] for level in network.down]  # type: ignore[union-attr]
    assert attends == [[False, False], [True, True], [True, True]]


@torch.no_grad()
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_attention_is_the_softmax_of_scaled_products(spatial_dims: int) -> None:
    torch.manual_seed(0)
    attention = LocationAttention(spatial_dims, 8, head_channels=4)
    nn.init.normal_(attention.out.weight, 0, 0.5)  # type: ignore[arg-type]
    x = _input(*[3] * spatial_dims, channels=8)
    parts = attention.queries(attention.norm(x))[0].flatten(1)  # (24, locations)
    attended = []
    for head in range(2):
        query, key, value = (parts[8 * kind + 4 * head : 8 * kind + 4 * head + 4] for kind in range(3))
        weights = torch.softmax(query.T @ key / math.sqrt(4), 1)
        attended.append(value @ weights.T)
    expected = x[:1] + attention.out(torch.cat(attended).reshape(1, 8, *[3] * spatial_dims))
    torch.testing.assert_close(attention(x)[:1], expected, rtol=1e-4, atol=1e-5)


def test_every_skip_is_used() -> None:
    network, x = _unet(2), _input(8, 8)
    for level in network.down:
        for block in level.blocks:  # type: ignore[union-attr]
            block.second[2].weight.grad = None
    network(x).sum().backward()
    assert all(
        p.grad is not None and float(p.grad.abs().sum()) > 0
        for n, p in network.named_parameters()
        if "second.2.weight" in n
    )


def test_times_are_distinguished() -> None:
    found = time_embedding(torch.tensor([0, 3]), 5)
    frequencies = [1.0, math.exp(-math.log(10000) / 2)]
    for row, time in zip(found.tolist(), (0, 3), strict=True):
        expected = [*(math.cos(time * f) for f in frequencies), *(math.sin(time * f) for f in frequencies), 0]
        assert row == pytest.approx(expected, abs=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_the_time_unet_follows_each_samples_time(spatial_dims: int) -> None:
    torch.manual_seed(0)
    network = TimeUNet(spatial_dims, 1, 8)
    for parameter in network.parameters():
        if not bool(parameter.any()):
            nn.init.normal_(parameter, 0, 0.2)
    x = _input(*[8] * spatial_dims, channels=1)
    out = network(x, torch.tensor([5, 700]))
    assert out.shape == x.shape
    torch.testing.assert_close(network(x[1:], torch.tensor([700])), out[1:], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(network(x[:1], torch.tensor([700])), out[:1], atol=1e-3)
    with pytest.raises(ValueError, match="takes no context"):
        network(x, torch.tensor([5, 700]), torch.zeros(1))


@torch.no_grad()
def test_a_condition_is_joined_to_the_time() -> None:
    torch.manual_seed(0)
    network, x, times = TimeUNet(2, 1, 8, condition=3), _input(8, 8, channels=1), torch.tensor([5, 700])
    for parameter in network.parameters():
        nn.init.normal_(parameter, 0, 0.2)
    context = torch.rand(2, 3)
    first, _, second = network.embed_condition.children()
    spoken = second(nn.functional.silu(first(context)))
    expected = network.unet(x, torch.cat([network.embed(time_embedding(times, 8)), spoken], 1))
    torch.testing.assert_close(network(x, times, context), expected)
    with pytest.raises(ValueError, match="wants a context of 3 values"):
        network(x, times)


def test_sizes_must_be_positive() -> None:
    with pytest.raises(ValueError, match="width, multipliers and blocks must be positive"):
        AttentionUNet(2, 1, 1, 4, multipliers=())
