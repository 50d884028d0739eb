"""A shrunk Gaussian of vectors that are longer than there are many of them."""

from __future__ import annotations

import logging

import torch
from torch import Tensor, nn

from medad_plugins.errors import InputError
from medad_plugins.networks.fitted.one_class_head import OneClassHead

__all__ = ["LowRankGaussian"]

logger = logging.getLogger(__name__)


class LowRankGaussian(OneClassHead):
    """Mahalanobis distance of a covariance shrunk by Ledoit and Wolf, over the root of the dimensions.

    The covariance is never formed: what the vectors span is at most as large as their number, and along everything
    else the shrunk variance is the same. So raw volumes can be judged, too, whose covariance would fill any memory.
    `ShrunkGaussian` is the same distance from running sums.

    Buffers:
        mean ``(D,)``. components ``(K, D)``: principal directions that the vectors span. precision ``(K,)``: one over
        the shrunk variance along them. outside: one over that along all others, 0 where there are none. shrinkage.

    Reference:
        Ledoit and Wolf, "A well-conditioned estimator for large-dimensional covariance matrices", Journal of
        Multivariate Analysis 2004.
    """

    def __init__(self) -> None:
        super().__init__()
        self.mean: Tensor = nn.Buffer(torch.empty(0))
        self.components: Tensor = nn.Buffer(torch.empty(0))
        self.precision: Tensor = nn.Buffer(torch.empty(0))
        self.outside: Tensor = nn.Buffer(torch.zeros(()))
        self.shrinkage: Tensor = nn.Buffer(torch.zeros(()))

    def fit(self, vectors: Tensor) -> None:
        x = vectors.double()
        count, size = x.shape
        mean = x.mean(0)
        x = x - mean
        mean_variance = x.square().sum() / (count * size)
        if not float(mean_variance) > 0:
            raise InputError("the normal scans have the same features", found=f"{count}", todo="list others")
        _, singular, right = torch.linalg.svd(x, full_matrices=False)
        variances = singular.square() / count
        kept = variances > 1e-12 * variances[0]
        shrinkage = self._shrinkage(x, variances, mean_variance)
        # the floor is for vectors that span less than their space and are not shrunk
        floor = 1e-6 * mean_variance
        shrunk = torch.lerp(variances[kept], mean_variance, shrinkage).clamp_min(floor)
        self.mean, self.components = mean.float(), right[kept].float().contiguous()
        self.precision, self.shrinkage = (1 / shrunk).float(), shrinkage.float()
        self.outside = (1 / (shrinkage * mean_variance).clamp_min(floor)).float()
        if len(self.components) == size:
            self.outside = torch.zeros_like(self.outside)
        if count <= size:
            logger.warning(
                "%d normal vectors are not more than their %d values, so the covariance is shrunk by %.2f:"
                " list more scans, or take fewer values with --features pca.",
                count,
                size,
                float(shrinkage),
            )

    @staticmethod
    def _shrinkage(centred: Tensor, variances: Tensor, mean_variance: Tensor) -> Tensor:
        """Ledoit and Wolf's optimal weight of the multiple of the identity, between 0 and 1."""
        count, size = centred.shape
        squares = variances.square().sum()  # of all entries of the covariance
        fourth = centred.square().sum(1).square().sum()
        # mean squared error of the covariance, and how far it is from the multiple of the identity
        error = (fourth / count - squares) / (size * count)
        distance = squares / size - mean_variance.square()
        return (error / distance.clamp_min(1e-300)).clamp(0, 1)

    def forward(self, vectors: Tensor) -> Tensor:
        if self.mean.numel() == 0:
            raise RuntimeError("the Gaussian has not been fitted.")
        x = vectors.float() - self.mean
        along = x @ self.components.t()
        rest = (x - along @ self.components).square().sum(1)
        squared = (along.square() * self.precision).sum(1) + rest * self.outside
        return (squared / x.shape[1]).sqrt()
