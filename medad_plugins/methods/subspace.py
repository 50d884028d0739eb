"""What is left of a token beside the directions in which normal ones vary."""

from __future__ import annotations

from collections.abc import Sequence

from medad_plugins.networks.families.token_network import TokenNetwork
from medad_plugins.networks.fitted.token_subspace import TokenSubspace

__all__ = ["SubspaceAD"]


class SubspaceAD(TokenNetwork):
    """SubspaceAD: how far a frozen backbone's tokens lie off the principal components of normal ones.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        backbone, weights, layers, blocks, neighbourhood: see `medad_plugins.networks.FrozenTokens`.
        window: edge of the window of places whose tokens have components in common; 1 for each place by itself, 0 for
            all places, as in the paper.
        share: of the variance that the components hold.
        mirrored, rotations, foreground: see `medad_plugins.networks.TokenNetwork`.
        sigma: Gaussian smoothing of the map, in pixels of the image; it does not change the score.
        reduction: image score, see `medad_plugins.scorers.MapPool`, on the token grid.

    Reference:
        Lendering, Akdag and Bondarev, "SubspaceAD: training-free few-shot anomaly detection via subspace modeling",
        CVPR 2026.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        backbone: str = "resnet18",
        weights: str = "none",
        layers: Sequence[int] | None = None,
        blocks: int = 2,
        neighbourhood: int = 3,
        window: int = 1,
        share: float = 0.99,
        mirrored: int | None = None,
        rotations: int = 1,
        foreground: float | None = None,
        sigma: float = 4.0,
        reduction: str | float = 0.01,
    ) -> None:
        super().__init__(
            TokenSubspace(share, window),
            spatial_dims,
            in_channels,
            backbone,
            weights,
            layers,
            blocks,
            neighbourhood,
            mirrored,
            rotations,
            foreground,
            sigma,
            reduction,
        )
