"""Tokens of a scan from a frozen backbone, each of unit length, on one grid."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.networks.backbones import make_taps, usual_layers
from medad_plugins.networks.backbones.transformer_shape import TRANSFORMERS
from medad_plugins.networks.blocks.unit_tokens import UnitTokens

__all__ = ["FrozenTokens"]


class FrozenTokens(nn.Module):
    """A frozen backbone whose feature maps become `UnitTokens`.

    Blocks of a transformer are averaged. Stages of a convolutional network are averaged over 3 x 3 places each and
    joined: a transformer's token has seen its neighbours, theirs have not.

    Args:
        backbone, spatial_dims, in_channels, weights: see `medad_plugins.networks.make_taps`.
        layers: see there; None takes what is usual, of a transformer so many ``blocks`` up to the usual one.
        blocks: of a transformer, where no layers are given.

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
    ) -> None:
        super().__init__()
        is_transformer = backbone in TRANSFORMERS
        if layers is None and is_transformer:
            (last,) = usual_layers(backbone)
            layers = list(range(max(0, last + 1 - blocks), last + 1))
        self.features = make_taps(backbone, spatial_dims, in_channels, layers, weights)
        neighbourhood = 1 if is_transformer else 3
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
