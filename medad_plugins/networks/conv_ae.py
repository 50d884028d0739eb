"""Plain convolutional autoencoder."""

from __future__ import annotations

import math
from collections.abc import Sequence

from monai.networks.layers.factories import Conv, Norm
from monai.utils import ensure_tuple_rep
from torch import Tensor, nn

from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.scorers import RESIDUALS, residual_map

__all__ = ["ConvAE"]


class ConvAE(AnomalyNetwork):
    """Autoencoder with a narrow bottleneck that rebuilds healthy anatomy only; the residual is the anomaly map.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        image_size: edge lengths of the scan in pixels, a multiple of ``2 ** len(channels)``.
        channels: widths of the stride-2 encoder blocks, mirrored in the decoder.
        hidden_size: width of the layer before the latent.
        latent_size: length of the latent vector; the choice that matters most (16, or 4 for chest radiographs).
        residual: ``"l1"``, ``"l2"`` or ``"ssim"``, see `medad_plugins.scorers.residual_map`.
        reduction: image score, see `medad_plugins.scorers.MapPool`.

    References:
        Baur et al., "Autoencoders for unsupervised anomaly segmentation in brain MR images", MedIA 69, 2021; in the
        form of Cai et al., "MedIAnomaly", MedIA 102, 2025.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        image_size: int | Sequence[int] = 64,
        channels: Sequence[int] = (16, 32, 64, 64),
        hidden_size: int = 1024,
        latent_size: int = 16,
        residual: str = "l2",
        reduction: str | float = "mean",
    ) -> None:
        super().__init__(reduction)
        if residual not in RESIDUALS:
            raise ValueError(f"residual must be one of {RESIDUALS}, got {residual!r}.")
        step = 2 ** len(channels)
        size = ensure_tuple_rep(image_size, spatial_dims)
        if any(edge % step for edge in size):
            raise ValueError(f"image_size must be a multiple of {step} along every axis, got {size}.")
        conv, transposed = Conv[Conv.CONV, spatial_dims], Conv[Conv.CONVTRANS, spatial_dims]
        norm = Norm[Norm.BATCH, spatial_dims]
        self.residual = residual
        self.grid = [channels[-1], *(edge // step for edge in size)]

        encoder: list[nn.Module] = []
        for before, after in zip((in_channels, *channels[:-1]), channels):
            encoder += [conv(before, after, 4, 2, 1, bias=False), norm(after), nn.ReLU(inplace=True)]
        self.encoder = nn.Sequential(*encoder, nn.Flatten())
        self.bottleneck = nn.Sequential(
            nn.Linear(math.prod(self.grid), hidden_size),
            nn.BatchNorm1d(hidden_size),
            nn.ReLU(inplace=True),
            nn.Linear(hidden_size, latent_size),
        )
        self.expansion = nn.Sequential(
            nn.Linear(latent_size, hidden_size),
            nn.BatchNorm1d(hidden_size),
            nn.ReLU(inplace=True),
            nn.Linear(hidden_size, math.prod(self.grid)),
        )
        decoder: list[nn.Module] = []
        for before, after in zip(channels[::-1], (*channels[-2::-1], in_channels)):
            decoder += [transposed(before, after, 4, 2, 1, bias=False), norm(after), nn.ReLU(inplace=True)]
        # the output is linear: no norm and no activation after the last convolution
        self.decoder = nn.Sequential(*decoder[:-2])

    def reconstruct(self, image: Tensor) -> Tensor:
        """The scan as its latent vector tells it, ``(B, C, *spatial)``, intensities about 0..1."""
        # the network itself works on -1..1, where a linear output starts at mid-grey
        latent = self.bottleneck(self.encoder(image * 2 - 1))
        grid = self.expansion(latent).reshape([-1] + self.grid)
        return (self.decoder(grid) + 1) / 2

    def training_output(self, image: Tensor) -> Tensor:
        """The reconstruction ``(B, C, *spatial)``; its target is the scan."""
        return self.reconstruct(image)

    def anomaly_map(self, image: Tensor) -> Tensor:
        """Residual between the scan and its reconstruction, averaged over channels, not negative."""
        return residual_map(self.reconstruct(image), image, self.residual)
