"""How different two scans look to a frozen pretrained backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.networks.backbones import make_taps, usual_layers
from medad_plugins.scorers import ResidualMap

__all__ = ["SALIENCIES", "PerceptualResidual", "make_saliency"]

SALIENCIES = ("ssim", "perceptual")


class PerceptualResidual(nn.Module):
    """Difference of features relative to their size: small where a reconstruction looks alike, not where it is equal.

    Args:
        spatial_dims: 2 or 3; kernels of 2D weights are inflated along the third axis.
        in_channels: channels of the scan.
        backbone: a key of `medad_plugins.networks.TAPS`.
        weights: path, known name or ``"none"`` (random features), see `medad_plugins.networks.find_weights`.
        layers: whose features are compared, finest first, see `make_taps`; None is the first two stages of a ResNet,
            of any other backbone its usual ones.
        standardise: features are brought to mean 0 and deviation 1 of each channel, by moments that `set_moments` is
            given, before they are compared; until then they are as they are.

    Shape:
        reconstruction and image, ``(B, C, *spatial)``, intensities 0..1, to ``(B, 1, *spatial)``: the absolute
        difference of features, averaged over channels, over the mean size of the image's own features, which passes no
        gradient on; interpolated, and averaged over the layers.

    Reference:
        the relative perceptual L1 of Shvetsova et al., "Anomaly Detection in Medical Imaging With Deep Perceptual
        Autoencoders", IEEE Access 9, 2021, with any backbone in place of VGG-19.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        backbone: str = "resnet18",
        weights: str = "none",
        layers: Sequence[int] | None = None,
        standardise: bool = False,
    ) -> None:
        super().__init__()
        chosen = usual_layers(backbone, (1, 2)) if layers is None else layers
        self.features: Any = make_taps(backbone, spatial_dims, in_channels, chosen, weights)
        self.mode = "bilinear" if spatial_dims == 2 else "trilinear"
        self.standardise = standardise
        width = sum(self.features.channels)
        self.shift: Tensor = nn.Buffer(torch.zeros(width), persistent=standardise)
        self.deviation: Tensor = nn.Buffer(torch.ones(width), persistent=standardise)

    def moments(self, image: Tensor) -> Tensor:
        """Mean and mean square of every channel of all layers, ``(B, 2 * channels)``, for `set_moments`."""
        maps = [each.float().flatten(2) for each in self.features(image)]
        return torch.cat([each.mean(2) for each in maps] + [each.square().mean(2) for each in maps], 1)

    def set_moments(self, mean: Tensor) -> None:
        """Standardise features by the mean, ``(2 * channels,)``, of the moments of many scans."""
        first, second = mean.chunk(2)
        deviation = (second - first.square()).clamp_min(0).sqrt()
        # a channel that is hardly ever at work counts as it is, not a thousandfold
        self.deviation.copy_(deviation.clamp_min(1e-2 * float(deviation.mean()) + 1e-6))
        self.shift.copy_(first)

    def standardised(self, image: Tensor) -> list[Tensor]:
        """The features that are compared, ``(B, C_k, *grid_k)``, finest first."""
        maps: list[Tensor] = self.features(image)
        if not self.standardise:
            return maps
        scaled: list[Tensor] = []
        start = 0
        for each in maps:
            end = start + each.shape[1]
            shape = [1, -1] + [1] * (each.dim() - 2)
            shift, deviation = self.shift[start:end].reshape(shape), self.deviation[start:end].reshape(shape)
            scaled.append((each - shift) / deviation)
            start = end
        return scaled

    def distances(self, reconstruction: Tensor, image: Tensor) -> list[Tensor]:
        """The relative differences of each layer on its own grid, ``(B, 1, *grid_k)``, finest first."""
        expected, found = self.standardised(image), self.standardised(reconstruction)
        distances: list[Tensor] = []
        for own, other in zip(expected, found):
            size = own.detach().abs().flatten(1).mean(1).clamp_min(1e-12).reshape([-1] + [1] * (own.dim() - 1))
            distances.append(((other - own).abs() / size).mean(1, keepdim=True))
        return distances

    def forward(self, reconstruction: Tensor, image: Tensor) -> Tensor:
        distances = self.distances(reconstruction, image)
        total = torch.zeros(1, device=image.device)
        for each in distances:
            total = total + functional.interpolate(each, image.shape[2:], mode=self.mode, align_corners=False)
        return total / len(distances)


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
