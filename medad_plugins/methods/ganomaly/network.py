"""GANomaly: what a scan's code loses when the scan is rebuilt and coded again."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.networks.coders.conv_family import doubling_widths
from medad_plugins.networks.coders.dcgan import ConvDiscriminator, DCGANEncoder, DCGANGenerator, init_dcgan
from medad_plugins.scorers import ResidualMap, StandardScore

__all__ = ["GANomaly", "RestartDiscriminator"]

SCORES = ("latent", "residual", "both")


class GANomaly(AnomalyNetwork):
    """Encoder, decoder and a second encoder against a discriminator: of abnormal scans the two codes differ.

    Trained on `medad_plugins.methods.ganomaly.ganomaly_terms`; the parts work on scans of -1..1.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        image_size: edges of the scan in pixels; they are halved while even and at least twice ``grid``.
        width: of the first block, doubled at each further one.
        widest: no block is wider.
        latent_size: length of the code.
        norm: see `norm_layer`. ``"instance"`` makes a score depend on its scan
            alone, as the public code's habit of testing with single scans in train mode does; ``"batch"`` is what the
            paper writes, here with running statistics.
        extra_blocks: 3x3 convolutions after the first block of encoders and discriminator.
        grid: edge of the smallest feature maps.
        score: ``"latent"``, the mean squared difference of the codes, by which the map is scaled; ``"residual"``, the
            pooled map; or ``"both"``, their sum, each in standard deviations of normal scans, for which `collect` and
            `fit` see these after the training: the two err differently.
        reduction: of the map, see `medad_plugins.scorers.MapPool`.
        residual: of the map, see `medad_plugins.scorers.residual_map`.

    Reference:
        Akcay et al., "GANomaly: Semi-Supervised Anomaly Detection via Adversarial Training", ACCV 2018.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        image_size: int | Sequence[int] = 64,
        width: int = 64,
        widest: int = 512,
        latent_size: int = 100,
        norm: str = "instance",
        extra_blocks: int = 0,
        grid: int = 4,
        score: str = "latent",
        reduction: str | float = "mean",
        residual: str = "l1",
    ) -> None:
        super().__init__(reduction)
        if score not in SCORES:
            raise ValueError(f"score must be one of {SCORES}, got {score!r}.")
        self.score = score
        self.difference = ResidualMap(residual)
        self.image_normality = StandardScore() if score == "both" else None
        self.latent_normality = StandardScore() if score == "both" else None
        channels = doubling_widths(image_size, width, grid, widest)
        shape = (spatial_dims, in_channels, image_size, channels)
        self.encoder = DCGANEncoder(*shape, latent_size, norm, extra_blocks=extra_blocks)
        self.decoder = DCGANGenerator(*shape, latent_size, norm)
        self.second_encoder = DCGANEncoder(*shape, latent_size, norm, extra_blocks=extra_blocks)
        self.discriminator = ConvDiscriminator(*shape, norm, extra_blocks=extra_blocks)

    def rebuild(self, scan: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of scans ``(B, C, *spatial)`` of -1..1: the reconstruction, the code and the code of the reconstruction."""
        code = self.encoder(scan)
        again = self.decoder(code)
        return again, code, self.second_encoder(again)

    def reconstruct(self, image: Tensor) -> Tensor:
        """The scan decoded from its code, ``(B, C, *spatial)``, intensities 0..1."""
        return (self.rebuild(image * 2 - 1)[0] + 1) / 2

    def training_output(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `rebuild`, of scans of 0..1."""
        return self.rebuild(image * 2 - 1)

    def errors(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Residual on 0..1, averaged over channels, ``(B, 1, *spatial)``, and that of the code, ``(B,)``."""
        again, code, second = self.rebuild(image * 2 - 1)
        residual: Tensor = self.difference((again.float() + 1) / 2, image.float())
        return residual, (code.float() - second.float()).square().mean(1)

    @torch.no_grad()
    def collect(self, image: Tensor) -> None:
        """Add the errors of a batch of normal scans ``(B, C, *spatial)``, in eval mode, where both count."""
        if self.image_normality is not None and self.latent_normality is not None:
            was_training = self.training
            self.eval()
            residual, distance = self.errors(image)
            self.train(was_training)
            self.image_normality.collect(self.pool(residual))
            self.latent_normality.collect(distance)

    def fit(self) -> None:
        """Compute mean and standard deviation of both errors in normal scans."""
        if self.image_normality is not None and self.latent_normality is not None:
            self.image_normality.fit()
            self.latent_normality.fit()

    def anomaly_map(self, image: Tensor) -> Tensor:
        """Residual on 0..1, averaged over channels; with the latent score scaled so that it pools to that.

        With both scores the code's error is added to it, with the spread that the pooled residual has in normal scans.
        """
        residual, distance = self.errors(image)
        if self.score == "residual":
            return residual
        if self.image_normality is not None and self.latent_normality is not None:
            distance = distance * (self.image_normality.deviation / self.latent_normality.deviation)
            return residual + distance.reshape([-1] + [1] * (residual.dim() - 1))
        return self.scaled_to(distance, residual)


class RestartDiscriminator:
    """After a phase: initialises the discriminator anew once it has won, so that there is something to learn from.

    Args:
        below: mean of the phase's terms ``real`` and ``generated`` under which that is done.
    """

    def __init__(self, below: float = 1e-5) -> None:
        self.below = below

    def __call__(self, network: GANomaly, terms: dict[str, float]) -> None:
        if 0.5 * (terms["real"] + terms["generated"]) < self.below:
            with torch.no_grad():
                init_dcgan(network.discriminator)
