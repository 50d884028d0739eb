"""Memory-augmented autoencoder."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from medad_plugins.networks.blocks.memory_module import MemoryModule
from medad_plugins.networks.families.autoencoding import AutoencodingNetwork
from medad_plugins.scorers import RESIDUALS, ResidualMap

__all__ = ["MemAE"]


class MemAE(AutoencodingNetwork):
    """MemAE: an autoencoder that rebuilds a scan from the few learnt memory items that its latent resembles.

    Trained by `medad_plugins.methods.memae.memory_terms`. The residual is the anomaly map.

    Args:
        spatial_dims, in_channels, image_size, channels, hidden_size, latent_size, bottleneck, reduction: see
            `AutoencodingNetwork`. The memory's items are as long as the latent; a ``"vector"`` is one query for a scan,
            ``"spatial"`` one for each location of the last grid.
        items, threshold, similarity: of the memory, see `MemoryModule`.
        residual: of the map, see `medad_plugins.scorers.residual_map`; the loss is squared.

    Reference:
        Gong et al., ICCV 2019, with a vector in the form of Cai et al., "MedIAnomaly", MedIA 102, 2025.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        image_size: int | Sequence[int] = 64,
        channels: Sequence[int] = (16, 32, 64, 64),
        hidden_size: int = 1024,
        latent_size: int = 16,
        bottleneck: str = "vector",
        items: int = 25,
        threshold: float = 0.04,
        similarity: str = "dot",
        residual: str = "l2",
        reduction: str | float = "mean",
    ) -> None:
        if residual not in RESIDUALS:
            raise ValueError(f"residual must be one of {RESIDUALS}, got {residual!r}.")
        super().__init__(
            spatial_dims,
            in_channels,
            image_size,
            channels=channels,
            hidden_size=hidden_size,
            latent_size=latent_size,
            bottleneck=bottleneck,
            reduction=reduction,
        )
        self.difference = ResidualMap(residual)
        self.memory = MemoryModule(latent_size, items, threshold, similarity)

    def remember(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruction ``(B, C, *spatial)``, intensities about 0..1, and the weights ``(B, items)`` of the memory."""
        answer, weights = self.memory(self.encode(image))
        return self.decode(answer), weights

    def reconstruct(self, image: Tensor) -> Tensor:
        """The scan rebuilt from the memory, ``(B, C, *spatial)``, intensities about 0..1."""
        return self.remember(image)[0]

    def training_output(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruction and the weights that it was put together with."""
        return self.remember(image)

    def anomaly_map(self, image: Tensor) -> Tensor:
        """Residual between the scan and its reconstruction, averaged over channels, not negative."""
        difference: Tensor = self.difference(self.reconstruct(image), image)
        return difference
