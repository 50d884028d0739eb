"""AnoGAN: a GAN of normal scans, and for every scan a search for what of it comes nearest."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medad_plugins.methods.anogan.latent_search import search_latents
from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.networks.coders.conv_family import doubling_widths
from medad_plugins.networks.coders.dcgan import ConvDiscriminator, DCGANGenerator
from medad_plugins.scorers import ResidualMap

__all__ = ["AnoGAN"]

SCORES = ("combined", "residual")


class AnoGAN(AnomalyNetwork):
    """DCGAN's generator and discriminator, and in eval mode a descent to the latent of each scan.

    Trained with `anogan_discriminator` and `anogan_generator`. In eval mode every scan's search
    begins at the same seeded latents and takes its own steps, so that a scan has one map; it needs gradients and cannot
    be exported. The parts work on scans of -1..1.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        image_size: edges of the scan in pixels; they are halved while even and at least twice 4.
        width: channels of the discriminator's first block, twice as many at each further one, up to 512.
        latent_size: length of the latent, whose prior is uniform between -1 and 1.
        steps: of the search.
        rate: Adam's learning rate in the search.
        starts: latents that are tried first; the search begins at the best one for each scan.
        weight: lambda, the share of the discriminator's features in what the search lowers and in the score; the
            residual has the rest.
        score: ``"combined"``, both sums with their shares, for each pixel and channel, by which the map is scaled; or
            ``"residual"``, the pooled map.
        reduction: of the map, see `medad_plugins.scorers.MapPool`.
        residual: of the map, see `medad_plugins.scorers.residual_map`.

    Reference:
        Schlegl et al., "Unsupervised Anomaly Detection with Generative Adversarial Networks to Guide Marker Discovery",
        IPMI 2017.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        image_size: int | Sequence[int] = 64,
        width: int = 64,
        latent_size: int = 100,
        steps: int = 500,
        rate: float = 0.001,
        starts: int = 1,
        weight: float = 0.1,
        score: str = "combined",
        reduction: str | float = "mean",
        residual: str = "l1",
    ) -> None:
        super().__init__(reduction)
        if score not in SCORES or not 0 <= weight <= 1:
            raise ValueError(f"score must be one of {SCORES} and weight 0 to 1, got {score!r}, {weight}.")
        if latent_size < 1 or steps < 0 or starts < 1:
            raise ValueError(
                f"latent_size and starts must be positive, steps not negative: {latent_size}, {starts}, {steps}."
            )
        self.latent_size, self.steps, self.rate = latent_size, steps, rate
        self.weight, self.score = weight, score
        self.difference = ResidualMap(residual)
        channels = doubling_widths(image_size, width)
        self.generator = DCGANGenerator(spatial_dims, in_channels, image_size, channels, latent_size)
        self.discriminator = ConvDiscriminator(spatial_dims, in_channels, image_size, channels)
        generator = torch.Generator().manual_seed(0)
        self.starts: Tensor = nn.Buffer(2 * torch.rand(starts, latent_size, generator=generator) - 1)

    def _parts(self, scan: Tensor, features: Tensor, generated: Tensor) -> tuple[Tensor, Tensor]:
        """Residual and difference of the discriminator's features, absolute, each summed for each case ``(B,)``."""
        residual = (scan - generated).abs().flatten(1).sum(1)
        return residual, (features - self.discriminator(generated)[1]).abs().flatten(1).sum(1)

    def _combined(self, scan: Tensor, features: Tensor, generated: Tensor) -> Tensor:
        residual, difference = self._parts(scan, features, generated)
        return (1 - self.weight) * residual + self.weight * difference

    def _first_latents(self, scan: Tensor, features: Tensor) -> Tensor:
        """The best of the starts for each scan ``(B, latent_size)``."""
        if len(self.starts) == 1:
            return self.starts.expand(len(scan), -1)
        values = torch.stack([self._combined(scan, features, image[None]) for image in self.generator(self.starts)])
        return self.starts[values.argmin(0)]

    def invert(self, image: Tensor) -> Tensor:
        """The latent that the search finds for each scan ``(B, latent_size)``, detached.

        Works where gradients are switched off around it, and leaves those of parameters alone. In train mode batch norm
        would make cases depend on each other: the search is for eval mode.
        """
        # gradients of half precision are noise
        with torch.autocast(image.device.type, enabled=False):
            with torch.no_grad():
                scan = image.to(torch.promote_types(image.dtype, torch.float32)) * 2 - 1
                features = self.discriminator(scan)[1]
                first = self._first_latents(scan, features)

            def value(latents: Tensor) -> Tensor:
                return self._combined(scan, features, self.generator(latents))

            return search_latents(value, first, self.steps, self.rate)

    def reconstruct(self, image: Tensor) -> Tensor:
        """What is generated from the latents found, ``(B, C, *spatial)``, intensities 0..1."""
        generated: Tensor = self.generator(self.invert(image))
        return (generated + 1) / 2

    def anomaly_map(self, image: Tensor) -> Tensor:
        """Residual on 0..1, averaged over channels; scaled so that it pools to the combined score."""
        latents = self.invert(image)
        with torch.no_grad(), torch.autocast(image.device.type, enabled=False):
            scan = image.to(latents.dtype) * 2 - 1
            generated = self.generator(latents)
            residual: Tensor = self.difference((generated + 1) / 2, (scan + 1) / 2)
            if self.score == "residual":
                return residual.float()
            score = self._combined(scan, self.discriminator(scan)[1], generated) / scan[0].numel()
            return self.scaled_to(score, residual).float()
