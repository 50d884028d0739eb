"""Patch-wise vector quantisation."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional

from medad_plugins.methods.p_vq.quantizer import PatchBlocks, PatchQuantizer
from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.networks.backbones import make_taps
from medad_plugins.networks.blocks.patch_embedding import PatchEmbedding
from medad_plugins.networks.blocks.upsampling_decoder import UpsamplingDecoder
from medad_plugins.scorers import GaussianSmoothing, residual_map

__all__ = ["PVQ"]


class PVQ(AnomalyNetwork):
    """After P-VQ: whole blocks of features are replaced by the nearest of a codebook, and a decoder rebuilds the scan.

    A code is a block of neighbouring features with its layout, so it remembers a larger piece of normal anatomy than a
    single vector does. Of the paper only the abstract was at hand; encoder, decoder, sizes, loss and score are ours.
    The features are frozen, so the loss, `medad_plugins.losses.ResidualLoss`, teaches the decoder; the codebook follows
    the features by itself.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        backbone: a key of `medad_plugins.networks.TAPS`; stages 2 and 3 of a ResNet are joined at stride 8.
        weights: path, known name or ``"none"``, see `medad_plugins.networks.find_weights`.
        block: edge of a block in cells of the first layer's grid.
        codes: size of the codebook.
        drop_fraction: share of the codes, the most used, that are forbidden in half of the training batches.
        residual_share: of the reconstruction's residual in the map, 0..1; the rest is the distance to the codes.
        sigma: Gaussian smoothing of the map, in pixels of the image.
        reduction: image score, see `medad_plugins.scorers.MapPool`.
        layers: of the backbone whose features are joined, finest first, see `make_taps`; None for stages 2 and 3 of a
            ResNet, or what `usual_layers` says of another backbone.

    Reference:
        Kim et al., "Patch-wise vector quantization for unsupervised medical anomaly detection", Pattern Recognition
        Letters 184, 2024.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        backbone: str = "resnet18",
        weights: str = "imagenet",
        block: int = 2,
        codes: int = 2048,
        drop_fraction: float = 0.2,
        residual_share: float = 0.1,
        sigma: float = 4.0,
        reduction: str | float = "max",
        layers: Sequence[int] | None = None,
    ) -> None:
        super().__init__(reduction)
        if not 0 <= residual_share <= 1:
            raise ValueError(f"residual_share must lie in 0..1, got {residual_share}.")
        self.residual_share = residual_share
        self.features = make_taps(backbone, spatial_dims, in_channels, layers, weights)
        self.embedding = PatchEmbedding(self.features.channels, spatial_dims, interpolation="linear")
        width = self.embedding.out_channels
        self.blocks = PatchBlocks(spatial_dims, block)
        self.quantizer = PatchQuantizer(width * block**spatial_dims, codes, drop_fraction=drop_fraction)
        doublings = max(2, math.ceil(math.log2(self.features.strides[0])))
        widths = [width, *[64] * (doublings - 2), 32]
        self.decoder = UpsamplingDecoder(spatial_dims, widths, in_channels, self.features.covers)
        self.mode = "bilinear" if spatial_dims == 2 else "trilinear"
        self.smoothing = GaussianSmoothing(spatial_dims, sigma)

    def quantised(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruction ``(B, C, *spatial)``, values 0..1, and the distance of blocks to their codes, 0..2."""
        features = self.embedding(self.features(image))
        codes, distance = self.quantizer(self.blocks(features))
        reconstruction = self.decoder(self.blocks.join(codes, list(features.shape[2:])), list(image.shape[2:]))
        return (reconstruction.to(image.dtype) + 1) / 2, distance

    def training_output(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruction and scan ``(B, C, *spatial)``, intensities 0..1."""
        return self.quantised(image)[0], image

    def anomaly_map(self, image: Tensor) -> Tensor:
        """Weighted sum of the absolute residual and the distance to the codes, smoothed, not negative."""
        reconstruction, distance = self.quantised(image)
        residual = residual_map(reconstruction, image, "l1")
        distance = functional.interpolate(distance, residual.shape[2:], mode=self.mode, align_corners=False)
        return self.smoothing(self.residual_share * residual + (1 - self.residual_share) * distance)
