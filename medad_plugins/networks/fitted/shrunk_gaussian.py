"""A Gaussian of many dimensions from few vectors: Ledoit and Wolf's shrinkage, computed in one pass."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medad_plugins.errors import InputError
from medad_plugins.scorers.fitted import FittedModule

__all__ = ["ShrunkGaussian"]


class ShrunkGaussian(FittedModule):
    """A Gaussian whose covariance is shrunk towards a multiple of the identity, fitted by running moments.

    How far follows from the vectors (Ledoit and Wolf, "A well-conditioned estimator for large-dimensional covariance
    matrices", Journal of Multivariate Analysis 2004). It needs the fourth power of their distances to the mean, which
    comes from sums about zero, so that the shrinkage of all scans adds up from that of parts.

    Args:
        leave_out: share of the variance whose principal components are left out, those of the highest variance first;
            0 keeps all. The first component that reaches the share is left out too.

    Buffers:
        count: vectors seen. sum_x ``(D,)``, sum_xx ``(D, D)``, sum_nx ``(D,)``, sum_nn: sums, float64, of vectors, of
        their outer products, of vectors times squared norms, of squared norms squared; empty after `fit`. mean
        ``(D,)``; whitening ``(K, D)``, so that ``|whitening @ (x - mean)|`` is the Mahalanobis distance; shrinkage, 0
        to 1.
    """

    def __init__(self, leave_out: float = 0.0) -> None:
        super().__init__()
        if not 0 <= leave_out < 1:
            raise ValueError(f"leave_out must lie in [0, 1), got {leave_out}.")
        self.leave_out = leave_out
        self.count: Tensor = nn.Buffer(torch.zeros((), dtype=torch.long))
        self.sum_x: Tensor = nn.Buffer(torch.empty(0, dtype=torch.float64))
        self.sum_xx: Tensor = nn.Buffer(torch.empty(0, dtype=torch.float64))
        self.sum_nx: Tensor = nn.Buffer(torch.empty(0, dtype=torch.float64))
        self.sum_nn: Tensor = nn.Buffer(torch.empty(0, dtype=torch.float64))
        self.mean: Tensor = nn.Buffer(torch.empty(0))
        self.whitening: Tensor = nn.Buffer(torch.empty(0))
        self.shrinkage: Tensor = nn.Buffer(torch.zeros(()))

    def additive_buffers(self) -> tuple[str, ...]:
        return ("count", "sum_x", "sum_xx", "sum_nx", "sum_nn")

    def collect(self, vectors: Tensor) -> None:
        """Add vectors ``(n, D)`` to the sums."""
        x = vectors.detach().double()
        if self.sum_x.numel() == 0:
            self.count = torch.zeros_like(self.count)
            self.sum_x, self.sum_nx = x.new_zeros(x.shape[1]), x.new_zeros(x.shape[1])
            self.sum_xx, self.sum_nn = x.new_zeros(x.shape[1], x.shape[1]), x.new_zeros(1)
        norms = x.square().sum(1)
        self.count += len(x)
        self.sum_x += x.sum(0)
        self.sum_xx.addmm_(x.T, x)
        self.sum_nx += norms @ x
        self.sum_nn += norms.square().sum()

    def fit(self) -> None:
        """Turn the sums into mean, shrinkage and whitening, and drop them.

        Raises:
            InputError: there are fewer than two vectors, or they are all alike.
        """
        n = int(self.count)
        if n < 2 or self.sum_x.numel() == 0:
            todo = "list more normal scans to train on"
            raise InputError("a covariance needs at least two normal scans", found=n, todo=todo)
        mean = self.sum_x / n
        covariance = self.sum_xx / n - torch.outer(mean, mean)
        variance = covariance.diagonal().mean()
        if float(variance) <= 1e-14 * float(self.sum_xx.diagonal().mean()) / n:
            raise InputError("the normal scans have the same features", found=f"{n} scans", todo="list different scans")
        self.shrinkage = self._shrinkage(mean, covariance).float()
        # shrinking moves the variances along the principal components, not the components
        variances, components = torch.linalg.eigh(covariance)
        kept = self._kept(variances.clamp_min(0))
        shrunk = torch.lerp(variances.clamp_min(0), variance, self.shrinkage.double())[kept]
        self.mean = mean.float()
        # the floor is for vectors that span less than their space and are not shrunk
        whitening = (components[:, kept] / shrunk.clamp_min(1e-6 * float(variance)).sqrt()).T
        if self.leave_out == 0:
            # the symmetric root does not hang on which of equally good components the solver finds
            whitening = components @ whitening
        self.whitening = whitening.float().contiguous()
        for name in self.additive_buffers()[1:]:
            setattr(self, name, torch.empty(0, dtype=torch.float64, device=mean.device))

    def _shrinkage(self, mean: Tensor, covariance: Tensor) -> Tensor:
        """Ledoit and Wolf's optimal weight of the multiple of the identity, between 0 and 1."""
        n, size = int(self.count), len(mean)
        square = mean.square().sum()
        # sum of |x - mean|^4 by expanding |x - mean|^2 = |x|^2 - 2 mean.x + |mean|^2
        fourth = self.sum_nn.squeeze() + 4 * mean @ self.sum_xx @ mean + n * square.square()
        fourth = fourth - 4 * mean @ self.sum_nx + 2 * square * self.sum_xx.trace() - 4 * square * n * square
        scale = covariance.trace() / size
        squares = covariance.square().sum()
        # mean squared error of the covariance, and how far it is from the multiple of the identity
        error = (fourth / n - squares) / (size * n)
        distance = squares / size - scale.square()
        return (error / distance.clamp_min(1e-300)).clamp(0, 1)

    def _kept(self, variances: Tensor) -> Tensor:
        """Places of the components that are kept; variances rise."""
        if self.leave_out == 0:
            return torch.arange(len(variances), device=variances.device)
        # share of the variance up to and with each component, from the highest down
        share = variances.flip(0).cumsum(0) / variances.sum()
        left_out = min(int((share < self.leave_out).sum()) + 1, len(variances) - 1)
        return torch.arange(len(variances) - left_out, device=variances.device)

    def forward(self, vectors: Tensor) -> Tensor:
        """Mahalanobis distances ``(n,)`` of vectors ``(n, D)``."""
        if self.whitening.numel() == 0:
            raise RuntimeError("the Gaussian has not been fitted.")
        return torch.linalg.vector_norm((vectors.float() - self.mean) @ self.whitening.t(), dim=1)
