"""An encoder that brings normal scans near one point, for Deep SVDD and what followed it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.networks.blocks.bottleneck import make_bottleneck
from medad_plugins.networks.blocks.input_gradient import input_gradient
from medad_plugins.networks.coders.conv_family import ConvDecoder, ConvEncoder
from medad_plugins.networks.families.pooled_features import PooledFeatures

__all__ = ["OneCentre"]

MAPS = ("constant", "gradient")


class OneCentre(AnomalyNetwork):
    """An encoder that brings normal scans near one point; a scan is abnormal that it takes elsewhere.

    Nothing in the encoder could make that point of any scan alike: it has no bias, its batch norms have no affine part,
    its activation is unbounded. Its loss is the method's; before, the encoder may be trained as that of an autoencoder
    (`medad_plugins.losses.normalised_reconstruction`), and then the centre is set.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        image_size: edges of the scan in pixels, multiples of ``2 ** len(channels)``.
        channels: widths of the encoder's blocks, each of which halves the scan; the decoder mirrors them.
        latent_size: length of the embedding.
        contrast: whether every scan is brought to mean 0 and mean absolute value 1 first.
        map: ``"constant"``, the score everywhere, or ``"gradient"``: the absolute gradient of the distance, scaled so
            that the score stays.
        backbone: ``"none"``, the convolutions above; or a key of `medad_plugins.networks.TAPS`: linear layers without
            bias on its pooled features take their place, see `PooledFeatures`, whose mean and deviation are fitted to
            normal scans before the training; there is no first stage and nothing to decode.
        weights: of the backbone.
        layers: of the backbone, whose features are pooled.
        hidden: width of the layer before the embedding, on a backbone.
        reduction: image score, see `medad_plugins.scorers.MapPool`; the same for all with a constant map.

    Buffers:
        centre ``(latent_size,)``.

    References:
        Ruff et al., "Deep one-class classification", ICML 2018; "Deep semi-supervised anomaly detection", ICLR 2020.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        image_size: int | Sequence[int] = 64,
        channels: Sequence[int] = (32, 64, 128, 128),
        latent_size: int = 128,
        contrast: bool = True,
        map: str = "constant",
        reduction: str | float = "max",
        backbone: str = "none",
        weights: str = "none",
        layers: Sequence[int] | None = None,
        hidden: int = 256,
    ) -> None:
        super().__init__(reduction)
        if map not in MAPS:
            raise ValueError(f"map must be one of {MAPS}, got {map!r}.")
        self.of_gradient, self.on_features = map == "gradient", backbone != "none"
        # a backbone wants the intensities that it knows
        self.contrast = contrast and not self.on_features
        self.centre: Tensor = nn.Buffer(torch.zeros(latent_size))
        # convolutions, or layers on features
        self.encoder: Any
        self.bottleneck: Any
        self.expansion: Any
        self.decoder: Any
        if self.on_features:
            features = PooledFeatures(spatial_dims, in_channels, backbone, weights, layers)
            first, last = (nn.Linear(*sizes, bias=False) for sizes in ((features.size, hidden), (hidden, latent_size)))
            self.encoder, self.bottleneck = features, nn.Sequential(first, nn.LeakyReLU(0.1), last)
            self.expansion, self.decoder = nn.Identity(), nn.Identity()
        else:
            self._make_convolutions(spatial_dims, in_channels, image_size, channels, latent_size)

    def _make_convolutions(
        self,
        spatial_dims: int,
        in_channels: int,
        image_size: int | Sequence[int],
        channels: Sequence[int],
        latent_size: int,
    ) -> None:
        slope = 0.01
        encoder = ConvEncoder(spatial_dims, in_channels, image_size, channels, slope=slope)
        self.bottleneck, self.expansion = make_bottleneck("vector", encoder.grid, latent_size, 0, slope=slope)
        self.encoder = encoder
        self.decoder = ConvDecoder(spatial_dims, in_channels, channels, slope=slope)
        for layer in self.encoder.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                # an affine part could make everything one point
                layer.affine, layer.eps = False, 1e-4
                layer.register_parameter("weight", None)
                layer.register_parameter("bias", None)
            elif isinstance(layer, nn.LeakyReLU):
                # without one, the norm's gradient needs what it gave; several processes keep that and no copy of it
                layer.inplace = False

    @torch.no_grad()
    def collect(self, image: Tensor) -> None:
        """Add normal scans ``(B, C, *spatial)`` to what features are standardised by."""
        self.encoder.standard.collect(self.encoder.pooled(image))

    def fit(self) -> None:
        """Take mean and deviation of the features that were collected."""
        self.encoder.standard.fit()

    def normalised(self, image: Tensor) -> Tensor:
        """Scans ``(B, C, *spatial)`` with mean 0 and mean absolute value 1 each, or as they are."""
        if not self.contrast:
            return image
        mean, scale = self._contrast(image)
        return (image - mean) / scale

    def _contrast(self, image: Tensor) -> tuple[Tensor, Tensor]:
        shape = [-1] + [1] * (image.dim() - 1)
        mean = image.flatten(1).mean(1).reshape(shape)
        scale = (image - mean).abs().flatten(1).mean(1).reshape(shape)
        return mean, scale.clamp_min(1e-6)

    def embed(self, image: Tensor) -> Tensor:
        """Embeddings ``(B, latent_size)`` of scans ``(B, C, *spatial)``, intensities 0..1."""
        embedding: Tensor = self.bottleneck(self.encoder(self.normalised(image)))
        return embedding

    def rebuild(self, image: Tensor) -> Tensor:
        """Normalised scans ``(B, C, *spatial)`` decoded from their embeddings, for the first stage."""
        rebuilt: Tensor = self.decoder(self.expansion(self.embed(image)))
        return rebuilt

    def reconstruct(self, image: Tensor) -> Tensor:
        """`rebuild` in the scan's own intensities; on a backbone there is none, and the scan stays as it is."""
        if self.on_features:
            return image
        rebuilt = self.rebuild(image)
        if not self.contrast:
            return rebuilt
        mean, scale = self._contrast(image)
        return rebuilt * scale + mean

    def set_centre(self, mean: Tensor, least: float = 0.1) -> None:
        """Take the mean embedding ``(latent_size,)`` of normal scans for the centre; it is not trained.

        Components nearer to 0 than ``least`` are moved to it: with zero weights these would be met by any scan.
        """
        near = mean.abs() < least
        signed = torch.where(mean < 0, -least, least).to(mean)
        self.centre = torch.where(near, signed, mean).to(self.centre)

    def distances(self, embeddings: Tensor) -> Tensor:
        """Squared distances ``(B,)`` of embeddings from the centre."""
        difference = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32)) - self.centre
        return difference.square().sum(1)

    def _gradient(self, image: Tensor) -> Tensor:
        return input_gradient(lambda scan: self.distances(self.embed(scan)), image)

    def anomaly_map(self, image: Tensor) -> Tensor:
        """Squared distance from the centre, everywhere or as strong as the scan moves it."""
        return self.map_of_distance(image)

    def map_of_distance(self, image: Tensor) -> Tensor:
        """Map ``(B, 1, *spatial)`` that pools to the squared distance from the centre."""
        distances = self.distances(self.embed(image)).reshape([-1] + [1] * (image.dim() - 1))
        everywhere = torch.ones_like(image[:, :1], dtype=torch.float32)
        if self.of_gradient:
            if torch.jit.is_scripting():
                raise RuntimeError("a map of gradients cannot be computed by TorchScript")
            else:
                strength = self._gradient(image)
                everywhere = strength / self.pool(strength).clamp_min(1e-12).reshape(distances.shape)
        return distances * everywhere
