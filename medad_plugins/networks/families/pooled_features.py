"""Pooled features of a frozen backbone, each with mean 0 and deviation 1 over the normal scans."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medad_plugins.networks.backbones import make_taps
from medad_plugins.networks.fitted.standardisation import Standardisation

__all__ = ["PooledFeatures"]


class PooledFeatures(nn.Module):
    """Means over the scan of a frozen backbone's feature maps, joined and standardised.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        backbone, weights: see `medad_plugins.networks.make_taps`.
        layers: whose maps are pooled; None takes the usual ones of the backbone.

    Shape:
        ``(B, C, *spatial)``, intensities 0..1, to ``(B, D)``.
    """

    def __init__(
        self, spatial_dims: int, in_channels: int, backbone: str, weights: str, layers: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        self.taps = make_taps(backbone, spatial_dims, in_channels, layers, weights)
        self.size = sum(self.taps.channels)
        self.standard = Standardisation(self.size)

    def pooled(self, image: Tensor) -> Tensor:
        """The means ``(B, D)`` as they are."""
        maps: list[Tensor] = self.taps(image)
        return torch.cat([each.flatten(2).mean(2) for each in maps], 1)

    def forward(self, image: Tensor) -> Tensor:
        if not torch.jit.is_scripting():  # noqa: SIM102 - TorchScript wants its test alone
            if self.training:
                maps = self.taps.remembered(image)
                standardised: Tensor = self.standard(torch.cat([each.flatten(2).mean(2) for each in maps], 1))
                return standardised
        found: Tensor = self.standard(self.pooled(image))
        return found
