"""Memory-guided normality."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Conv
from torch import Tensor
from torch.nn import functional

from medad_plugins.methods.mnad.prototypes import PrototypeMemory
from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.networks.coders.conv_family import ConvDecoder, ConvEncoder
from medad_plugins.networks.fitted.standardisation import Standardisation
from medad_plugins.scorers import residual_map

__all__ = ["MNAD"]


class MNAD(AnomalyNetwork):
    """MNAD in its reconstructing form: each location is decoded from itself and from what a memory of prototypes holds.

    Trained by `medad_plugins.methods.mnad.prototype_terms`, which writes the memory too. The map is the squared
    residual and the distance of each location to its nearest prototype, both in units of the normal scans' means,
    which are collected and fitted after the training.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        image_size: edge lengths of the scan, a multiple of ``2 ** len(channels)``.
        channels: widths of the stride-2 encoder blocks, mirrored in the decoder; there are no skips.
        latent_size: length of queries and items.
        items: of the memory.
        residual_weight: of the residual in the map, 0..1; the rest is that of the distance.
        reduction: image score, see `medad_plugins.scorers.MapPool`.

    Reference:
        Park, Noh and Ham, "Learning memory-guided normality for anomaly detection", CVPR 2020.

    Example:
        >>> network = MNAD(image_size=32, channels=(4, 8), latent_size=8).eval()
        >>> network(torch.rand(2, 1, 32, 32)).shape
        torch.Size([2, 1, 32, 32])
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        image_size: int | Sequence[int] = 64,
        channels: Sequence[int] = (32, 64, 128),
        latent_size: int = 128,
        items: int = 10,
        residual_weight: float = 0.7,
        reduction: str | float = "mean",
    ) -> None:
        super().__init__(reduction)
        if not 0 <= residual_weight <= 1:
            raise ValueError(f"residual_weight must lie in 0..1, got {residual_weight}.")
        conv = Conv[Conv.CONV, spatial_dims]
        self.encoder = ConvEncoder(spatial_dims, in_channels, image_size, channels)
        # neither norm nor activation, for queries of any direction
        self.to_query = conv(channels[-1], latent_size, 1)
        self.memory = PrototypeMemory(latent_size, items)
        self.from_memory = conv(2 * latent_size, channels[-1], 1)
        self.decoder = ConvDecoder(spatial_dims, in_channels, channels)
        self.residual_weight = residual_weight
        self.normal = Standardisation(2)
        self.mode = "bilinear" if spatial_dims == 2 else "trilinear"

    def queries(self, image: Tensor) -> Tensor:
        """Vectors of unit length ``(B, latent_size, *grid)`` of scans ``(B, C, *spatial)``, intensities 0..1."""
        return functional.normalize(self.to_query(self.encoder(image * 2 - 1)), dim=1)

    def decode(self, queries: Tensor, answers: Tensor) -> Tensor:
        """The scan ``(B, C, *spatial)``, intensities about 0..1, from queries and what the memory holds of them."""
        image: Tensor = (self.decoder(self.from_memory(torch.cat([queries, answers], 1))) + 1) / 2
        return image

    def reconstruct(self, image: Tensor) -> Tensor:
        """The scan rebuilt with the memory's help, ``(B, C, *spatial)``."""
        queries = self.queries(image)
        return self.decode(queries, self.memory(queries)[0])

    def training_output(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruction and queries ``(B, latent_size, *grid)``."""
        queries = self.queries(image)
        return self.decode(queries, self.memory(queries)[0]), queries

    def _parts(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Squared residual and distance of the prototypes at every pixel, ``(B, 1, *spatial)`` each."""
        queries = self.queries(image)
        answers, distances = self.memory(queries)
        residual = residual_map(self.decode(queries, answers), image, "l2").float()
        far = functional.interpolate(
            distances.float().unsqueeze(1), image.shape[2:], mode=self.mode, align_corners=False
        )
        return residual, far

    def collect(self, image: Tensor) -> None:
        """Add the means of normal scans ``(B, C, *spatial)`` to those that the map is in units of."""
        with torch.no_grad():
            residual, far = self._parts(image)
            self.normal.collect(torch.stack([residual.flatten(1).mean(1), far.flatten(1).mean(1)], 1))

    def fit(self) -> None:
        """Take the means of what was collected."""
        self.normal.fit()

    def anomaly_map(self, image: Tensor) -> Tensor:
        """Weighted sum of residual and distance, 1 in the mean of normal training scans, not negative."""
        residual, far = self._parts(image)
        # before the fit its means are 0: residual and distance as they are
        means = torch.where(self.normal.shift > 0, self.normal.shift, torch.ones_like(self.normal.shift))
        return self.residual_weight * residual / means[0] + (1 - self.residual_weight) * far / means[1]
