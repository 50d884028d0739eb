"""UniAD: features rebuilt from what is not near, by queries of every decoder layer's own."""

from __future__ import annotations

from collections.abc import Sequence

from medad_plugins.networks.families.feature_rebuilding import FeatureRebuilding

__all__ = ["UniAD"]


class UniAD(FeatureRebuilding):
    """UniAD: a transformer that cannot copy, for three reasons, rebuilds a frozen backbone's features.

    Tokens may not attend to their neighbours; every decoder layer begins with queries of its own; and in training
    there is noise on the features, which it has to take away.

    Args:
        spatial_dims, in_channels, image_size, backbone, weights, layers, scaling, sigma, reduction: see
            `FeatureRebuilding`.
        width, heads, hidden, encoder_layers, decoder_layers, positions, dropout: see `TokenTransformer`.
        neighbourhood: edge of the window that is hidden about each place, odd; 0 for none.
        jitter: size of the noise, see `FeatureJitter`; 0 for none.

    Reference:
        You et al., "A Unified Model for Multi-class Anomaly Detection", NeurIPS 2022.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        image_size: int | Sequence[int] = 224,
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
        neighbourhood: int = 7,
        jitter: float = 20.0,
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
            layerwise_queries=True,
            neighbourhood=neighbourhood,
            jitter=jitter,
            dropout=dropout,
        )
