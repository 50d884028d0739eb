"""Tokens of a scan from a frozen backbone, each of unit length, on one grid."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.networks.backbones import make_taps
from medad_plugins.networks.backbones.transformer_shape import TRANSFORMERS, middle_blocks
from medad_plugins.networks.blocks.unit_tokens import UnitTokens

__all__ = ["FrozenTokens"]


class FrozenTokens(nn.Module):
    """A frozen backbone whose feature maps become `UnitTokens`.

    Blocks of a transformer are averaged, stages of a convolutional network are joined.

    Args:
        backbone, spatial_dims, in_channels, weights: see `medad_plugins.networks.make_taps`.
        layers: see there; None takes what is usual, of a transformer so many ``blocks`` up to the usual one.
        blocks: of a transformer, where no layers are given.
        neighbourhood: edge of the neighbourhood of places over which feature maps are averaged first, odd; 1 for none.

    Shape:
        scans ``(B, C, *spatial)``, images upright, to ``(B, D, *grid)``.
    """

    def __init__(
        self,
        backbone: str = "resnet18",
        spatial_dims: int = 2,
        in_channels: int = 1,
        layers: Sequence[int] | None = None,
        weights: str = "none",
        blocks: int = 2,
        neighbourhood: int = 3,
    ) -> None:
        super().__init__()
        if layers is None and backbone in TRANSFORMERS:
            layers = middle_blocks(backbone, blocks)
        self.features = make_taps(backbone, spatial_dims, in_channels, layers, weights)
        self.tokens = UnitTokens(self.features.channels, self.features.strides, spatial_dims, neighbourhood)
        self.out_channels = self.tokens.out_channels
        self.stride = max(self.features.strides)

    def taps(self, image: Tensor) -> list[Tensor]:
        """Feature maps ``(B, C_k, *grid_k)`` of a scan, finest first."""
        found: list[Tensor] = self.features(image)
        return found

    def rows(self, image: Tensor) -> tuple[Tensor, list[int]]:
        """Tokens ``(B, P, D)`` in row-major order of a grid, and that grid."""
        tokens = self.forward(image)
        return tokens.flatten(2).transpose(1, 2), list(tokens.shape[2:])

    def intensities(self, image: Tensor, grid: list[int]) -> Tensor:
        """Mean intensities ``(B, 1, *grid)`` of the cells of a scan that its tokens stand for."""
        means = image.mean(1, keepdim=True)
        if image.dim() == 4:
            means = functional.avg_pool2d(means, self.stride, self.stride, ceil_mode=True)
        else:
            means = functional.avg_pool3d(means, self.stride, self.stride, ceil_mode=True)
        return functional.interpolate(means, grid, mode="nearest")

    def forward(self, image: Tensor) -> Tensor:
        tokens: Tensor = self.tokens(self.taps(image))
        return tokens
