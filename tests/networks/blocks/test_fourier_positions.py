"""Where a pixel lies, as channels, and the convolution that takes them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from medad_plugins.networks import FourierPositions, PositionedConvolution


@pytest.mark.parametrize("size", [(5, 8), (3, 4, 6)])
def test_coordinates_sines_and_cosines_by_hand(size: tuple[int, ...]) -> None:
    positions = FourierPositions(len(size), frequencies=3, scale=2.0)
    encoded = positions(torch.rand(4, 1, *size))
    assert encoded.shape == (1, len(size) + 6, *size) == (1, positions.channels, *size)
    frequencies = positions.frequencies.numpy()
    for place in np.ndindex(*size):
        centre = [(2 * p + 1) / n - 1 for p, n in zip(place, size, strict=True)]
        expected = list(centre)
        turns = [2 * math.pi * sum(c * float(frequencies[a, k]) for a, c in enumerate(centre)) for k in range(3)]
        expected += [math.sin(turn) for turn in turns] + [math.cos(turn) for turn in turns]
        assert encoded[(0, slice(None), *place)].tolist() == pytest.approx(expected, abs=1e-4)


def test_the_papers_numbers_are_the_default() -> None:
    positions = FourierPositions(3)
    assert positions.channels == 3 + 64
    assert float(FourierPositions(2, 4000).frequencies.std()) == pytest.approx(12, rel=0.03)


def test_every_network_has_the_same_frequencies_whatever_the_seed() -> None:
    torch.manual_seed(1)
    first = FourierPositions(2)
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    assert torch.equal(first.frequencies, FourierPositions(2).frequencies)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert "frequencies" in first.state_dict()


def test_reduced_precision_leaves_the_phases_alone() -> None:
    positions, image = FourierPositions(2), torch.rand(1, 1, 32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(positions(image), FourierPositions(2)(image))
    with torch.autocast("cpu", torch.bfloat16):
        reduced = positions(image)
    torch.testing.assert_close(reduced, positions(image))
    assert reduced.dtype == torch.float32


@pytest.mark.parametrize("size", [(6, 9), (4, 5, 6)])
@torch.no_grad()
def test_it_is_one_convolution_of_image_and_places(size: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    convolution, image = PositionedConvolution(len(size), 2, 5), torch.rand(3, 2, *size)
    torch.testing.assert_close(convolution(image), convolution.of_image(image))
    convolution.of_position.weight.normal_(0, 0.1)
    places = convolution.positions(image).expand(3, *[-1] * (len(size) + 1))
    kernel = torch.cat([convolution.of_image.weight, convolution.of_position.weight], 1)
    function = functional.conv2d if len(size) == 2 else functional.conv3d
    expected = function(torch.cat([image, places], 1), kernel, convolution.of_image.bias, padding=1)
    torch.testing.assert_close(convolution(image), expected, rtol=1e-4, atol=1e-4)
