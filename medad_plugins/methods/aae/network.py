"""Adversarial autoencoder: latents that a critic cannot distinguish from draws of a normal distribution."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.utils import eval_mode
from torch import Tensor

from medad_plugins.methods.aae.critic import LatentCritic
from medad_plugins.networks.batch_noise import batch_normal
from medad_plugins.networks.families.judged_autoencoding import JudgedAutoencodingNetwork
from medad_plugins.networks.fitted.reconstruction_judge import VECTORS
from medad_plugins.scorers import ResidualMap

__all__ = ["AAE"]


class AAE(JudgedAutoencodingNetwork):
    """AAE: an autoencoder whose latents a critic holds to the standard normal distribution; also constrained.

    Trained by `medad_plugins.engines.PhasedTrainer` on `medad_plugins.methods.aae.AAETerms`. The residual is the map.

    Args:
        spatial_dims, in_channels, image_size, channels, hidden_size, latent_size, bottleneck, reduction: see
            `AutoencodingNetwork`.
        critic_widths: hidden layers of the critic, see `LatentCritic`.
        residual: of the map, see `medad_plugins.scorers.residual_map`.
        score: ``"map"``, the pooled map, or one of a `ReconstructionJudge`'s vectors, to whose detector's score the map
            is scaled; ``"manifold"`` is GPND's density.
        detector: of these vectors.

    References:
        Makhzani et al., "Adversarial Autoencoders", 2015; Chen and Konukoglu, "Unsupervised Detection of Lesions in
        Brain MRI using constrained adversarial auto-encoders", MIDL 2018.
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
        critic_widths: Sequence[int] = (200, 400),
        residual: str = "l1",
        reduction: str | float = "mean",
        score: str = "map",
        detector: str = "mahalanobis",
    ) -> None:
        if score not in ("map", *VECTORS):
            raise ValueError(f"score must be one of {('map', *VECTORS)}, got {score!r}.")
        super().__init__(
            spatial_dims,
            in_channels,
            image_size,
            score,
            detector,
            channels=channels,
            hidden_size=hidden_size,
            latent_size=latent_size,
            bottleneck=bottleneck,
            reduction=reduction,
        )
        locations = torch.Size(self.encoder.grid[1:]).numel() if bottleneck == "spatial" else 1
        self.critic = LatentCritic(latent_size * locations, critic_widths)
        self.difference = ResidualMap(residual)

    def prior(self, latent: Tensor) -> Tensor:
        """As many latents as there are, drawn from the standard normal distribution."""
        return batch_normal(latent.shape, latent)

    def code_again(self, reconstruction: Tensor) -> Tensor:
        """The latents of reconstructions by the same encoder, with gradients through both.

        In inference mode, as the authors' code has it: batch norms are to follow scans, not reconstructions.
        """
        with eval_mode(self.encoder, self.bottleneck), torch.enable_grad():
            return self.encode(reconstruction)

    def reconstruct(self, image: Tensor) -> Tensor:
        """The scan decoded from its latent, ``(B, C, *spatial)``, intensities about 0..1."""
        return self.decode(self.encode(image))

    def training_output(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruction and latent."""
        latent = self.encode(image)
        return self.decode(latent), latent

    def anomaly_map(self, image: Tensor) -> Tensor:
        """Residual between the scan and its reconstruction, averaged over channels; scaled to a detector's score."""
        difference: Tensor = self.difference(self.reconstruct(image), image)
        return self.judged(image, difference.float())
