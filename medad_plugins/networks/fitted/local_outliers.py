"""Local outlier factor of feature vectors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medad_plugins.errors import InputError
from medad_plugins.networks.fitted.one_class_head import OneClassHead, squared_distances

__all__ = ["LocalOutliers"]


class LocalOutliers(OneClassHead):
    """How much sparser the normal vectors are around a vector than around its neighbours among them.

    About 1 where a vector lies among normal ones, however dense these are there, and above it where it does not.

    Args:
        neighbours: how many, at least 1.

    Buffers:
        bank ``(n, D)``: the normal vectors. reach ``(n,)``: of each the distance to its last neighbour. density
        ``(n,)``: of each one over the mean reachability distance from its neighbours.

    Raises:
        InputError: there are not more normal vectors than neighbours.

    Reference:
        Breunig et al., "LOF: identifying density-based local outliers", SIGMOD 2000.
    """

    def __init__(self, neighbours: int = 20) -> None:
        super().__init__()
        if neighbours < 1:
            raise ValueError(f"neighbours must be at least 1, got {neighbours}.")
        self.neighbours = neighbours
        self.bank: Tensor = nn.Buffer(torch.empty(0))
        self.reach: Tensor = nn.Buffer(torch.empty(0))
        self.density: Tensor = nn.Buffer(torch.empty(0))

    def fit(self, vectors: Tensor) -> None:
        from sklearn.neighbors import NearestNeighbors  # takes a second, and only fitting needs it

        if len(vectors) <= self.neighbours:
            raise InputError(
                "there are not more normal scans than neighbours",
                where=f"--neighbours {self.neighbours}",
                expected=f"at most {len(vectors) - 1}",
                found=f"{len(vectors)} scans",
                todo="list more normal scans or lower --neighbours",
            )
        values = vectors.double().cpu().numpy()
        search = NearestNeighbors(n_neighbors=self.neighbours).fit(values)
        found, indices = search.kneighbors()  # without the vector itself
        distances, places = torch.from_numpy(found), torch.from_numpy(indices)
        reach = distances[:, -1]
        density = 1 / (torch.maximum(distances, reach[places]).mean(1) + 1e-10)
        self.bank, device = vectors.float(), vectors.device
        self.reach, self.density = reach.float().to(device), density.float().to(device)

    def forward(self, vectors: Tensor) -> Tensor:
        if self.bank.numel() == 0:
            raise RuntimeError("the local outlier factor has not been fitted.")
        vectors = vectors.float()
        places = torch.topk(squared_distances(vectors, self.bank), self.neighbours, dim=1, largest=False).indices
        # the product of matrices says which are nearest; how near is computed from the differences, which is exact
        distances = torch.linalg.vector_norm(vectors.unsqueeze(1) - self.bank[places], dim=2)
        mean_reach = torch.maximum(distances, self.reach[places]).mean(1)
        return self.density[places].mean(1) * (mean_reach + 1e-10)
