"""INP-Former: tokens of a frozen transformer, rebuilt from what is normal in the scan itself."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from medad_plugins.methods.inp_former.prototypes import PrototypeBlock, PrototypeExtractor, gather_distance
from medad_plugins.networks.blocks.token_blocks import init_token_layers
from medad_plugins.networks.families.token_reconstruction import TokenReconstruction
from medad_plugins.scorers import MapToImage

__all__ = ["INPFormer"]

MAPS = ("rebuilt", "gathered")


class INPFormer(TokenReconstruction):
    """INP-Former: a few prototypes are drawn from a scan's own tokens, and its tokens are rebuilt from them alone.

    Trained with `PrototypeLoss`. What most of a scan has in common becomes its intrinsic normal prototypes; what they
    do not hold cannot be rebuilt.

    Args:
        spatial_dims, in_channels, backbone, weights, layers, depth, groups, sigma, reduction: see
            `TokenReconstruction`; the paper's backbone is ``dinov2_vitb14_reg`` with layers 2 to 9.
        prototypes: of each scan.
        dropout: of the bottleneck; the paper has none.
        recentre: subtract a scan's class token from its other tokens.
        map_of: ``"rebuilt"``: the distance of rebuilt tokens to the true ones; ``"gathered"``: that of tokens to the
            nearest prototype, the paper's map for categories that it was not trained on.

    Reference:
        Luo et al., "Exploring Intrinsic Normal Prototypes within a Single Image for Universal Anomaly Detection", CVPR
        2025.

    Example:
        >>> network = INPFormer(backbone="resnet10", weights="none").eval()
        >>> with torch.no_grad():
        ...     anomaly_map = network(torch.rand(2, 1, 64, 64))
        >>> anomaly_map.shape, network.pool(anomaly_map).shape
        (torch.Size([2, 1, 64, 64]), torch.Size([2]))
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        backbone: str = "dinov2_vitb14_reg",
        weights: str = "lvd142m",
        layers: Sequence[int] | None = None,
        depth: int | None = None,
        groups: int = 2,
        prototypes: int = 6,
        dropout: float = 0.0,
        recentre: bool = False,
        map_of: str = "rebuilt",
        sigma: float = 4.0,
        reduction: str | float = 0.01,
    ) -> None:
        super().__init__(
            spatial_dims,
            in_channels,
            backbone,
            weights,
            layers,
            depth,
            groups,
            dropout,
            recentre,
            sigma=sigma,
            reduction=reduction,
        )
        if prototypes < 1 or map_of not in MAPS:
            raise ValueError(
                f"prototypes must be at least 1 and map_of one of {MAPS}, got {prototypes} and {map_of!r}."
            )
        self.extractor = PrototypeExtractor(self.width, self.heads, prototypes)
        self.decoder = nn.ModuleList(PrototypeBlock(self.width, self.heads) for _ in range(self.depth))
        self.gathered = map_of == "gathered"
        self.to_image = MapToImage(spatial_dims, self.pool, sigma, keep_score="none")
        for part in (self.bottleneck, self.extractor, self.decoder):
            init_token_layers(part)

    def decode(self, tokens: Tensor) -> list[Tensor]:
        return self._decode(tokens, self.extractor(tokens))

    def _decode(self, tokens: Tensor, prototypes: Tensor) -> list[Tensor]:
        # under autocast linear layers give half precision; what the blocks add to stays as it was
        x = self.bottleneck(tokens).to(tokens.dtype)
        decoded: list[Tensor] = []
        for block in self.decoder:
            x = block(x, prototypes)
            decoded.append(x)
        return decoded

    def training_output(self, image: Tensor) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """Rebuilt and true maps ``(B, C_g, *grid)`` of each group, and distances ``(B, N)`` to the prototypes."""
        tokens, targets = self.groups(self.features.remembered(image))
        prototypes = self.extractor(tokens)
        rebuilt = self.groups.rebuilt(self._decode(tokens, prototypes), targets)
        return rebuilt, targets, gather_distance(tokens, prototypes)

    def anomaly_map(self, image: Tensor) -> Tensor:
        """One minus a cosine at every place, 0..2, on the image grid and smoothed: see ``map_of``."""
        tokens, targets = self.groups(self.features(image))
        prototypes = self.extractor(tokens)
        if self.gathered:
            distance = gather_distance(tokens, prototypes)
            grid = list(targets[0].shape[2:])
            return self.to_image(distance.reshape([-1, 1] + grid), image.shape[2:])
        rebuilt = self.groups.rebuilt(self._decode(tokens, prototypes), targets)
        return self.fusion(rebuilt, targets, image.shape[2:])
