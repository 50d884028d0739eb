"""f-AnoGAN: a Wasserstein GAN of normal scans and an encoder into its latent space."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.networks.coders.residual_gan import CriticTrunk, ResidualCritic, ResidualGenerator, init_residual
from medad_plugins.scorers import ResidualMap

__all__ = ["FAnoGAN"]

SCORES = ("combined", "residual")


class FAnoGAN(AnomalyNetwork):
    """A generator of normal scans, its critic, and an encoder that finds the latent of a scan in one pass.

    Trained in two stages: generator and critic on `f_anogan_generator` and `f_anogan_critic`, then
    the encoder alone on `FAnoGANEncoderTerms`. The parts work on scans of -1..1.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        image_size: edges of the scan in pixels; they are halved while even and at least twice 4.
        width: channels of the first convolution, up to eight times as many further down.
        latent_size: length of the latent, whose prior is the standard normal distribution.
        encoder_output: ``"tanh"``, the paper's, which keeps latents in -1..1, or ``"none"``.
        kappa: weight of the features in the score.
        score: ``"combined"``, the mean squared residual plus ``kappa`` times the mean squared difference of the
            critic's features, by which the map is scaled; or ``"residual"``, the pooled map.
        reduction: of the map, see `medad_plugins.scorers.MapPool`.
        residual: of the map, see `medad_plugins.scorers.residual_map`.

    Reference:
        Schlegl et al., "f-AnoGAN: Fast unsupervised anomaly detection with generative adversarial networks", MedIA 54,
        2019.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        image_size: int | Sequence[int] = 64,
        width: int = 64,
        latent_size: int = 128,
        encoder_output: str = "tanh",
        kappa: float = 1.0,
        score: str = "combined",
        reduction: str | float = "mean",
        residual: str = "l1",
    ) -> None:
        super().__init__(reduction)
        if score not in SCORES or encoder_output not in ("tanh", "none"):
            raise ValueError(
                f"score must be one of {SCORES} and encoder_output 'tanh' or 'none', got {score!r}, {encoder_output!r}."
            )
        if latent_size < 1 or kappa < 0:
            raise ValueError(f"latent_size must be positive and kappa not negative, got {latent_size}, {kappa}.")
        self.latent_size, self.kappa, self.score = latent_size, kappa, score
        self.difference = ResidualMap(residual)
        self.generator = ResidualGenerator(spatial_dims, in_channels, image_size, latent_size, width)
        self.critic = ResidualCritic(spatial_dims, in_channels, image_size, width)
        trunk = CriticTrunk(spatial_dims, in_channels, image_size, width, norm="batch")
        self.encoder = nn.Sequential(
            trunk, nn.Linear(trunk.features, latent_size), nn.Tanh() if encoder_output == "tanh" else nn.Identity()
        )
        init_residual(self.encoder)

    def reconstruct(self, image: Tensor) -> Tensor:
        """The normal scan nearest to the latent that the encoder finds, ``(B, C, *spatial)``, intensities 0..1."""
        scan: Tensor = self.generator(self.encoder(image * 2 - 1))
        return (scan + 1) / 2

    def training_output(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of scans: their reconstruction of -1..1, and the critic's features of scan and reconstruction."""
        scan = image * 2 - 1
        again = self.generator(self.encoder(scan))
        return again, self.critic(scan)[1], self.critic(again)[1]

    def anomaly_map(self, image: Tensor) -> Tensor:
        """Residual on 0..1, averaged over channels; scaled so that it pools to the combined score."""
        scan = image * 2 - 1
        again = self.generator(self.encoder(scan))
        difference = again.float() - scan.float()
        residual: Tensor = self.difference((again.float() + 1) / 2, image.float())
        if self.score == "residual":
            return residual
        features = self.critic(scan)[1].float() - self.critic(again)[1].float()
        score = difference.square().flatten(1).mean(1) + self.kappa * features.square().mean(1)
        return self.scaled_to(score, residual)
