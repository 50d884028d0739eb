"""How much denser normal feature vectors are than a broad reference, by kernels that are fitted to the ratio itself."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medad_plugins.networks.fitted.one_class_head import OneClassHead, squared_distances, unit_gamma

__all__ = ["DensityRatio", "kliep", "ulsif"]

Floats = NDArray[np.float64]


class DensityRatio(OneClassHead):
    """Negative logarithm of the ratio of two densities: that of normal vectors over that of a broader reference.

    The ratio is a sum of Gaussian kernels on normal vectors with weights that are fitted to it, neither density is.
    The papers take the scans to be judged for the reference, and judge them together; here no score may depend on
    others, so that the reference is drawn from a Gaussian with the normal vectors' mean and ``spread`` times their
    deviations, value by value.

    Args:
        objective: ``"ulsif"``, least squares, or ``"kliep"``, Kullback and Leibler's divergence.
        gamma: of the kernel ``exp(-gamma |x - y|^2)``, in units of `unit_gamma`.
        spread: of the reference, more than 1.
        most: kernels, at most, on vectors drawn evenly.
        seed: of the reference.

    Buffers:
        centres ``(M, D)``, log_weights ``(M,)``: of the kernels that count. gamma: of the kernel.

    References:
        Hido et al., "Statistical outlier detection using direct density ratio estimation", Knowledge and Information
        Systems 2011; Kanamori, Hido and Sugiyama, "A least-squares approach to direct importance estimation", JMLR 10;
        Sugiyama et al., "Direct importance estimation with model selection", NIPS 2007.
    """

    def __init__(
        self, objective: str = "ulsif", gamma: float = 1.0, spread: float = 2.0, most: int = 500, seed: int = 0
    ) -> None:
        super().__init__()
        if objective not in ("ulsif", "kliep"):
            raise ValueError(f"objective must be ulsif or kliep, got {objective!r}.")
        if gamma <= 0 or spread <= 1 or most < 1:
            raise ValueError(f"gamma, spread - 1 and most must be positive, got {gamma}, {spread} and {most}.")
        self.objective, self.gamma_units, self.spread, self.most, self.seed = objective, gamma, spread, most, seed
        self.centres: Tensor = nn.Buffer(torch.empty(0))
        self.log_weights: Tensor = nn.Buffer(torch.empty(0))
        self.gamma: Tensor = nn.Buffer(torch.zeros(()))

    def fit(self, vectors: Tensor) -> None:
        gamma = self.gamma_units * unit_gamma(vectors)
        x = vectors.double().cpu()
        noise = np.random.RandomState(self.seed).standard_normal(x.shape)
        reference = x.mean(0) + self.spread * x.std(0, correction=0) * torch.from_numpy(noise)
        rows = np.unique(np.linspace(0, len(x) - 1, min(self.most, len(x))).round().astype(int))
        centres = x[torch.from_numpy(rows)]

        def kernel(points: Tensor) -> Floats:
            found: Floats = torch.exp(-gamma * squared_distances(points, centres)).numpy()
            return found

        weights = (ulsif if self.objective == "ulsif" else kliep)(kernel(x), kernel(reference))
        kept = torch.from_numpy(np.flatnonzero(weights > 1e-12 * weights.max()))
        device = vectors.device
        self.centres = centres[kept].float().to(device)
        self.log_weights = torch.from_numpy(weights)[kept].log().float().to(device)
        self.gamma = torch.tensor(gamma, dtype=torch.float32, device=device)

    def forward(self, vectors: Tensor) -> Tensor:
        if self.centres.numel() == 0:
            raise RuntimeError("the density ratio has not been fitted.")
        exponents = self.log_weights - self.gamma * squared_distances(vectors.float(), self.centres)
        # no ratio is above the sum of the weights, where all kernels are 1
        return (torch.logsumexp(self.log_weights, 0) - torch.logsumexp(exponents, 1)).clamp_min(0)


def ulsif(normal: Floats, reference: Floats, ridge: float = 0.1) -> Floats:
    """Weights ``(M,)`` by unconstrained least squares, what is below 0 set to it.

    Args:
        normal, reference: kernels ``(n, M)`` at the points of either density.
        ridge: on the weights.
    """
    matrix = reference.T @ reference / len(reference)
    weights: Floats = np.linalg.solve(matrix + ridge * np.eye(len(matrix)), normal.mean(0))
    weights = weights.clip(0)
    return weights if weights.any() else np.full(len(weights), 1 / len(weights))


def kliep(normal: Floats, reference: Floats, steps: int = 300) -> Floats:
    """Weights ``(M,)``, not negative, of the highest mean log ratio of normal points; 1 is its mean over the reference.

    Args:
        normal, reference: kernels ``(n, M)`` at the points of either density.
        steps: of the multiplicative ascent, which keeps both conditions and never lowers the objective.
    """
    # in weights v of kernels whose mean over the reference is 1 they sum to 1: a mixture's, which EM fits
    mean = reference.mean(0).clip(1e-300)
    scaled = normal / mean
    share: Floats = np.full(normal.shape[1], 1 / normal.shape[1])
    before = -math.inf
    for _ in range(steps):
        ratio = (scaled @ share).clip(1e-300)
        share = share * (scaled / ratio[:, None]).mean(0)
        objective = float(np.log(ratio).mean())
        if objective - before < 1e-9:
            break
        before = objective
    return share / share.sum() / mean
