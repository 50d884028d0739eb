"""After SALAD: an autoencoder of damaged scans whose latents have a centre and outlive a second coding."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.networks.coders.conv_family import doubling_widths
from medad_plugins.networks.coders.dcgan import DCGANEncoder, DCGANGenerator
from medad_plugins.scorers import ResidualMap, StandardScore

__all__ = ["SALAD"]


class SALAD(AnomalyNetwork):
    """Encoder and decoder that restore damaged scans; scored by what is lost in images and in latents.

    Trained by `medad_plugins.engines.PhasedTrainer` on `SALADTerms`; then ``collect`` and ``fit``
    learn how large both errors are in normal scans. The parts work on scans of -1..1.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        image_size: edges of the scan in pixels; they are halved while even and at least twice ``grid``.
        width: of the first block, doubled at each further one.
        widest: no block is wider.
        latent_size: length of the latent.
        norm: see `medad_plugins.networks.blocks.norm_layers.norm_layer`.
        grid: edge of the smallest feature maps.
        image_share: of the image's error in the score, 0..1; the rest is the latent's. Each is measured in its standard
            deviations in normal scans.
        reduction: of the residual, see `medad_plugins.scorers.MapPool`.
        residual: of the map, see `medad_plugins.scorers.residual_map`.

    Buffers:
        centre ``(latent_size,)``: of the latents of normal scans.

    Reference:
        after Zhao et al., "Anomaly Detection for Medical Images Using Self-Supervised and Translation-Consistent
        Features", IEEE TMI 40, 2021, of which only the abstract was read.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        image_size: int | Sequence[int] = 64,
        width: int = 32,
        widest: int = 256,
        latent_size: int = 128,
        norm: str = "batch",
        grid: int = 4,
        image_share: float = 0.5,
        reduction: str | float = "mean",
        residual: str = "l1",
    ) -> None:
        super().__init__(reduction)
        if not 0 <= image_share <= 1:
            raise ValueError(f"image_share must lie in 0..1, got {image_share}.")
        self.image_share = float(image_share)
        self.difference = ResidualMap(residual)
        channels = doubling_widths(image_size, width, grid, widest)
        shape = (spatial_dims, in_channels, image_size, channels)
        self.encoder = DCGANEncoder(*shape, latent_size, norm)
        self.decoder = DCGANGenerator(*shape, latent_size, norm)
        self.centre: Tensor = nn.Buffer(torch.zeros(latent_size))
        self.image_normality = StandardScore()
        self.latent_normality = StandardScore()

    def embed(self, image: Tensor) -> Tensor:
        """Latents ``(B, latent_size)`` of scans ``(B, C, *spatial)``, intensities 0..1; of mean 0 and variance 1 each.

        Were they free, the nearest way to their centre and to each other would be to make all of them tiny.
        """
        latent: Tensor = self.encoder(image * 2 - 1)
        return functional.layer_norm(latent, latent.shape[1:])

    def decode(self, latent: Tensor) -> Tensor:
        """The scans ``(B, C, *spatial)`` decoded from latents, intensities 0..1."""
        image: Tensor = (self.decoder(latent) + 1) / 2
        return image

    def reconstruct(self, image: Tensor) -> Tensor:
        """The scan decoded from its latent, ``(B, C, *spatial)``, intensities 0..1."""
        return self.decode(self.embed(image))

    def training_output(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of scans joined with damaged copies ``(B, 2 * C, *spatial)``: what is restored, latents, second latents.

        The restored are of the copies. The latents are those of the scans, and of the scans decoded from these.
        """
        scan, damaged = image.chunk(2, 1)
        restored = self.reconstruct(damaged)
        latent = self.embed(scan)
        return restored, latent, self.embed(self.decode(latent))

    def set_centre(self, mean: Tensor) -> None:
        """Take the mean latent ``(latent_size,)`` of normal scans for the centre; it is not trained."""
        self.centre = mean.to(self.centre)

    def errors(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Residual ``(B, 1, *spatial)``, and mean squared difference ``(B,)`` of the two latents; float32."""
        latent = self.embed(image)
        again = self.decode(latent)
        gap = (latent.float() - self.embed(again).float()).square().mean(1)
        residual: Tensor = self.difference(again.float(), image.float())
        return residual, gap

    def collect(self, image: Tensor) -> None:
        """Add the errors of a batch of normal scans ``(B, C, *spatial)``, in eval mode."""
        residual, gap = self.errors(image)
        self.image_normality.collect(self.pool(residual))
        self.latent_normality.collect(gap)

    def fit(self) -> None:
        """Compute mean and standard deviation of both errors in normal scans."""
        self.image_normality.fit()
        self.latent_normality.fit()

    def anomaly_map(self, image: Tensor) -> Tensor:
        """Residual, plus the latent's error with the spread that the pooled residual has in normal scans.

        The latter is the same everywhere, so the pooled map orders scans as the weighted sum of both errors does, each
        in its own standard deviations. Before ``fit`` both are as they are.
        """
        residual, gap = self.errors(image)
        gap = gap * (self.image_normality.deviation / self.latent_normality.deviation)
        everywhere = gap.reshape([-1] + [1] * (residual.dim() - 1))
        return self.image_share * residual + (1 - self.image_share) * everywhere
