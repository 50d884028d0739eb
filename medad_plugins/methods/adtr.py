"""ADTR: features rebuilt by a transformer's decoder that an auxiliary query begins with."""

from __future__ import annotations

from collections.abc import Sequence

from medad_plugins.networks.families.feature_rebuilding import FeatureRebuilding

__all__ = ["ADTR"]


class ADTR(FeatureRebuilding):
    """ADTR: a transformer rebuilds a frozen backbone's features, beginning with one learned auxiliary query.

    Normal scans teach the query what belongs at each place; it has to ask the encoder for the rest.

    Args:
        spatial_dims, in_channels, image_size, backbone, weights, layers, scaling, sigma, reduction: see
            `FeatureRebuilding`.
        width, heads, hidden, encoder_layers, decoder_layers, positions, dropout: see `TokenTransformer`.

    Reference:
        You et al., "ADTR: Anomaly Detection Transformer with Feature Reconstruction", ICONIP 2022.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        image_size: int | Sequence[int] = 256,
        backbone: str = "efficientnet_lite0",
        weights: str = "imagenet",
        layers: Sequence[int] | None = None,
        scaling: str = "none",
        width: int = 256,
        heads: int = 8,
        hidden: int = 1024,
        encoder_layers: int = 4,
        decoder_layers: int = 4,
        positions: str = "learned",
        dropout: float = 0.1,
        sigma: float = 0.0,
        reduction: str | float = "max",
    ) -> None:
        super().__init__(
            spatial_dims,
            in_channels,
            image_size,
            backbone,
            weights,
            layers,
            scaling,
            sigma,
            reduction,
            width=width,
            heads=heads,
            hidden=hidden,
            encoder_layers=encoder_layers,
            decoder_layers=decoder_layers,
            positions=positions,
            dropout=dropout,
        )
