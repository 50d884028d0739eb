"""One autoencoder of DDAD-ASR's ensembles."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medad_plugins.networks.blocks.bottleneck import make_bottleneck
from medad_plugins.networks.blocks.memory_module import MemoryModule
from medad_plugins.networks.coders.conv_family import ConvDecoder, ConvEncoder

__all__ = ["KINDS", "EnsembleMember"]

KINDS = ("ae", "ae_u", "memae")


class EnsembleMember(nn.Module):
    """A plain autoencoder, one that says how uncertain each pixel is, or one with a memory.

    Args:
        spatial_dims, in_channels, image_size, channels: see `ConvEncoder`.
        kind: ``"ae"``, ``"ae_u"`` or ``"memae"``.
        hidden_size, latent_size: see `make_bottleneck`.
        items: of the memory.

    Shape:
        scans ``(B, C, *spatial)``, intensities -1..1, to the rebuilt scans, the logarithm of their variance ``(B, C,
        *spatial)``, which is 0 where the kind has none, and the weights ``(B, items)`` of the memory, ``(B, 0)`` where
        there is none.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        image_size: int | Sequence[int],
        channels: Sequence[int],
        kind: str,
        hidden_size: int,
        latent_size: int,
        items: int,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.says_uncertainty, self.remembers = kind == "ae_u", kind == "memae"
        self.encoder = ConvEncoder(spatial_dims, in_channels, image_size, channels)
        self.bottleneck, self.expansion = make_bottleneck("vector", self.encoder.grid, latent_size, hidden_size)
        outputs = (2 if self.says_uncertainty else 1) * in_channels
        self.decoder = ConvDecoder(spatial_dims, outputs, channels)
        # a threshold of 0, as in the public code
        self.memory = MemoryModule(latent_size, items, 0.0)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        latent = self.bottleneck(self.encoder(image))
        weights = latent[:, :0]
        if self.remembers:
            latent, weights = self.memory(latent)
        both = self.decoder(self.expansion(latent))
        mean = both[:, : self.in_channels]
        log_variance = both[:, self.in_channels :] if self.says_uncertainty else torch.zeros_like(mean)
        return mean, log_variance, weights
