"""How different two scans look to a frozen pretrained backbone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.networks.backbones import ResNetTaps, require_stages
from medad_plugins.scorers import ResidualMap

__all__ = ["SALIENCIES", "PerceptualResidual", "make_saliency"]

SALIENCIES = ("ssim", "perceptual")


class PerceptualResidual(nn.Module):
    """Difference of features relative to their size: small where a reconstruction looks alike, not where it is equal.

    Args:
        spatial_dims: 2 or 3; kernels of 2D weights are inflated along the third axis.
        in_channels: channels of the scan.
        backbone: a key of `medad_plugins.networks.BACKBONES`.
        weights: path, known name or ``"none"`` (random features), see `medad_plugins.networks.find_weights`.
        layers: stages whose features are compared, finest first.

    Shape:
        reconstruction and image, ``(B, C, *spatial)``, intensities 0..1, to ``(B, 1, *spatial)``: the absolute
        difference of features, averaged over channels, over the mean size of the image's own features, which passes no
        gradient on; interpolated, and averaged over the layers.

    Reference:
        the relative perceptual L1 of Shvetsova et al., "Anomaly Detection in Medical Imaging With Deep Perceptual
        Autoencoders", IEEE Access 9, 2021, with a residual network in place of VGG-19 and without its normalisation of
        features by statistics of ImageNet.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        backbone: str = "resnet18",
        weights: str = "none",
        layers: Sequence[int] = (1, 2),
    ) -> None:
        super().__init__()
        self.layers = require_stages(layers)
        self.features = ResNetTaps(
            backbone, spatial_dims, in_channels, stages=self.layers[-1], weights=weights, frozen=True
        )
        self.mode = "bilinear" if spatial_dims == 2 else "trilinear"

    def forward(self, reconstruction: Tensor, image: Tensor) -> Tensor:
        expected, found = self.features(image), self.features(reconstruction)
        total = torch.zeros(1, device=image.device)
        for layer in self.layers:
            own = expected[layer - 1]
            size = own.detach().abs().flatten(1).mean(1).clamp_min(1e-12).reshape([-1] + [1] * (own.dim() - 1))
            difference = ((found[layer - 1] - own).abs() / size).mean(1, keepdim=True)
            total = total + functional.interpolate(difference, image.shape[2:], mode=self.mode, align_corners=False)
        return total / len(self.layers)


def make_saliency(
    kind: str, spatial_dims: int, in_channels: int, backbone: str = "resnet18", weights: str = "none"
) -> nn.Module:
    """What says how different two scans look at each place, whatever their intensities.

    Args:
        kind: ``"ssim"``, structural dissimilarity, which needs no weights, or ``"perceptual"``, `PerceptualResidual`.
        spatial_dims, in_channels, backbone, weights: see `PerceptualResidual`.
    """
    if kind not in SALIENCIES:
        raise ValueError(f"saliency must be one of {SALIENCIES}, got {kind!r}.")
    if kind == "ssim":
        return ResidualMap("ssim")
    return PerceptualResidual(spatial_dims, in_channels, backbone, weights)
