"""A Gaussian of the most normal half of feature vectors, which a few abnormal ones among them do not move."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medad_plugins.errors import InputError
from medad_plugins.networks.fitted.one_class_head import OneClassHead

__all__ = ["RobustGaussian"]


class RobustGaussian(OneClassHead):
    """Mahalanobis distance by the minimum covariance determinant, over the root of the dimensions.

    Where some of the scans to train on are not normal after all, mean and covariance are those of the half of the
    vectors whose covariance has the smallest determinant, and of what lies within them.

    Args:
        seed: of the subsets that the search begins with.

    Buffers:
        mean ``(D,)``. precision ``(D, D)``.

    Raises:
        InputError: there are not five times as many normal vectors as values: the half of them would span too little.

    Reference:
        Rousseeuw and Van Driessen, "A fast algorithm for the minimum covariance determinant estimator", Technometrics
        1999; fitted by scikit-learn's `MinCovDet`.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.seed = seed
        self.mean: Tensor = nn.Buffer(torch.empty(0))
        self.precision: Tensor = nn.Buffer(torch.empty(0))

    def fit(self, vectors: Tensor) -> None:
        from sklearn.covariance import MinCovDet  # takes a second, and only fitting needs it

        count, size = vectors.shape
        if count < 5 * size:
            raise InputError(
                "a robust covariance needs more normal scans than their vectors have values",
                where="--detector mcd",
                expected=f"at least {5 * size} scans, five for each value",
                found=f"{count} scans of {size} values",
                todo=f"take fewer values: --components {max(1, count // 5)} with --features pca, --reduced"
                f" {max(1, count // 5)} with deep ones",
            )
        found = MinCovDet(random_state=self.seed).fit(vectors.double().cpu().numpy())
        self.mean = torch.from_numpy(found.location_).float().to(vectors.device)
        self.precision = torch.from_numpy(found.precision_).float().to(vectors.device)

    def forward(self, vectors: Tensor) -> Tensor:
        if self.mean.numel() == 0:
            raise RuntimeError("the robust Gaussian has not been fitted.")
        x = vectors.float() - self.mean
        return ((x @ self.precision * x).sum(1).clamp_min(0) / x.shape[1]).sqrt()
