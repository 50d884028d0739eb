"""Relative perceptual L1: how different a reconstruction looks, in shares of what there is to see."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medad_plugins.networks.blocks.perceptual import PerceptualResidual

__all__ = ["RelativePerceptualL1"]


class RelativePerceptualL1(nn.Module):
    """Mean absolute difference of a frozen backbone's features over the mean size of the scan's own.

    Each scan has its own size, which passes no gradient on; layers count alike. The anomaly map of the method is the
    same place by place.

    Args:
        difference: whose `distances` are averaged, the network's own.
        pixel_weight: of the mean absolute difference of intensities besides.

    Shape:
        reconstruction and scan, ``(B, C, *spatial)``, intensities 0..1, to a scalar.

    Reference:
        Shvetsova et al., "Anomaly Detection in Medical Imaging With Deep Perceptual Autoencoders", IEEE Access 9, 2021.
    """

    def __init__(self, difference: PerceptualResidual, pixel_weight: float = 0.0) -> None:
        super().__init__()
        self.difference, self.pixel_weight = difference, pixel_weight

    def forward(self, reconstruction: Tensor, image: Tensor) -> Tensor:
        distances = self.difference.distances(reconstruction, image)
        loss = torch.stack([each.mean() for each in distances]).mean()
        if self.pixel_weight:
            loss = loss + self.pixel_weight * (reconstruction - image).abs().mean()
        return loss
