"""A mixture of Gaussians of normal feature vectors."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from medad_plugins.errors import InputError
from medad_plugins.networks.fitted.one_class_head import OneClassHead

__all__ = ["GaussianMixtureHead"]


class GaussianMixtureHead(OneClassHead):
    """How improbable a vector is by a mixture of Gaussians with full covariances, over the dimensions.

    The score is the negative log density, less the least that it could be: that of a point where all components peak.

    Args:
        clusters: components of the mixture, at least 1.
        seed: of their first places.
        ridge: added to the variances, in units of the vectors' mean variance.

    Buffers:
        means ``(K, D)``. whitening ``(K, D, D)``: Cholesky factors of the precisions. constants ``(K,)``: logarithms of
        the components' peaks. least: of the negative log density.

    Raises:
        InputError: there are not more normal vectors than ten a component.

    Reference:
        Roberts and Tarassenko, "A probabilistic resource allocating network for novelty detection", Neural Computation
        1994; fitted by scikit-learn's `GaussianMixture`.
    """

    def __init__(self, clusters: int = 5, seed: int = 0, ridge: float = 1e-3) -> None:
        super().__init__()
        if clusters < 1 or ridge <= 0:
            raise ValueError(f"clusters must be at least 1 and ridge be positive, got {clusters} and {ridge}.")
        self.clusters, self.seed, self.ridge = clusters, seed, ridge
        self.means: Tensor = nn.Buffer(torch.empty(0))
        self.whitening: Tensor = nn.Buffer(torch.empty(0))
        self.constants: Tensor = nn.Buffer(torch.empty(0))
        self.least: Tensor = nn.Buffer(torch.zeros(()))

    def fit(self, vectors: Tensor) -> None:
        from sklearn.mixture import GaussianMixture  # takes a second, and only fitting needs it

        require_clusters(vectors, self.clusters)
        x = vectors.double().cpu().numpy()
        ridge = self.ridge * float(x.var(0).mean())
        mixture = GaussianMixture(self.clusters, reg_covar=ridge, random_state=self.seed).fit(x)
        whitening = mixture.precisions_cholesky_
        log_determinants = np.log(np.diagonal(whitening, axis1=1, axis2=2)).sum(1)
        constants = np.log(mixture.weights_) + log_determinants - x.shape[1] / 2 * math.log(2 * math.pi)
        device = vectors.device
        self.means = torch.from_numpy(mixture.means_).float().to(device)
        self.whitening = torch.from_numpy(whitening).float().contiguous().to(device)
        self.constants = torch.from_numpy(constants).float().to(device)
        self.least = -torch.logsumexp(self.constants, 0)

    def forward(self, vectors: Tensor) -> Tensor:
        if self.means.numel() == 0:
            raise RuntimeError("the mixture has not been fitted.")
        apart = (vectors.float().unsqueeze(1) - self.means).transpose(0, 1)  # (K, n, D)
        squared = torch.bmm(apart, self.whitening).square().sum(2).t()
        surprise = -torch.logsumexp(self.constants - squared / 2, 1) - self.least
        return surprise.clamp_min(0) / self.means.shape[1]


def require_clusters(vectors: Tensor, clusters: int) -> None:
    """Refuse more clusters than a tenth of the vectors.

    Raises:
        InputError: as said.
    """
    if len(vectors) < 10 * clusters:
        raise InputError(
            "there are too few normal scans for so many clusters",
            where=f"--clusters {clusters}",
            expected=f"at most {max(1, len(vectors) // 10)}, a tenth of the scans",
            found=f"{len(vectors)} scans",
            todo="list more normal scans or lower --clusters",
        )
