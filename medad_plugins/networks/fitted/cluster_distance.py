"""Distance of feature vectors to the nearest cluster of normal ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medad_plugins.networks.fitted.gaussian_mixture import require_clusters
from medad_plugins.networks.fitted.one_class_head import OneClassHead

__all__ = ["ClusterDistance"]


class ClusterDistance(OneClassHead):
    """Euclidean distance to the nearest of the means that k-means finds in the normal vectors.

    Args:
        clusters: how many, at least 1.
        seed: of their first places.

    Buffers:
        centres ``(K, D)``.

    Raises:
        InputError: there are more clusters than a tenth of the normal vectors.

    Reference:
        He, Xu and Deng, "Discovering cluster-based local outliers", Pattern Recognition Letters 2003, in its simplest
        form; fitted by scikit-learn's `KMeans`.
    """

    def __init__(self, clusters: int = 5, seed: int = 0) -> None:
        super().__init__()
        if clusters < 1:
            raise ValueError(f"clusters must be at least 1, got {clusters}.")
        self.clusters, self.seed = clusters, seed
        self.centres: Tensor = nn.Buffer(torch.empty(0))

    def fit(self, vectors: Tensor) -> None:
        from sklearn.cluster import KMeans  # takes a second, and only fitting needs it

        require_clusters(vectors, self.clusters)
        found = KMeans(self.clusters, n_init=10, random_state=self.seed).fit(vectors.double().cpu().numpy())
        self.centres = torch.from_numpy(found.cluster_centers_).float().to(vectors.device)

    def forward(self, vectors: Tensor) -> Tensor:
        if self.centres.numel() == 0:
            raise RuntimeError("the clusters have not been fitted.")
        apart = vectors.float().unsqueeze(1) - self.centres
        return torch.linalg.vector_norm(apart, dim=2).amin(1)
