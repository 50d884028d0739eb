"""Rebuilding of a frozen backbone's features by a transformer that has learnt normal ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.networks.backbones import make_taps, usual_layers
from medad_plugins.networks.backbones.efficientnet_lite import EFFICIENTNETS, last_blocks
from medad_plugins.networks.backbones.transformer_shape import TRANSFORMERS, middle_blocks
from medad_plugins.networks.blocks.aligned_taps import AlignedTaps
from medad_plugins.networks.coders.token_transformer import TokenTransformer
from medad_plugins.scorers import LocalMeanScore, MapToImage

__all__ = ["FeatureRebuilding", "joined_layers"]


def joined_layers(backbone: str) -> list[int]:
    """The layers whose maps are joined by default.

    Of a convolutional network those of strides 4, 8 and 16; of a transformer its two blocks at three quarters.
    """
    if backbone in EFFICIENTNETS:
        return last_blocks(backbone)[:3]
    return middle_blocks(backbone) if backbone in TRANSFORMERS else usual_layers(backbone, (1, 2, 3))


class FeatureRebuilding(AnomalyNetwork):
    """Features, transformer and scoring that such methods share; they differ in what keeps it from copying.

    Trained by `medad_plugins.losses.ResidualLoss` with the squared difference of the features.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        image_size: edges of the scans that are trained on, for positions and queries.
        backbone: a key of `medad_plugins.networks.TAPS`, frozen.
        weights: path, known name or ``"none"``, see `medad_plugins.networks.find_weights`.
        layers: of the backbone, finest first, see `make_taps`; None for `joined_layers`. Their maps are joined on the
            grid of the last.
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
        layers = joined_layers(backbone) if layers is None else layers
        self.features = make_taps(backbone, spatial_dims, in_channels, layers, weights)
        self.align = AlignedTaps(self.features.channels, spatial_dims, scaling)
        edges = [image_size] * spatial_dims if isinstance(image_size, int) else image_size
        stride = self.features.strides[-1]
        self.transformer = TokenTransformer(
            [-(-int(edge) // stride) for edge in edges], self.align.out_channels, **transformer
        )
        self.to_image = MapToImage(spatial_dims, self.pool, sigma, align_corners=True, keep_score="none")
        self.score = LocalMeanScore(spatial_dims, self.pool, stride, padded=False)

    def rebuild(self, taps: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Rebuilt and true features ``(B, D, *grid)``, from the backbone's feature maps."""
        features = self.align(taps)
        return self.transformer(features).float(), features

    def place_parameters(self) -> list[nn.Parameter]:
        """Positions and queries: what belongs to single places, and is taught by these alone."""
        named = self.transformer.named_parameters()
        return [parameter for name, parameter in named if name.startswith(("positions.", "queries."))]

    def shared_parameters(self) -> list[nn.Parameter]:
        """All else that learns, the same for all places."""
        own = {id(parameter) for parameter in self.place_parameters()}
        return [p for p in self.parameters() if p.requires_grad and id(p) not in own]

    def training_output(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """See `rebuild`."""
        return self.rebuild(self.features.remembered(image))

    def anomaly_map(self, image: Tensor) -> Tensor:
        """Distance of the rebuilt to the true features at every place, interpolated, not negative."""
        rebuilt, features = self.rebuild(self.features(image))
        distance = (rebuilt - features).square().sum(1, keepdim=True).sqrt()
        return self.score(self.to_image(distance, image.shape[2:]))
