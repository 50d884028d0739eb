"""Reconstruction of a frozen backbone's tokens by a transformer that was trained on normal scans."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.networks.backbones import make_taps, usual_layers
from medad_plugins.networks.backbones.efficientnet_lite import EFFICIENTNETS
from medad_plugins.networks.backbones.transformer_shape import TRANSFORMERS, middle_blocks
from medad_plugins.networks.blocks.linear_attention import head_count
from medad_plugins.networks.blocks.token_blocks import TokenPerceptron
from medad_plugins.networks.blocks.token_groups import TokenGroups
from medad_plugins.scorers import CosineMapFusion

__all__ = ["TokenReconstruction", "rebuilt_layers"]


def rebuilt_layers(backbone: str) -> list[int]:
    """The layers whose tokens are rebuilt by default.

    Of a transformer the two blocks at three quarters of its depth, which did best in short trainings; the published
    choice, of twelve blocks 2 to 9, takes many more iterations. Of convolutional networks those of strides 8 and 16.
    """
    if backbone in TRANSFORMERS:
        return middle_blocks(backbone)
    layers = usual_layers(backbone)
    return layers[:-1] if backbone in EFFICIENTNETS else layers


class TokenReconstruction(AnomalyNetwork):
    """Backbone, noisy bottleneck, groups and map that all reconstructions of tokens share; they differ in the decoder.

    A subclass writes `decode`, which may use `width`, `heads` and `depth`. Groups of the backbone's feature maps, see
    `TokenGroups`, and what the decoder gives are compared: for the map by one minus their cosine at every place,
    averaged over the groups on the image grid.

    Args:
        spatial_dims: 2 or 3; a transformer takes 2 only.
        in_channels: channels of the scan.
        backbone: a name that `medad_plugins.networks.make_taps` knows.
        weights: path, known name, ``"auto"`` or ``"none"``, see `medad_plugins.networks.find_weights`.
        layers: of the backbone, see `make_taps`; None for `rebuilt_layers`.
        depth: blocks of the decoder; None for one for each layer of a transformer, 4 with another backbone.
        groups: of a transformer's layers.
        dropout: of the bottleneck.
        recentre: subtract a scan's class token from its other tokens, layer by layer, before all else.
        sigma: Gaussian smoothing of the map before it is scored, in pixels of the image.
        reduction: image score, see `medad_plugins.scorers.MapPool`.

    Raises:
        InputError: no such backbone, layer or file, or tokens are to be recentred where there is no class token.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        backbone: str,
        weights: str,
        layers: Sequence[int] | None,
        depth: int | None,
        groups: int,
        dropout: float,
        recentre: bool,
        sigma: float,
        reduction: str | float,
    ) -> None:
        super().__init__(reduction)
        layers = rebuilt_layers(backbone) if layers is None else list(layers)
        self.features = make_taps(backbone, spatial_dims, in_channels, layers, weights, recentre=recentre)
        is_transformer = backbone in TRANSFORMERS
        self.depth = (len(layers) if is_transformer else 4) if depth is None else depth
        self.groups = TokenGroups(self.features.channels, self.features.strides, spatial_dims, self.depth, groups)
        self.width = self.groups.width
        self.heads = head_count(self.width)
        self.bottleneck = TokenPerceptron(self.width, 4 * self.width, dropout)
        self.fusion = CosineMapFusion(spatial_dims, self.pool, on_image_grid=True, sigma=sigma)

    def decode(self, tokens: Tensor) -> list[Tensor]:
        """Tokens ``(B, N, width)`` after each of the `depth` blocks, from those of the backbone ``(B, N, width)``."""
        raise TypeError(f"{type(self).__name__} has no decoder.")

    def rebuild(self, taps: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Rebuilt and true maps ``(B, C_g, *grid)`` of each group, from the backbone's feature maps."""
        tokens, targets = self.groups(taps)
        return self.groups.rebuilt(self.decode(tokens), targets), targets

    def anomaly_map(self, image: Tensor) -> Tensor:
        """One minus the cosine of rebuilt and true tokens, averaged over groups on the image grid, smoothed, 0..2."""
        rebuilt, targets = self.rebuild(self.features(image))
        return self.fusion(rebuilt, targets, image.shape[2:])
