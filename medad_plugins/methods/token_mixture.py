"""A mixture of Gaussians of normal tokens."""

from __future__ import annotations

from collections.abc import Sequence

from medad_plugins.networks.families.token_network import TokenNetwork
from medad_plugins.networks.fitted.token_mixture import TokenMixture

__all__ = ["TokenMixtureAD"]


class TokenMixtureAD(TokenNetwork):
    """After DPMM: how far a frozen backbone's tokens lie from the components of a mixture of normal ones.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        backbone, weights, layers, blocks, neighbourhood: see `medad_plugins.networks.FrozenTokens`.
        components, passes, momentum, concentration, floor, regularisation, distance, place, references, storage, seed:
            see `medad_plugins.networks.TokenMixture`.
        mirrored, rotations, foreground: see `medad_plugins.networks.TokenNetwork`.
        sigma: Gaussian smoothing of the map, in pixels of the image; it does not change the score.
        reduction: image score, see `medad_plugins.scorers.MapPool`, on the token grid.

    Reference:
        Schulthess and Konukoglu, "Anomaly detection by clustering DINO embeddings using a Dirichlet process mixture",
        MICCAI 2025.
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
        components: int = 500,
        passes: int = 4,
        momentum: float = 0.2,
        concentration: float = 2.0,
        floor: float = 1e-6,
        regularisation: float = 1e-6,
        distance: str = "cosine",
        place: float = 0.0,
        references: int = 250,
        storage: str = "float16",
        seed: int = 0,
        mirrored: int | None = None,
        rotations: int = 1,
        foreground: float | None = None,
        sigma: float = 4.0,
        reduction: str | float = 0.01,
    ) -> None:
        mixture = TokenMixture(
            components,
            passes,
            momentum,
            concentration=concentration,
            floor=floor,
            regularisation=regularisation,
            distance=distance,
            place=place,
            references=references,
            storage=storage,
            seed=seed,
        )
        super().__init__(
            mixture,
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
