"""How well feature vectors are sums of a few normal ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medad_plugins.networks.fitted.one_class_head import OneClassHead

__all__ = ["SelfRepresentation"]


class SelfRepresentation(OneClassHead):
    """Length of what is left of a vector when it is written as a sum of a few normal ones, by an elastic net.

    The weights c of the normal vectors, as the columns of X, minimise ``|x - X c|^2 / 2 + penalty * strength * (mix
    |c|_1 + (1 - mix) / 2 |c|^2)``, all vectors about the normal ones' mean and of length 1, strength the largest
    product of x with one of them: by a fixed number of accelerated proximal steps, the same for all, so that it can be
    exported. The score is the length of the residual, 0 to 1.

    R-graph draws a graph of such weights among all scans, and walks along it at random: what the walk leaves is
    abnormal. That needs all scans at once, and is for training sets with anomalies in them. Here normal scans are given
    and no score may depend on others, so that the residual takes the walk's place.

    Args:
        penalty: 0 to 1; 1 leaves all weights 0.
        mix: share of the absolute values in it, the rest is of squares.
        most: normal vectors, at most, drawn evenly.
        steps: of the search.

    Buffers:
        mean ``(D,)``. bank ``(n, D)``: of length 1. step: one over the largest eigenvalue of the bank's products.

    Reference:
        You, Robinson and Vidal, "Provable self-representation based outlier detection in a union of subspaces", CVPR
        2017.
    """

    def __init__(self, penalty: float = 0.1, mix: float = 0.9, most: int = 1000, steps: int = 100) -> None:
        super().__init__()
        if not 0 < penalty <= 1 or not 0 <= mix <= 1 or most < 2 or steps < 1:
            raise ValueError(f"penalty, mix, most, steps are out of range: {penalty}, {mix}, {most}, {steps}.")
        self.penalty, self.mix, self.most, self.steps = penalty, mix, most, steps
        self.mean: Tensor = nn.Buffer(torch.empty(0))
        self.bank: Tensor = nn.Buffer(torch.empty(0))
        self.step: Tensor = nn.Buffer(torch.zeros(()))

    def fit(self, vectors: Tensor) -> None:
        x = vectors.double()
        rows = torch.linspace(0, len(x) - 1, min(self.most, len(x)), device=x.device).round().long()
        mean = x.mean(0)
        bank = nn.functional.normalize(x[rows] - mean, dim=1)
        self.mean, self.bank = mean.float(), bank.float()
        self.step = (1 / torch.linalg.matrix_norm(bank, 2).square().clamp_min(1e-12)).float()

    def forward(self, vectors: Tensor) -> Tensor:
        if self.bank.numel() == 0:
            raise RuntimeError("the representation has not been fitted.")
        x = nn.functional.normalize(vectors.float() - self.mean, dim=1)
        products = x @ self.bank.t()
        weight = self.penalty * products.abs().amax(1, keepdim=True)
        sparse, square = weight * self.mix, weight * (1 - self.mix)
        weights = torch.zeros_like(products)
        ahead, momentum = weights, 1.0
        for _ in range(self.steps):
            slope = (ahead @ self.bank - x) @ self.bank.t()
            moved = ahead - self.step * slope
            moved = moved.sign() * (moved.abs() - self.step * sparse).clamp_min(0) / (1 + self.step * square)
            following = (1 + (1 + 4 * momentum * momentum) ** 0.5) / 2
            ahead = moved + (momentum - 1) / following * (moved - weights)
            weights, momentum = moved, following
        return torch.linalg.vector_norm(x - weights @ self.bank, dim=1)
