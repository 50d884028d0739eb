"""Images moved along displacement fields, and the fields that flows of a constant velocity lead to."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["integrate_velocity", "warp"]


def _axis_places(displacement: Tensor, axis: int) -> Tensor:
    """Where each place of an axis comes from, -1..1 from its first to its last pixel."""
    size = int(displacement.shape[2 + axis])
    shape = [1] * (displacement.dim() - 1)
    shape[1 + axis] = size
    steps = torch.arange(size, dtype=displacement.dtype, device=displacement.device).reshape(shape)
    return (steps + displacement[:, axis]) * (2 / max(size - 1, 1)) - 1


def warp(image: Tensor, displacement: Tensor) -> Tensor:
    """Every place of an image as the image is at the place displaced from there, interpolated; borders are repeated.

    As MONAI's ``Warp``, but with nothing kept between calls, so that it can be exported.

    Args:
        image: ``(B, C, *spatial)``.
        displacement: ``(B, D, *spatial)``, in pixels along each of the D axes.

    Returns:
        ``(B, C, *spatial)``.
    """
    axes = displacement.dim() - 2
    # the sampler wants the last axis first
    places = [_axis_places(displacement, axes - 1 - axis) for axis in range(axes)]
    return functional.grid_sample(
        image, torch.stack(places, -1), mode="bilinear", padding_mode="border", align_corners=True
    )


def integrate_velocity(velocity: Tensor, steps: int = 7) -> Tensor:
    """The displacement after a unit of time in a flow of constant velocity, by scaling and squaring.

    Smooth flows lead to displacements that fold nothing.

    Args:
        velocity: ``(B, D, *spatial)``, in pixels.
        steps: squarings.

    Returns:
        ``(B, D, *spatial)``, in pixels.

    Reference:
        Arsigny et al., "A log-Euclidean framework for statistics on diffeomorphisms", MICCAI 2006.
    """
    displacement = velocity / 2.0**steps
    for _ in range(steps):
        displacement = displacement + warp(displacement, displacement)
    return displacement
