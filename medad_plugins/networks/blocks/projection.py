"""Projection of a teacher's features that keeps their shape."""

from __future__ import annotations

import itertools

import torch
from monai.networks.layers.factories import Conv, Norm
from torch import Tensor, nn

from medad_plugins.errors import InputError

__all__ = ["Projection"]


class Projection(nn.Module):
    """Four 3x3 convolutions that narrow the channels to a half and a quarter and widen them again.

    After each an instance norm without affine part and a leaky ReLU.

    Args:
        channels: of the features, a multiple of 4.
        spatial_dims: 2 or 3.

    Shape:
        ``(B, channels, *grid)`` to the same.

    Raises:
        InputError: the grid has one location only, of which no norm can be had.

    Reference:
        Tien et al., "Revisiting Reverse Distillation for Anomaly Detection", CVPR 2023.
    """

    def __init__(self, channels: int, spatial_dims: int = 2) -> None:
        super().__init__()
        widths = [channels, channels // 2, channels // 4, channels // 2, channels]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            layers += [
                Conv[Conv.CONV, spatial_dims](before, after, 3, padding=1),
                Norm[Norm.INSTANCE, spatial_dims](after),
                nn.LeakyReLU(0.01, inplace=True),
            ]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        if not torch.jit.is_scripting():  # noqa: SIM102 - TorchScript wants its test alone
            if all(edge == 1 for edge in x.shape[2:]):
                raise InputError(
                    "the scans are too small for the projections",
                    where="image_size",
                    expected="more than 16 along some axis, so that the features of stride 16 have several locations",
                    found="one location",
                    todo="give a larger --image_size",
                )
        projected: Tensor = self.layers(x)
        return projected
