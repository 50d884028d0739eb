"""How unlike the most similar entries of a dictionary of normal tokens a token is."""

from __future__ import annotations

from collections.abc import Sequence

from medad_plugins.networks.families.token_network import TokenNetwork
from medad_plugins.networks.fitted.token_dictionary import TokenDictionary

__all__ = ["SelfSimilarity"]


class SelfSimilarity(TokenNetwork):
    """After CNN-based self-similarity: distance of a frozen backbone's tokens to a dictionary of typical normal ones.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        backbone, weights, layers, blocks, neighbourhood: see `medad_plugins.networks.FrozenTokens`.
        entries, neighbours, share, place, references, storage, seed: see `medad_plugins.networks.TokenDictionary`.
        mirrored, rotations, foreground: see `medad_plugins.networks.TokenNetwork`.
        sigma: Gaussian smoothing of the map, in pixels of the image; it does not change the score.
        reduction: image score, see `medad_plugins.scorers.MapPool`, on the token grid.

    Reference:
        Napoletano, Piccoli and Schettini, "Anomaly detection in nanofibrous materials by CNN-based self-similarity",
        Sensors 2018.
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
        entries: int = 500,
        neighbours: int = 1,
        share: float | None = 0.95,
        place: float = 2.0,
        references: int = 250,
        storage: str = "float16",
        seed: int = 0,
        mirrored: int | None = None,
        rotations: int = 1,
        foreground: float | None = None,
        sigma: float = 4.0,
        reduction: str | float = 0.01,
    ) -> None:
        super().__init__(
            TokenDictionary(entries, neighbours, share, place, references=references, storage=storage, seed=seed),
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
