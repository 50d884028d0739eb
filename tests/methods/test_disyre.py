"""DISYRE by its paper: shares and times, restoration in steps, the same times in training as in scoring."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.random import RandomState
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.errors import InputError
from medad_plugins.methods.disyre import DISYRE
from medad_plugins.synthesis import ClusterBias, Host, MatchRange, Region
from medad_plugins.synthesis.published import disyre


def _disyre(spatial_dims: int = 2, **others: Any) -> DISYRE:
    torch.manual_seed(0)
    network = DISYRE(spatial_dims, 1, width=4, multipliers=(1, 2), blocks=1, **others)
    last = network.unet.unet.last[-1]
    assert isinstance(last, nn.Conv2d | nn.Conv3d)
    nn.init.normal_(last.weight, std=0.1)  # it begins at zero, where nothing would show
    return network


def _scan(*size: int) -> Tensor:
    return torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(0))


def test_shares_grow_with_time_and_times_are_their_inverse() -> None:
    network = _disyre()
    betas = np.linspace(1e-3, 0.2, 100)
    expected = [1 - np.prod(1 - betas[: time + 1]) for time in range(100)]
    np.testing.assert_allclose(network.shares, expected, rtol=1e-6)
    assert network.shares == sorted(network.shares) and network.shares[0] == pytest.approx(0.001)
    strengths = torch.tensor([0.0, 0.001, 0.0011, 0.5, 1.0])
    found = network.times_of(strengths).tolist()
    assert found == [next((t for t in range(100) if expected[t] >= s - 1e-9), 99) for s in strengths.tolist()]


def test_stronger_anomalies_are_of_later_times_and_scoring_begins_with_the_last() -> None:
    """In the public code training and scoring count in opposite directions."""
    network = _disyre()
    asked: list[list[int]] = []
    network.unet.register_forward_pre_hook(lambda module, arguments: asked.append(arguments[1].tolist()))
    label = torch.zeros(2, 1, 16, 16)
    label[0, 0, 3:6, 3:6], label[1, 0, 3:6, 3:6] = 0.1, 0.9
    network.train()
    network(torch.cat([_scan(16, 16), label], 1))
    weak, strong = asked.pop()
    assert weak == network.times_of(torch.tensor([0.1])) < network.times_of(torch.tensor([0.9])) == strong
    network.eval()
    network(_scan(16, 16))
    assert [times[0] for times in asked] == [99, 80, 60, 40, 20] and network.shares[99] > 0.99


@pytest.mark.parametrize("size", [(16, 20), (8, 12, 10)])
def test_map_by_plain_computation(size: tuple[int, ...]) -> None:
    network, image = _disyre(len(size), steps=3).eval(), _scan(*size).clamp_min(0.05)
    image[:, :, :4] = 0
    with torch.no_grad():
        found = network(image)
        total, current, times = torch.zeros_like(image), image, [99, 66, 33]
        for place, time in enumerate(times):
            clean = current + network.unet(current * 2 - 1, torch.full((2,), time))
            total += (clean - image).abs()
            if place < 2:
                share = network.shares[times[place + 1]]
                current = share * image + (1 - share) * clean
    expected = total / 3
    expected[:, :, :4] = 0
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(network.reconstruct(image), clean, rtol=1e-4, atol=1e-6)


def test_more_steps_than_times_are_refused() -> None:
    with pytest.raises(InputError, match="so many times"):
        DISYRE(width=4, steps=101)


def test_patches_get_the_range_of_what_they_lie_on() -> None:
    content, own = np.array([[[0.2, 0.4, 0.6]]], np.float32), np.array([[[0.5, 0.7, 0.6]]], np.float32)
    np.testing.assert_allclose(MatchRange()(RandomState(0), content, own), [[[0.5, 0.6, 0.7]]], rtol=1e-5)


@pytest.mark.parametrize("size", [(40, 40), (20, 20, 20)])
def test_tissues_become_brighter_or_darker_as_wholes(size: tuple[int, ...]) -> None:
    image = np.zeros((1, *size), np.float32)
    image[:, 10:], image[:, 15:] = 0.4, 0.6
    rng = RandomState(1)
    image += rng.normal(0, 0.01, image.shape).astype(np.float32)
    host, region = Host(image, (1.0,) * len(size)), Region((0,) * len(size), np.ones(size, np.float32))
    values, factor = ClusterBias(lambda rng: 0.6, largest=0.2, clusters=3, sigma=0.0)(rng, host, region, None)
    change = values - image
    free = (values > image.min()) & (values < image.max())
    assert factor == 0.6 and np.allclose(np.abs(change[free]), 0.12, atol=1e-5)
    for part in (slice(11, 14), slice(16, None)):
        of_tissue = change[:, part][free[:, part]]
        assert len(of_tissue) == 0 or np.ptp(of_tissue) < 1e-5


def test_labels_tell_the_strength() -> None:
    rng = RandomState(0)
    scans = [functional.interpolate(_scan(6, 6), (64, 64), mode="bilinear")[i].numpy() for i in range(2)]
    for recipe in disyre():
        strengths = []
        for _ in range(12):
            made = recipe(rng, Host(scans[0], (1.0, 1.0)), lambda: scans[1])
            labels = np.unique(made.target[made.mask])
            assert len(labels) <= 1 and (not len(labels) or labels[0] == pytest.approx(made.factor, rel=1e-5))
            strengths.append(made.factor)
        assert np.ptp(strengths) > 0.3


@pytest.mark.costly
def test_it_learns_to_restore() -> None:
    torch.manual_seed(0)
    network = DISYRE(2, 1, width=8, multipliers=(1, 2), blocks=1)
    texture = functional.interpolate(torch.rand(1, 1, 6, 6), (32, 32), mode="bilinear")
    normal = (0.3 + 0.2 * texture + 0.02 * torch.randn(8, 1, 32, 32)).clamp(0.05, 1)

    def spoilt(strength: Tensor) -> tuple[Tensor, Tensor]:
        row, column = (int(torch.randint(0, 24, ())) for _ in "ab")
        label = torch.zeros(len(strength), 1, 32, 32)
        label[:, :, row : row + 8, column : column + 8] = strength.reshape(-1, 1, 1, 1)
        return label, (normal[: len(strength)] + 0.5 * label).clamp(0, 1)

    torch.manual_seed(1)
    label, changed = spoilt(torch.ones(2))

    def apart() -> float:
        network.eval()
        with torch.no_grad():
            found = network(changed)
        return float(found[label > 0].mean() / found[label == 0].mean().clamp_min(1e-6))

    assert float(network.eval()(changed).max()) < 1e-6, "it begins with changing nothing"
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    network.train()
    for _ in range(80):
        label_now, scan = spoilt(torch.rand(8))
        loss = functional.mse_loss(network(torch.cat([scan, label_now], 1)), normal)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert apart() > 3


def test_scripted_it_gives_the_same_map() -> None:
    network, image = _disyre().eval(), _scan(16, 20)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.script(network)(image), network(image), rtol=1e-5, atol=1e-6)
