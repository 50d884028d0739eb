"""Rebuilding of a frozen backbone's features by a transformer that has learnt normal ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.networks.backbones import make_taps, usual_layers
from medad_plugins.networks.blocks.aligned_taps import AlignedTaps
from medad_plugins.networks.coders.token_transformer import TokenTransformer
from medad_plugins.scorers import LocalMeanScore, MapToImage

__all__ = ["FeatureRebuilding"]


class FeatureRebuilding(AnomalyNetwork):
    """Features, transformer and scoring that such methods share; they differ in how the transformer is kept from copying.

    Trained by `medad_plugins.losses.ResidualLoss` with the squared difference of the features.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        image_size: edges of the scans that are trained on, for positions and queries.
        backbone: a key of `medad_plugins.networks.TAPS`, frozen.
        weights: path, known name or ``"none"``, see `medad_plugins.networks.find_weights`.
        layers: of the backbone, finest first, see `make_taps`; None for stages 1 to 3 of a ResNet, or what
            `usual_layers` says of another backbone. Their maps are joined on the grid of the last.
        scaling: of the features, see `AlignedTaps`.
        sigma: Gaussian smoothing of the map, in pixels of the image.
        reduction: image score, see `medad_plugins.scorers.MapPool`, of the map's means over windows as large as a cell.
        transformer: arguments of `TokenTransformer`.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        image_size: int | Sequence[int],
        backbone: str,
        weights: str,
        layers: Sequence[int] | None,
        scaling: str,
        sigma: float,
        reduction: str | float,
        **transformer: Any,
    ) -> None:
        super().__init__(reduction)
        layers = usual_layers(backbone, (1, 2, 3)) if layers is None else layers
        self.features = make_taps(backbone, spatial_dims, in_channels, layers, weights)
        self.align = AlignedTaps(self.features.channels, spatial_dims, scaling)
        edges = [image_size] * spatial_dims if isinstance(image_size, int) else image_size
        stride = self.features.strides[-1]
        self.transformer = TokenTransformer(
            [-(-int(edge) // stride) for edge in edges], self.align.out_channels, **transformer
        )
        self.to_image = MapToImage(spatial_dims, self.pool, sigma, align_corners=True, keep_score="none")
        self.score = LocalMeanScore(spatial_dims, self.pool, stride, padded=False)

    def training_output(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Rebuilt and true features ``(B, D, *grid)``."""
        features = self.align(self.features(image))
        return self.transformer(features).float(), features

    def anomaly_map(self, image: Tensor) -> Tensor:
        """Distance of the rebuilt to the true features at every place, interpolated, not negative."""
        features = self.align(self.features(image))
        distance = (self.transformer(features).float() - features).square().sum(1, keepdim=True).sqrt()
        return self.score(self.to_image(distance, image.shape[2:]))
