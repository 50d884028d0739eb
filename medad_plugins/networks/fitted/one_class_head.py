"""What judges feature vectors, and is fitted to those of normal scans alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from medad_plugins.errors import InputError
from medad_plugins.scorers.fitted import FittedModule

__all__ = ["OneClassHead", "softly_positive", "squared_distances", "standard_of", "unit_gamma"]


class OneClassHead(FittedModule):
    """Base of the detectors of `medad_plugins.methods.classic.DETECTORS`: ``fit(vectors)``, then vectors become scores.

    What is fitted lies in buffers, as plain arrays, and scoring is plain PyTorch: models hold no pickled objects of
    another library, and can be exported.

    Shape:
        vectors ``(n, D)`` to scores ``(n,)``, float32, not negative, higher is more abnormal.
    """

    def fit(self, vectors: Tensor) -> None:
        """Fit to vectors ``(n, D)`` of normal scans, at least two that differ, in double precision."""
        raise NotImplementedError

    def merge_buffers(self, states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Those of one site: who holds the vectors of all fits again."""
        return dict(states[0])


def squared_distances(queries: Tensor, bank: Tensor) -> Tensor:
    """Squared Euclidean distances ``(n, M)`` of vectors ``(n, D)`` to those of a bank ``(M, D)``, by one product."""
    # about the mean the products are small, and with them what rounding takes from them
    centre = bank.mean(0)
    queries, bank = queries - centre, bank - centre
    products = torch.addmm(bank.square().sum(1), queries, bank.t(), alpha=-2)
    return (products + queries.square().sum(1, keepdim=True)).clamp_min(0)


def unit_gamma(vectors: Tensor) -> float:
    """One over dimensions times variance of vectors ``(n, D)``: the ``gamma`` that scikit-learn calls ``"scale"``."""
    variance = float(vectors.double().var(correction=0))
    if not variance > 0:
        raise InputError("the normal scans have the same features", found=f"{len(vectors)}", todo="list others")
    return 1 / (vectors.shape[1] * variance)


def standard_of(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation, float32, of the normal vectors' own scores ``(n,)``; the latter is never 0."""
    scores = scores.double()
    return scores.mean().float(), scores.std(correction=0).clamp_min(1e-12).float()


def softly_positive(scores: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """Scores of any sign in the same order above 0: in deviations of the normal ones, bent to 0 far below these.

    What lies above the normal scores stays on a straight line.
    """
    return torch.nn.functional.softplus((scores.float() - mean) / deviation + 3)
