"""Initial weights of convolutions, as He et al. draw them."""

from __future__ import annotations

from monai.networks.layers.factories import Conv
from torch import nn

__all__ = ["init_convolutions"]


def init_convolutions(module: nn.Module, spatial_dims: int) -> None:
    """Initialise all convolutions, transposed ones too, as He et al. do for ReLU networks (fan-out)."""
    kinds = (Conv[Conv.CONV, spatial_dims], Conv[Conv.CONVTRANS, spatial_dims])
    for part in module.modules():
        if isinstance(part, kinds):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
