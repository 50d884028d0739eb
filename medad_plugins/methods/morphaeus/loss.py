"""Loss of an autoencoder with a deformation."""

from __future__ import annotations

import torch
from monai.losses import LocalNormalizedCrossCorrelationLoss
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.losses.full_precision import full_precision
from medad_plugins.networks.blocks.perceptual import PerceptualResidual

__all__ = ["DeformationLoss"]


def _squared_slope(velocity: Tensor) -> Tensor:
    """Mean over places and components of the sum of squared central differences along the axes."""
    axes = range(2, velocity.dim())
    total = torch.zeros(1, device=velocity.device)
    for axis in axes:
        inner = velocity
        for other in axes:
            inner = inner if other == axis else inner.narrow(other, 1, inner.shape[other] - 2)
        size = inner.shape[axis] - 2
        total = total + ((inner.narrow(axis, 2, size) - inner.narrow(axis, 0, size)) / 2).square().mean()
    return total.squeeze()


class DeformationLoss(nn.Module):
    """The prior must look like the scan; deformed, each must look like the other; and the deformation must be smooth.

    Squared difference of prior and scan, and their perceptual one; one minus the squared local cross-correlation, the
    mean of both ways; and the squared slope of the velocity.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        perceptual: weight of the perceptual difference; 0 needs no backbone.
        smoothness: weight of the slope; it may grow, see `set_smoothness`.
        deformation: weight of what has to do with the deformation, see `set_deformation`.
        window: edge of the window of the correlation, in pixels, odd.
        backbone: of the perceptual difference, see `PerceptualResidual`.
        weights: of the backbone.

    Shape:
        ``training_output`` of `MorphAEus` and the scans ``(B, C, *spatial)``, 0..1, to a scalar.

    Reference:
        Bercea et al., "What do AEs learn?", MICCAI 2023; the terms of the deformation: Balakrishnan et al.,
        "VoxelMorph", IEEE TMI 2019.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        perceptual: float = 0.0,
        smoothness: float = 3.0,
        deformation: float = 1.0,
        window: int = 9,
        backbone: str = "resnet18",
        weights: str = "none",
    ) -> None:
        super().__init__()
        self.perceptual, self.smoothness, self.deformation = perceptual, smoothness, deformation
        self.looks: nn.Module = nn.Identity()
        if perceptual > 0:
            self.looks = PerceptualResidual(spatial_dims, in_channels, backbone, weights)
        self.correlation = LocalNormalizedCrossCorrelationLoss(spatial_dims, window)

    def set_smoothness(self, smoothness: float) -> None:
        """Take another weight of the slope, as a schedule does."""
        self.smoothness = smoothness

    def set_deformation(self, deformation: float) -> None:
        """Take another weight of what has to do with the deformation, as a schedule does."""
        self.deformation = deformation

    def forward(self, output: tuple[Tensor, Tensor, Tensor, Tensor], image: Tensor) -> Tensor:
        prior, velocity, deformed, scan_deformed = output
        image = full_precision(image)
        rebuilt = functional.mse_loss(prior, image)
        if self.perceptual > 0:
            rebuilt = rebuilt + self.perceptual * self.looks(prior, image).mean()
        # MONAI's correlation is negative; half the mean squared slope, as the paper's code has it
        alike = 1 + (self.correlation(deformed, image) + self.correlation(prior, scan_deformed)) / 2
        morphed: Tensor = alike + self.smoothness * _squared_slope(velocity) / 2
        return rebuilt + self.deformation * morphed
