"""How unlikely a latent and the distance of a scan from its reconstruction are together."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from medad_plugins.networks.fitted.one_class_head import OneClassHead, softly_positive, standard_of

__all__ = ["ManifoldDensity"]

_SHAPES = (0.3, 10.0, 80)  # lowest, highest and how many exponents are tried
_BROAD = 0.1  # share of a broad Gaussian in the density of distances, for scans far beyond the normal ones


class ManifoldDensity(OneClassHead):
    """Minus the logarithm of a density: of the latent along the manifold of normal scans, of the distance across it.

    Each latent value has a generalised Gaussian by maximum likelihood, about its mean. Across the manifold a scan's
    residual is as likely as its length is, over the surface of the sphere of that radius: of as many dimensions as the
    normal scans' lengths vary like, for a residual's pixels hang together.

    Buffers:
        place, scale, shape ``(D,)``: of the latent's Gaussians. lengths ``(n,)``: logarithms of the normal distances.
        width: of their kernels. freedom: dimensions of the residual. mean, deviation: of the normal scores.

    Shape:
        vectors ``(n, D + 1)``, latents and, last, distances, to ``(n,)``, not negative.

    Reference:
        Pidhorskyi et al., "Generative probabilistic novelty detection with adversarial autoencoders", NeurIPS 2018
        (GPND), without the determinant of the tangent, as in its public code.
    """

    def __init__(self) -> None:
        super().__init__()
        self.place: Tensor = nn.Buffer(torch.empty(0))
        self.scale: Tensor = nn.Buffer(torch.empty(0))
        self.shape: Tensor = nn.Buffer(torch.empty(0))
        self.lengths: Tensor = nn.Buffer(torch.empty(0))
        self.width: Tensor = nn.Buffer(torch.ones(()))
        self.freedom: Tensor = nn.Buffer(torch.ones(()))
        self.mean: Tensor = nn.Buffer(torch.zeros(()))
        self.deviation: Tensor = nn.Buffer(torch.ones(()))
        # logarithms of the shares, as numbers that TorchScript sees
        self.log_kernels, self.log_broad = math.log(1 - _BROAD), math.log(_BROAD)

    def fit(self, vectors: Tensor) -> None:
        x = vectors.double()
        code, distance = x[:, :-1], x[:, -1].clamp_min(1e-12)
        place = code.mean(0)
        away = (code - place).abs().clamp_min(1e-12)
        low, high, count = _SHAPES
        shapes = torch.logspace(math.log10(low), math.log10(high), count, dtype=torch.float64, device=x.device)
        # the scale that is likeliest with each exponent, and how likely that is: (count, D)
        powers = shapes[:, None]
        scales = torch.stack([(one * away.pow(one).mean(0)).pow(1 / one) for one in shapes])
        mean_log = (powers / (2 * scales)).log() - torch.lgamma(1 / powers) - 1 / powers
        best = mean_log.argmax(0)
        self.place, self.shape = place.float(), shapes[best].float()
        self.scale = scales.gather(0, best[None])[0].clamp_min(1e-6).float()
        lengths = distance.log()
        spread = lengths.std().clamp_min(1e-3)
        self.lengths, self.width = lengths.float(), (1.06 * spread * len(x) ** -0.2).float()
        squares = distance.square()
        freedom = 2 * squares.mean().square() / squares.var().clamp_min(1e-24)
        self.freedom = freedom.clamp(1, 1e6).float()
        self.mean, self.deviation = standard_of(self.unlikelihood(vectors))

    def unlikelihood(self, vectors: Tensor) -> Tensor:
        """Minus the logarithm of the density ``(n,)``, of any sign, without its constants."""
        code, distance = vectors[:, :-1].float(), vectors[:, -1].float().clamp_min(1e-12)
        normal = torch.log(self.shape / (2 * self.scale)) - torch.lgamma(1 / self.shape)
        along = (normal - ((code - self.place).abs() / self.scale).pow(self.shape)).sum(1)
        length = distance.log()
        apart = (length[:, None] - self.lengths) / self.width
        kernels = torch.logsumexp(-0.5 * apart.square(), 1) - math.log(self.lengths.shape[0]) - self.width.log()
        broad = 3 * self.lengths.std().clamp_min(1e-3)
        wide = -0.5 * ((length - self.lengths.mean()) / broad).square() - broad.log()
        radius = torch.logaddexp(kernels + self.log_kernels, wide + self.log_broad) - length
        return (self.freedom - 1) * length - radius - along

    def forward(self, vectors: Tensor) -> Tensor:
        if self.lengths.numel() == 0:
            raise RuntimeError("the density has not been fitted.")
        return softly_positive(self.unlikelihood(vectors), self.mean, self.deviation)
