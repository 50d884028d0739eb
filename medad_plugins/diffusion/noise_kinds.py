"""Kinds of noise that a diffusion adds, by name."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from numpy.random import RandomState
from torch import Tensor
from torch.nn import functional

from medad_plugins.synthesis import fractal_noise

__all__ = ["NOISES", "coarse_noise", "draw_noise"]

NOISES = ("gaussian", "simplex", "coarse")


def _simplex(shape: Sequence[int], generator: torch.Generator | None, period: float) -> Tensor:
    seeds = torch.randint(2**31, (shape[0],), generator=generator).tolist()
    fields = [fractal_noise(RandomState(seed), shape[1:], octaves=6, persistence=0.8, period=period) for seed in seeds]
    return torch.stack([torch.from_numpy(field) for field in fields])


def coarse_noise(
    shape: Sequence[int], generator: torch.Generator | None = None, points: int = 16, deviation: float = 0.2
) -> Tensor:
    """Normal values on a coarse grid, linearly interpolated and shifted by a random number of pixels along each axis.

    Args:
        shape: ``(B, C, *spatial)``; every case and channel has noise of its own, and every case its shift.
        generator: on the processor; None draws from PyTorch's own.
        points: of the grid along each axis.
        deviation: of the values on the grid.

    Returns:
        float32, on the processor.

    Reference:
        Kascenas et al., "Denoising autoencoders for unsupervised anomaly detection in brain MRI", MIDL 2022.
    """
    spatial = list(shape[2:])
    grid = deviation * torch.randn(*shape[:2], *[points] * len(spatial), generator=generator)
    noise = functional.interpolate(grid, spatial, mode="bilinear" if len(spatial) == 2 else "trilinear")
    axes = list(range(1, 1 + len(spatial)))
    # rolled, or the grid's points, where the noise is strongest, would always lie in the same places
    rolls = [[int(torch.randint(edge, (), generator=generator)) for edge in spatial] for _ in noise]
    return torch.stack([field.roll(roll, axes) for field, roll in zip(noise, rolls)])


def draw_noise(
    kind: str, shape: Sequence[int], generator: torch.Generator | None = None, period: float = 64.0
) -> Tensor:
    """Noise, drawn for each case of its own.

    Args:
        kind: ``"gaussian"``, standard normal; ``"simplex"``, six octaves from ``period`` on, each 0.8 times the one
            before, whose standard deviation of about 0.5 is left as it is (AnoDDPM's); or ``"coarse"``, see
            `coarse_noise`.
        shape: ``(B, C, *spatial)``.
        generator: on the processor; None draws from PyTorch's own.
        period: of the coarsest octave of ``"simplex"``, in pixels. AnoDDPM's 64 is a quarter of its images; of an image
            of 64 pixels it makes a shift of all of its brightness.

    Returns:
        float32, on the processor.

    References:
        Ho et al., "Denoising diffusion probabilistic models", NeurIPS 2020; Wyatt et al., "AnoDDPM", CVPR workshops
        2022.
    """
    if kind == "gaussian":
        return torch.randn(*shape, generator=generator)
    if kind == "simplex":
        return _simplex(shape, generator, period)
    if kind == "coarse":
        return coarse_noise(shape, generator)
    raise ValueError(f"noise must be one of {NOISES}, got {kind!r}.")
