"""A second variational coder that learns what scans have in common with damaged copies: their background."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medad_plugins.networks.batch_noise import batch_normal, batch_uniform
from medad_plugins.networks.blocks.bottleneck import make_bottleneck
from medad_plugins.networks.coders.conv_family import ConvDecoder, ConvEncoder

__all__ = ["BackgroundCoder"]


class BackgroundCoder(nn.Module):
    """Encoder, latent distribution and decoder of a `VAE`, learnt on scans some of whose pixels are random.

    What makes a scan likely whatever it shows, its air and its smoothness, makes it likely to this coder as well; in a
    ratio of both likelihoods that cancels out.

    Args:
        spatial_dims, in_channels, image_size, channels, hidden_size, latent_size, bottleneck: as of the VAE.
        perturbed: share of the pixels that are drawn anew, evenly from 0..1, in what it learns.

    Shape:
        scans ``(B, C, *spatial)``, 0..1, to the same rebuilt, and mean and logarithm of the variance of the latents.

    Reference:
        Ren et al., "Likelihood ratios for out-of-distribution detection", NeurIPS 2019.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        image_size: int | Sequence[int],
        channels: Sequence[int],
        hidden_size: int,
        latent_size: int,
        bottleneck: str = "vector",
        perturbed: float = 0.2,
    ) -> None:
        super().__init__()
        if not 0 < perturbed < 1:
            raise ValueError(f"perturbed must lie between 0 and 1, got {perturbed}.")
        self.perturbed = perturbed
        self.encoder = ConvEncoder(spatial_dims, in_channels, image_size, channels)
        self.bottleneck, self.expansion = make_bottleneck(
            bottleneck, self.encoder.grid, latent_size, hidden_size, heads=2
        )
        self.decoder = ConvDecoder(spatial_dims, in_channels, channels)

    def _posterior(self, image: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.bottleneck(self.encoder(image * 2 - 1)).chunk(2, 1)
        return mean, log_variance

    def damaged(self, image: Tensor) -> Tensor:
        """Scans with some of their pixels drawn anew, in all channels."""
        where = batch_uniform([image.shape[0], 1, *image.shape[2:]], image) < self.perturbed
        return torch.where(where, batch_uniform(image.shape, image), image)

    def drawn(self, damaged: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """In training: damaged scans rebuilt from latents drawn for them, and mean and log variance of these."""
        mean, log_variance = self._posterior(damaged)
        latent = mean + (0.5 * log_variance).exp() * batch_normal(mean.shape, mean)
        return (self.decoder(self.expansion(latent)) + 1) / 2, mean, log_variance

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance = self._posterior(image)
        return (self.decoder(self.expansion(mean)) + 1) / 2, mean, log_variance
