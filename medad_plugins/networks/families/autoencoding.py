"""Base of convolutional autoencoders: encoder, bottleneck, decoder, and the range they work in."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.networks.blocks.bottleneck import make_bottleneck
from medad_plugins.networks.blocks.box_mask import MASKS, mask_boxes
from medad_plugins.networks.blocks.norm_layers import require_several
from medad_plugins.networks.coders.conv_family import ConvDecoder, ConvEncoder

__all__ = ["AutoencodingNetwork"]


class AutoencodingNetwork(AnomalyNetwork):
    """Base of methods that code a scan by a small latent and rebuild it, in MedIAnomaly's layout.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        image_size: edge lengths of the scan in pixels, a multiple of ``2 ** len(channels)``.
        channels: widths of the stride-2 encoder blocks, mirrored in the decoder.
        hidden_size: width of the layer before the latent; 0 leaves it out.
        latent_size: length of the latent, of each location where the bottleneck is ``"spatial"``.
        bottleneck: ``"vector"`` or ``"spatial"``, see `medad_plugins.networks.blocks.bottleneck`.
        norm: see `medad_plugins.networks.blocks.norm_layers.norm_layer`.
        mask_input: boxes that are painted over in training, see `mask_boxes`; the target is the whole scan.
        heads: latents that the bottleneck gives, two for a variational one.
        outputs: scans that the decoder gives, the first of which is the reconstruction.
        reduction: image score, see `medad_plugins.scorers.MapPool`.

    Raises:
        InputError: the blocks cannot halve the image, or the latent is no bottleneck.
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
        norm: str = "batch",
        mask_input: str = "none",
        heads: int = 1,
        reduction: str | float = "mean",
        outputs: int = 1,
    ) -> None:
        super().__init__(reduction)
        if mask_input not in MASKS:
            raise ValueError(f"mask_input must be one of {MASKS}, got {mask_input!r}.")
        self.mask_input = mask_input
        self.needs_several = bottleneck == "vector" and hidden_size > 0 and norm == "batch"
        self.encoder = ConvEncoder(spatial_dims, in_channels, image_size, channels, norm)
        self.bottleneck, self.expansion = make_bottleneck(
            bottleneck, self.encoder.grid, latent_size, hidden_size, norm, heads=heads
        )
        # the output is linear: no norm and no activation after the last convolution
        self.in_channels = in_channels
        self.decoder = ConvDecoder(spatial_dims, outputs * in_channels, channels, norm)

    def encode(self, image: Tensor) -> Tensor:
        """The latents of scans ``(B, C, *spatial)`` with intensities 0..1."""
        if not torch.jit.is_scripting():
            self._require_several(image)
        # the network itself works on -1..1, where a linear output starts at mid-grey
        latent: Tensor = self.bottleneck(self.encoder(image * 2 - 1))
        return latent

    def decode(self, latent: Tensor) -> Tensor:
        """The scan ``(B, C, *spatial)`` decoded from a latent, intensities about 0..1."""
        image: Tensor = (self.decoder(self.expansion(latent))[:, : self.in_channels] + 1) / 2
        return image

    def _require_several(self, image: Tensor) -> None:
        if self.needs_several and self.training:
            require_several(image)

    def masked(self, image: Tensor) -> Tensor:
        """The scans as the encoder gets them in training."""
        return mask_boxes(image, self.mask_input)
