"""Distance of feature vectors to their nearest normal ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medad_plugins.errors import InputError
from medad_plugins.networks.fitted.one_class_head import OneClassHead, squared_distances

__all__ = ["NearestNeighbours"]


class NearestNeighbours(OneClassHead):
    """Mean Euclidean distance to the nearest of the normal vectors, or the distance to the last of these.

    Args:
        neighbours: how many, at least 1.
        last: the distance to the last one alone (Knorr, Ng and Tucakov, "Distance-based outliers", VLDB Journal 2000;
            Ramaswamy, Rastogi and Shim, SIGMOD 2000).
        squared: take squares of the distances.

    Buffers:
        bank ``(n, D)``: the normal vectors.

    Raises:
        InputError: there are fewer normal vectors than neighbours.

    Reference:
        Angiulli and Pizzuti, "Fast outlier detection in high dimensional spaces", PKDD 2002.
    """

    def __init__(self, neighbours: int = 3, last: bool = False, squared: bool = False) -> None:
        super().__init__()
        if neighbours < 1:
            raise ValueError(f"neighbours must be at least 1, got {neighbours}.")
        self.neighbours, self.last, self.squared = neighbours, last, squared
        self.bank: Tensor = nn.Buffer(torch.empty(0))

    def fit(self, vectors: Tensor) -> None:
        if len(vectors) < self.neighbours:
            raise InputError(
                "there are fewer normal scans than neighbours",
                where=f"--neighbours {self.neighbours}",
                expected=f"at most {len(vectors)}",
                todo="list more normal scans or lower --neighbours",
            )
        self.bank = vectors.float()

    def forward(self, vectors: Tensor) -> Tensor:
        if self.bank.numel() == 0:
            raise RuntimeError("the nearest neighbours have not been fitted.")
        vectors = vectors.float()
        places = torch.topk(squared_distances(vectors, self.bank), self.neighbours, dim=1, largest=False).indices
        # the product of matrices says which are nearest; how near is computed from the differences, which is exact
        distances = torch.linalg.vector_norm(vectors.unsqueeze(1) - self.bank[places], dim=2)
        if self.squared:
            distances = distances.square()
        return distances.amax(1) if self.last else distances.mean(1)
