"""The length of a lossless code, value by value in plain Python."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch

from medad_plugins.scorers.coded_length import coded_length, gaussian_code_length


def _plain(scan: np.ndarray) -> float:
    counts: Counter[int] = Counter()
    slices = np.rint(scan * 255).astype(int).reshape(-1, *scan.shape[-2:])
    for image in slices:
        for i in range(image.shape[0]):
            for j in range(image.shape[1]):
                left = image[i, j - 1] if j else 0
                above = image[i - 1, j] if i else 0
                corner = image[i - 1, j - 1] if i and j else 0
                counts[image[i, j] - sorted((left, above, left + above - corner))[1]] += 1
    total = sum(counts.values())
    return -sum(n / total * math.log(n / total) for n in counts.values())


@pytest.mark.parametrize("shape", [(1, 7, 9), (3, 6, 5), (1, 3, 5, 6)])
def test_it_is_the_entropy_of_what_is_not_predicted(shape: tuple[int, ...]) -> None:
    scans = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0)) * 0.1
    found = coded_length(scans)
    assert found.tolist() == pytest.approx([_plain(scan.numpy()) for scan in scans], rel=1e-4)


def test_plain_scans_are_short_and_noise_is_long() -> None:
    ramp = torch.linspace(0, 1, 32).expand(1, 1, 32, 32)
    noise = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    assert float(coded_length(torch.zeros(1, 1, 32, 32))) == 0
    assert float(coded_length(ramp)) < 1.0 < 5 < float(coded_length(noise))


def test_a_gaussians_code_is_its_entropy_in_steps_of_one_level() -> None:
    sigma = 0.1
    levels = np.arange(-2000, 2001)
    shares = np.exp(-0.5 * (levels / 255 / sigma) ** 2)
    shares /= shares.sum()
    entropy = -(shares[shares > 0] * np.log(shares[shares > 0])).sum()
    assert float(gaussian_code_length(torch.tensor([sigma**2]))) == pytest.approx(entropy, rel=1e-4)
    assert math.isfinite(float(gaussian_code_length(torch.zeros(1))))
