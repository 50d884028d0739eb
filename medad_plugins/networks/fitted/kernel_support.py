"""One-class support vector machine and support vector data description with a Gaussian kernel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medad_plugins.networks.fitted.one_class_head import OneClassHead, squared_distances, unit_gamma

__all__ = ["KernelSupport"]


class KernelSupport(OneClassHead):
    """A few weighted normal vectors; a vector is the more abnormal the further it is from these by a Gaussian kernel.

    The one-class support vector machine separates the normal vectors from the origin of the kernel's space, support
    vector data description encloses them in a ball there. With a Gaussian kernel both have the same solution and order
    vectors alike: by the weighted mean of the kernel, whose negative logarithm is the score, since far vectors would
    all have the same distance in single precision.

    Args:
        nu: share of the normal vectors that may lie outside, at most 1.
        gamma: of the kernel ``exp(-gamma |x - y|^2)``, in units of `unit_gamma`.
        ball: in units of the ball's surface (SVDD): the score is over ``boundary``.

    Buffers:
        support ``(M, D)``. weights ``(M,)``, sum 1. gamma: of the kernel. boundary: the machine's, as minus the
        logarithm of the kernel's weighted mean.

    References:
        Schölkopf et al., "Estimating the support of a high-dimensional distribution", Neural Computation 2001. Tax and
        Duin, "Support vector data description", Machine Learning 2004.
    """

    def __init__(self, nu: float = 0.1, gamma: float = 1.0, ball: bool = False) -> None:
        super().__init__()
        if not 0 < nu <= 1 or gamma <= 0:
            raise ValueError(f"nu must lie in (0, 1] and gamma be positive, got {nu} and {gamma}.")
        self.nu, self.gamma_units, self.ball = nu, gamma, ball
        self.support: Tensor = nn.Buffer(torch.empty(0))
        self.weights: Tensor = nn.Buffer(torch.empty(0))
        self.gamma: Tensor = nn.Buffer(torch.zeros(()))
        self.boundary: Tensor = nn.Buffer(torch.ones(()))

    def fit(self, vectors: Tensor) -> None:
        from sklearn.svm import OneClassSVM  # takes a second, and only fitting needs it

        gamma = self.gamma_units * unit_gamma(vectors)
        machine = OneClassSVM(kernel="rbf", gamma=gamma, nu=self.nu, tol=1e-6)
        machine.fit(vectors.double().cpu().numpy())
        weights = torch.from_numpy(machine.dual_coef_[0])
        boundary = torch.tensor(float(machine.offset_[0])) / weights.sum()
        device = vectors.device
        self.support = torch.from_numpy(machine.support_vectors_).float().contiguous().to(device)
        self.weights = (weights / weights.sum()).float().to(device)
        self.gamma = torch.tensor(gamma, dtype=torch.float32, device=device)
        self.boundary = -boundary.clamp_min(1e-30).log().float().to(device)

    def forward(self, vectors: Tensor) -> Tensor:
        if self.support.numel() == 0:
            raise RuntimeError("the one-class machine has not been fitted.")
        exponents = -self.gamma * squared_distances(vectors.float(), self.support)
        scores = -torch.logsumexp(exponents + self.weights.log(), 1).clamp_max(0)
        return scores / self.boundary.clamp_min(1e-6) if self.ball else scores
