"""Kinds of noise that a diffusion adds, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from numpy.random import RandomState
from torch import Tensor
from torch.nn import functional

from medad_plugins.scorers import gaussian_mean
from medad_plugins.synthesis import fractal_noise

__all__ = ["NOISES", "coarse_noise", "draw_noise", "pyramid_noise", "synomaly_noise"]

NOISES = ("gaussian", "simplex", "coarse", "pyramid", "synomaly")
DIRECTIONS = ("brighter", "darker", "either")


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


def pyramid_noise(shape: Sequence[int], generator: torch.Generator | None = None, discount: float = 0.8) -> Tensor:
    """Normal values on grids that become coarser and coarser, linearly interpolated and added up, of unit variance.

    Every grid is coarser than the one before by a factor between 2 and 4 to the power of its number, drawn for each
    case, so that there soon is one of a single point: a shift of the whole brightness.

    Args:
        shape: ``(B, C, *spatial)``.
        generator: on the processor; None draws from PyTorch's own.
        discount: strength of a grid relative to the finer one.

    Returns:
        float32, on the processor; each case's standard deviation is 1, its mean is left as it is.

    Reference:
        Frotscher et al., "Unsupervised anomaly detection using aggregated normative diffusion", 2023.
    """
    channels, spatial = shape[1], list(shape[2:])
    mode = "bilinear" if len(spatial) == 2 else "trilinear"
    cases = []
    for _ in range(shape[0]):
        noise = torch.randn(1, channels, *spatial, generator=generator)
        edges, level = spatial, 0
        while True:
            factor = (2 + 2 * float(torch.rand((), generator=generator))) ** level
            edges = [max(1, int(edge / factor)) for edge in edges]
            grid = torch.randn(1, channels, *edges, generator=generator)
            noise = noise + discount**level * functional.interpolate(grid, spatial, mode=mode)
            if min(edges) == 1:
                break
            level += 1
        cases.append(noise[0] / noise.std())
    return torch.stack(cases)


def synomaly_noise(
    shape: Sequence[int],
    generator: torch.Generator | None = None,
    sigma: float = 3.0,
    threshold: float = 0.69,
    offset: float = 0.5,
    direction: str = "either",
) -> Tensor:
    """Standard normal values, and blobs in which they are shifted as a whole, so that blobs are noise to be taken off.

    The blobs are where the same values, smoothed, are high.

    Args:
        shape: ``(B, C, *spatial)``; the channels of a case have the same blobs.
        generator: on the processor; None draws from PyTorch's own.
        sigma: of the smoothing, in pixels: the blobs' size.
        threshold: share of the way from the smoothed values' lowest to their highest at which a blob begins.
        offset: the least shift; one value between 0 and 1, drawn for each case, is added to it.
        direction: of the shift, ``"brighter"``, ``"darker"``, or ``"either"``, drawn for each case.

    Returns:
        float32, on the processor.

    Raises:
        ValueError: for an unknown direction, or a threshold beyond 0..1.

    Reference:
        Bi et al., "Synomaly noise and multi-stage diffusion", Medical Image Analysis 2025.
    """
    if direction not in DIRECTIONS or not 0 <= threshold <= 1:
        raise ValueError(f"direction must be one of {DIRECTIONS} and threshold 0 to 1, got {direction!r}, {threshold}.")
    noise = torch.randn(*shape, generator=generator)
    single = [shape[0]] + [1] * (len(shape) - 1)
    smoothed = gaussian_mean(noise.mean(1, keepdim=True), sigma)
    low, high = smoothed.flatten(1).amin(1).reshape(single), smoothed.flatten(1).amax(1).reshape(single)
    blobs = smoothed >= low + threshold * (high - low)
    shift = offset + torch.rand(single, generator=generator)
    signs = (
        torch.randint(2, single, generator=generator) * 2 - 1
        if direction == "either"
        else 1 - 2 * (direction == "darker")
    )
    return noise + blobs * shift * signs


_DRAWN: dict[str, Callable[..., Tensor]] = {
    "coarse": coarse_noise,
    "pyramid": pyramid_noise,
    "synomaly": synomaly_noise,
}


def draw_noise(
    kind: str, shape: Sequence[int], generator: torch.Generator | None = None, period: float = 64.0, **settings: Any
) -> Tensor:
    """Noise, drawn for each case of its own.

    Args:
        kind: ``"gaussian"``, standard normal; ``"simplex"``, six octaves from ``period`` on, each 0.8 times the one
            before, whose standard deviation of about 0.5 is left as it is (AnoDDPM's); ``"coarse"``, see
            `coarse_noise`; ``"pyramid"``, see `pyramid_noise`; or ``"synomaly"``, see `synomaly_noise`.
        shape: ``(B, C, *spatial)``.
        generator: on the processor; None draws from PyTorch's own.
        period: of the coarsest octave of ``"simplex"``, in pixels. AnoDDPM's 64 is a quarter of its images; of an image
            of 64 pixels it makes a shift of all of its brightness.
        settings: further arguments of the last three.

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
    if kind in _DRAWN:
        return _DRAWN[kind](shape, generator, **settings)
    raise ValueError(f"noise must be one of {NOISES}, got {kind!r}.")
