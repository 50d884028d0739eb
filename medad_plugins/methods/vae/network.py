"""Variational autoencoder, with the scores and maps that were proposed for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medad_plugins.methods.vae.background import BackgroundCoder
from medad_plugins.networks.batch_noise import batch_normal
from medad_plugins.networks.blocks.input_gradient import input_gradient
from medad_plugins.networks.blocks.total_variation import total_variation
from medad_plugins.networks.families.judged_autoencoding import JudgedAutoencodingNetwork
from medad_plugins.networks.fitted.reconstruction_judge import VECTORS
from medad_plugins.scorers import RESIDUALS, ResidualMap
from medad_plugins.scorers.coded_length import coded_length, gaussian_code_length
from medad_plugins.scorers.smoothing import GaussianSmoothing

__all__ = ["VAE"]

MAPS = ("residual", "residual_gradient", "kl_gradient", "elbo_gradient", "combined", "restoration")
SCORES = ("map", "kl", "elbo", "iwae", "probability", "complexity", "ratio", *VECTORS)


class VAE(JudgedAutoencodingNetwork):
    """Autoencoder whose latent is a distribution near the standard normal one.

    Trained with `VariationalTerms`. In eval mode the latent is the mean of its distribution, so
    that a scan has one map; scores from several latents use noise that is drawn once and kept with the network.

    Args:
        spatial_dims, in_channels, image_size, channels, hidden_size, latent_size, bottleneck, mask_input, reduction:
            see `AutoencodingNetwork`.
        residual: of the residual map, see `medad_plugins.scorers.residual_map`.
        map: ``"residual"``; the absolute gradient with respect to the scan of the summed squared residual
            (``"residual_gradient"``), of the latent's divergence (``"kl_gradient"``) or of both (``"elbo_gradient"``);
            the residual times the divergence's gradient (``"combined"``); or the residual to the scan that a descent
            from it leads to, in which it becomes likelier and stays near (``"restoration"``). Gradients cannot be
            exported.
        sigma: Gaussian smoothing of the gradients, in pixels.
        score: ``"map"``, the pooled map; or, to which the map is then shifted, per pixel of the scan: the divergence
            (``"kl"``), with half the squared residual (``"elbo"``), the importance-weighted sum of both (``"iwae"``),
            the mean over latents of half the squared residual (``"probability"``), the divergence and what the residual
            costs by the Gaussian that fits it best less the scan's own complexity, see `coded_length`
            (``"complexity"``), or the evidence bound less that of a `BackgroundCoder`, learnt beside it
            (``"ratio"``). One of a `ReconstructionJudge`'s
            vectors, collected and fitted after the training, scales the map to its detector's score: ``"code"`` is how
            far the latent's mean lies from those of normal scans (with ``knn`` q-space novelty), and ``"pathway"``
            RaPP.
        samples: latents of ``"iwae"`` and ``"probability"``.
        detector: of a judge's vectors, e.g. ``"mahalanobis"``, ``"knn"``, ``"gmm"``.
        steps, rate: of the descent of ``"restoration"``: how many, and how far each goes along the gradient, on -1..1.
        nearness: weight of the total variation of what the restoration has changed.
        perturbed: share of the pixels that a `BackgroundCoder` learns to do without.

    References:
        Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014, in MedIAnomaly's form (Cai et al., MedIA 102,
        2025); maps of Zimmerer et al., "Unsupervised Anomaly Localization Using Variational Auto-Encoders", MICCAI
        2019; restoration of You et al., "Unsupervised Lesion Detection via Image Restoration with a Normative Prior",
        MIDL 2019; scores of Lu and Xu, "Anomaly Detection for Skin Disease Images Using Variational Autoencoder", 2018,
        An and Cho, "Variational Autoencoder based Anomaly Detection using Reconstruction Probability", 2015; and
        Serra et al., "Input complexity and out-of-distribution detection with likelihood-based generative models", ICLR
        2020; Ren et al., "Likelihood ratios for out-of-distribution detection", NeurIPS 2019;
        Vasilev et al., "q-Space novelty detection with variational autoencoders", 2018.
    """

    __constants__ = ["has_background", "judges", "needs_likelihood", "needs_taps"]  # noqa: RUF012 - see the family

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        image_size: int | Sequence[int] = 64,
        channels: Sequence[int] = (16, 32, 64, 64),
        hidden_size: int = 1024,
        latent_size: int = 16,
        bottleneck: str = "vector",
        mask_input: str = "none",
        residual: str = "l2",
        map: str = "residual",
        sigma: float = 0.0,
        score: str = "map",
        samples: int = 15,
        reduction: str | float = "mean",
        detector: str = "mahalanobis",
        steps: int = 150,
        rate: float = 0.001,
        nearness: float = 1.8,
        perturbed: float = 0.2,
    ) -> None:
        for name, value, known in (("residual", residual, RESIDUALS), ("map", map, MAPS), ("score", score, SCORES)):
            if value not in known:
                raise ValueError(f"{name} must be one of {known}, got {value!r}.")
        if samples < 1 or steps < 1:
            raise ValueError(f"samples and steps must be at least 1, got {samples} and {steps}.")
        if rate <= 0 or nearness < 0:
            raise ValueError(f"rate must be positive and nearness not negative, got {rate} and {nearness}.")
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
            mask_input=mask_input,
            heads=2,
            reduction=reduction,
        )
        self.difference = ResidualMap(residual)
        self.map, self.score = map, score
        self.has_background = score == "ratio"
        self.background: Any = nn.Identity()
        if self.has_background:
            shape_of = (spatial_dims, in_channels, image_size, channels, hidden_size, latent_size, bottleneck)
            self.background = BackgroundCoder(*shape_of, perturbed)
        self.steps, self.rate, self.nearness = steps, rate, nearness
        self.smoothing = GaussianSmoothing(spatial_dims, sigma)
        shape = [latent_size, *(self.encoder.grid[1:] if bottleneck == "spatial" else ())]
        generator = torch.Generator().manual_seed(0)
        self.noise: Tensor = nn.Buffer(torch.randn(samples, *shape, generator=generator))

    def posterior(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance of the latents of scans, ``(B, latent_size[, *edges])`` each."""
        mean, log_variance = self.encode(image).chunk(2, 1)
        return mean, log_variance

    def code(self, image: Tensor) -> Tensor:
        """The means of the latents."""
        return self.posterior(image)[0]

    def reconstruct(self, image: Tensor) -> Tensor:
        """The scan decoded from the mean of its latent, ``(B, C, *spatial)``, intensities about 0..1."""
        return self.decode(self.posterior(image)[0])

    def training_output(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Reconstruction from a latent drawn for each scan, and mean and logarithm of the latents' variance."""
        mean, log_variance = self.posterior(image)
        latent = mean + (0.5 * log_variance).exp() * batch_normal(mean.shape, mean)
        return self.decode(latent), mean, log_variance

    def fill_in(self, image: Tensor) -> Tensor:
        """The scan ``(B, C, *spatial)`` from a copy with boxes painted over, by the mean of its latent."""
        return self.reconstruct(self.masked(image))

    def divergence(self, mean: Tensor, log_variance: Tensor) -> Tensor:
        """Kullback-Leibler divergence of each latent from the standard normal distribution, summed, ``(B,)``."""
        mean, log_variance = mean.float(), log_variance.float()
        return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).flatten(1).sum(1)

    def reconstruction_error(self, reconstruction: Tensor, image: Tensor) -> Tensor:
        """Half the summed squared residual on -1..1, ``(B,)``: ``-log p(x | z)`` of unit variance, up to a constant."""
        return 0.5 * (2 * (reconstruction - image)).float().square().flatten(1).sum(1)

    def _image_score(self, image: Tensor) -> Tensor:
        """The score of each case ``(B,)`` that is no pooled map, in nats for each pixel and channel."""
        mean, log_variance = self.posterior(image)
        divergence = self.divergence(mean, log_variance)
        if self.score == "kl":
            total = divergence
        elif self.score == "elbo":
            total = divergence + self.reconstruction_error(self.decode(mean), image)
        elif self.score == "complexity":
            squares = (self.decode(mean) - image).float().square().flatten(1).mean(1)
            return divergence / image[0].numel() + gaussian_code_length(squares) - coded_length(image)
        elif self.has_background:
            total = divergence + self.reconstruction_error(self.decode(mean), image) - self._background(image)
        else:
            total = self._over_samples(image, mean.float(), log_variance.float())
        return total / image[0].numel()

    def _background(self, image: Tensor) -> Tensor:
        """Minus the evidence bound of the background, ``(B,)``."""
        if self.has_background:
            rebuilt, mean, log_variance = self.background(image)
            return self.reconstruction_error(rebuilt, image) + self.divergence(mean, log_variance)
        return torch.zeros_like(image.flatten(1)[:, 0])

    def _over_samples(self, image: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
        errors: list[Tensor] = []
        ratios: list[Tensor] = []
        for noise in self.noise:
            latent = mean + (0.5 * log_variance).exp() * noise
            errors.append(self.reconstruction_error(self.decode(latent), image))
            # log p(z) - log q(z | x)
            ratios.append(0.5 * (noise.square() + log_variance - latent.square()).flatten(1).sum(1))
        fits = -torch.stack(errors)
        if self.score == "probability":
            return -fits.mean(0)
        # means of probabilities, which underflow: in logarithms
        count = torch.log(torch.full_like(fits[0], float(len(errors))))
        return 2 * count - torch.logsumexp(torch.stack(ratios), 0) - torch.logsumexp(fits, 0)

    def _objective(self, image: Tensor) -> Tensor:
        """What the map's gradient is of, for each case ``(B,)``."""
        mean, log_variance = self.posterior(image)
        if self.map in ("kl_gradient", "combined"):
            return self.divergence(mean, log_variance)
        error = self.reconstruction_error(self.decode(mean), image)
        return error if self.map == "residual_gradient" else error + self.divergence(mean, log_variance)

    def restore(self, image: Tensor) -> Tensor:
        """The scans ``(B, C, *spatial)`` as a descent from them leaves them, each by itself; in eval mode."""
        with torch.enable_grad(), torch.autocast(image.device.type, enabled=False):
            whole = image.detach().to(torch.promote_types(image.dtype, torch.float32))
            restored = whole.clone()
            for _ in range(self.steps):
                own = restored.requires_grad_(True)
                mean, log_variance = self.posterior(own)
                unlikely = self.reconstruction_error(self.decode(mean), own) + self.divergence(mean, log_variance)
                changed = self.nearness * total_variation(2 * (own - whole))
                (gradient,) = torch.autograd.grad((unlikely + changed).sum(), own)
                # a gradient on 0..1 is twice that on -1..1, where a step is twice as long
                restored = (own - self.rate * gradient / 4).detach()
        return restored

    def _map(self, image: Tensor) -> Tensor:
        if self.map == "residual":
            difference: Tensor = self.difference(self.reconstruct(image), image)
            return difference
        if torch.jit.is_scripting():
            raise RuntimeError("a map of gradients cannot be computed by TorchScript")
        else:
            if self.map == "restoration":
                residual: Tensor = self.difference(self.restore(image), image)
                return residual
            gradient: Tensor = self.smoothing(input_gradient(self._objective, image))
            if self.map == "combined":
                return gradient * self.difference(self.reconstruct(image), image)
            return gradient

    def anomaly_map(self, image: Tensor) -> Tensor:
        """The chosen map, float32; where the score is another, shifted or scaled so that its pooled value is that."""
        values = self._map(image).float()
        if self.score == "map" or self.judges:
            return self.judged(image, values)
        return self.pool.shifted_to(self._image_score(image), values)
