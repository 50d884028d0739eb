"""Density of normal feature vectors by Gaussian kernels."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from medad_plugins.networks.fitted.one_class_head import OneClassHead, squared_distances, unit_gamma

__all__ = ["KernelDensityHead"]


class KernelDensityHead(OneClassHead):
    """How improbable a vector is where every normal one carries a Gaussian of the same width.

    The score is the negative logarithm of the mean kernel: the negative log density but for the Gaussian's constant,
    which makes it 0 at the least, where all normal vectors lie on the one that is judged.

    Args:
        gamma: of the kernel ``exp(-gamma |x - y|^2)``, in units of `unit_gamma`; the bandwidth is
            ``sqrt(1 / (2 gamma))`` (Sohn et al., "Learning and evaluating representations for deep one-class
            classification", ICLR 2021).

    Buffers:
        bank ``(n, D)``: the normal vectors. gamma: of the kernel.
    """

    def __init__(self, gamma: float = 1.0) -> None:
        super().__init__()
        if gamma <= 0:
            raise ValueError(f"gamma must be positive, got {gamma}.")
        self.gamma_units = gamma
        self.bank: Tensor = nn.Buffer(torch.empty(0))
        self.gamma: Tensor = nn.Buffer(torch.zeros(()))

    @property
    def bandwidth(self) -> float:
        """Standard deviation of the fitted Gaussians; infinite before they are fitted."""
        gamma = float(self.gamma)
        return math.sqrt(1 / (2 * gamma)) if gamma > 0 else math.inf

    def fit(self, vectors: Tensor) -> None:
        self.bank = vectors.float()
        self.gamma = torch.tensor(self.gamma_units * unit_gamma(vectors), dtype=torch.float32, device=vectors.device)

    def forward(self, vectors: Tensor) -> Tensor:
        if self.bank.numel() == 0:
            raise RuntimeError("the density has not been fitted.")
        exponents = -self.gamma * squared_distances(vectors.float(), self.bank)
        return (math.log(self.bank.shape[0]) - torch.logsumexp(exponents, 1)).clamp_min(0)
