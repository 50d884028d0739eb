"""Rebuilding of a frozen backbone's features by an autoencoder that has learnt normal ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.networks.backbones import make_taps
from medad_plugins.networks.blocks.aligned_taps import AlignedTaps
from medad_plugins.scorers import MapToImage

__all__ = ["FeatureAutoencoding"]


class FeatureAutoencoding(AnomalyNetwork):
    """Features, joining and scoring that such methods share; they differ in the coder and in what is compared.

    Trained by `medad_plugins.losses.ResidualLoss` with the network's own ``difference``.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        backbone: a key of `medad_plugins.networks.TAPS`, frozen.
        weights: path, known name or ``"none"``, see `medad_plugins.networks.find_weights`.
        layers: of the backbone, finest first, see `make_taps`. Their maps are joined on the grid of the first.
        scaling: of the features, see `AlignedTaps`.
        sigma: Gaussian smoothing of the map, in pixels of the image.
        reduction: image score, see `medad_plugins.scorers.MapPool`.
        coder: makes the autoencoder, ``(B, D, *grid)`` to the same, from D.
        difference: rebuilt and true features to a map ``(B, 1, *grid)``, not negative.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        backbone: str,
        weights: str,
        layers: Sequence[int],
        scaling: str,
        sigma: float,
        reduction: str | float,
        coder: Callable[[int], nn.Module],
        difference: nn.Module,
    ) -> None:
        super().__init__(reduction)
        self.features = make_taps(backbone, spatial_dims, in_channels, layers, weights)
        self.align = AlignedTaps(self.features.channels, spatial_dims, scaling, finest=True)
        self.coder = coder(self.align.out_channels)
        self.difference = difference
        self.to_image = MapToImage(spatial_dims, self.pool, sigma, align_corners=True, keep_score="none")

    def coder_parameters(self) -> list[nn.Parameter]:
        """What learns: all but the backbone."""
        return list(self.coder.parameters())

    def rebuild(self, taps: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Rebuilt and true features ``(B, D, *grid)``, float32, from the backbone's feature maps."""
        features = self.align(taps)
        return self.coder(features).float(), features

    def training_output(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """See `rebuild`."""
        return self.rebuild(self.features.remembered(image))

    def anomaly_map(self, image: Tensor) -> Tensor:
        """The difference of rebuilt and true features at every place, interpolated to the image, not negative."""
        rebuilt, features = self.rebuild(self.features(image))
        return self.to_image(self.difference(rebuilt, features), image.shape[2:])
