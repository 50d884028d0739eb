"""What is fitted to the answers of normal scans, transform by transform."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medad_plugins.scorers.fitted import FittedModule
from medad_plugins.scorers.mean_over_scans import MeanOverScans

__all__ = ["Dirichlets", "TransformMeans"]

EULER = 0.5772156649015329  # minus the digamma function at 1


class TransformMeans(MeanOverScans):
    """Mean vector of each transform over normal scans, of vectors ``(B, T, D)``."""

    def forward(self, vectors: Tensor) -> Tensor:
        """Squared distances ``(B, T, T)`` of vectors ``(B, T, D)`` from the means of all transforms."""
        if self.mean.numel() == 0:
            raise RuntimeError("the means have not been fitted.")
        return (vectors.float().unsqueeze(2) - self.mean).square().sum(3)


class Dirichlets(FittedModule):
    """A Dirichlet distribution of the classifier's answers to each transform of normal scans.

    By maximum likelihood: Minka's fixed point, from his first guess of how concentrated it is ("Estimating a Dirichlet
    distribution", 2000).

    Args:
        steps: of the fixed point.

    Buffers:
        answers: means of probabilities and of their logarithms, see `TransformMeans`. alpha ``(T, T)``: of each
            transform, its parameters.
    """

    def __init__(self, steps: int = 200) -> None:
        super().__init__()
        self.steps = steps
        self.answers = TransformMeans()
        self.alpha: Tensor = nn.Buffer(torch.empty(0))

    def collect(self, logs: Tensor) -> None:
        """Add logarithms of probabilities ``(B, T, T)``, of the classes last."""
        self.answers.collect(torch.cat([logs.double().exp(), logs.double()], 2))

    def fit(self) -> None:
        """Find the parameters.

        Raises:
            InputError: no scan was seen.
        """
        self.answers.fit()
        mean, logs = self.answers.mean.double().chunk(2, 1)
        spread = (mean * (mean.clamp_min(1e-300).log() - logs)).sum(1, keepdim=True)
        # answers that are all alike would have no end
        alpha = mean * ((mean.shape[1] - 1) * EULER / spread.clamp_min(1e-6))
        for _ in range(self.steps):
            alpha = inverse_digamma(logs + torch.digamma(alpha.sum(1, keepdim=True))).clamp(1e-6, 1e6)
        self.alpha = alpha.float()

    def forward(self, logs: Tensor) -> Tensor:
        """Minus the log-likelihood ``(B,)``, but for its constant, of logarithms ``(B, T, T)``; a mean over T."""
        if self.alpha.numel() == 0:
            raise RuntimeError("the Dirichlet distributions have not been fitted.")
        return -((self.alpha - 1) * logs.float()).sum(2).mean(1)


def inverse_digamma(values: Tensor) -> Tensor:
    """Where the digamma function has these values, above 0, by Newton's method from Minka's guess."""
    found = torch.where(values >= -2.22, values.clamp_max(30).exp() + 0.5, -1 / (values + EULER))
    for _ in range(5):
        found = found - (torch.digamma(found) - values) / torch.special.polygamma(1, found)
    return found
