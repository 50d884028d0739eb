"""Isolation forest as arrays."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medad_plugins.networks.fitted.one_class_head import OneClassHead

__all__ = ["IsolationTrees"]


def mean_path(cases: NDArray[Any]) -> NDArray[np.float64]:
    """Mean number of random cuts after which one of so many cases is alone, 0 for one case."""
    n = np.maximum(np.asarray(cases, dtype=np.float64), 2)
    path = 2 * (np.log(np.maximum(n - 1, 1)) + np.euler_gamma) - 2 * (n - 1) / n
    return np.where(np.asarray(cases) <= 1, 0.0, np.where(n == 2, 1.0, path))


class IsolationTrees(OneClassHead):
    """In how few random cuts a vector is alone: ``2 ** (-mean path / mean path of that many normal ones)``, 0 to 1.

    Every tree cuts a sample of the normal vectors by random thresholds on random dimensions. All trees lie in one row
    of nodes, and all vectors go down all of them together, one step at a time; leaves lead to themselves.

    Args:
        trees: how many.
        samples: normal vectors that a tree is grown on, fewer where there are fewer.
        seed: of the trees.

    Buffers:
        roots ``(trees,)``: nodes to begin at. dimension, threshold, below, above, path ``(nodes,)``: which value is
        compared with what, where it goes on if it is at most that or more than that, and for leaves the mean path of a
        vector that ends there. expected: the mean path of all normal ones.

    Reference:
        Liu, Ting and Zhou, "Isolation forest", ICDM 2008.
    """

    def __init__(self, trees: int = 100, samples: int = 256, seed: int = 0) -> None:
        super().__init__()
        if trees < 1 or samples < 2:
            raise ValueError(f"trees must be at least 1 and samples 2, got {trees} and {samples}.")
        self.trees, self.samples, self.seed = trees, samples, seed
        self.depth = math.ceil(math.log2(samples))  # deeper a tree is not grown
        self.roots: Tensor = nn.Buffer(torch.empty(0, dtype=torch.long))
        self.dimension: Tensor = nn.Buffer(torch.empty(0, dtype=torch.long))
        self.threshold: Tensor = nn.Buffer(torch.empty(0))
        self.below: Tensor = nn.Buffer(torch.empty(0, dtype=torch.long))
        self.above: Tensor = nn.Buffer(torch.empty(0, dtype=torch.long))
        self.path: Tensor = nn.Buffer(torch.empty(0))
        self.expected: Tensor = nn.Buffer(torch.zeros(()))

    def fit(self, vectors: Tensor) -> None:
        from sklearn.ensemble import IsolationForest  # takes a second, and only fitting needs it

        samples = min(self.samples, len(vectors))
        forest = IsolationForest(n_estimators=self.trees, max_samples=samples, random_state=self.seed)
        forest.fit(vectors.double().cpu().numpy())
        parts: list[dict[str, NDArray[Any]]] = []
        roots, start = [], 0
        for estimator in forest.estimators_:
            parts.append(_nodes(estimator.tree_, start))
            roots.append(start)
            start += len(parts[-1]["path"])
        self.roots = torch.tensor(roots, device=vectors.device)
        for name in parts[0]:
            values = torch.from_numpy(np.concatenate([part[name] for part in parts]))
            setattr(self, name, values.to(vectors.device))
        self.expected = torch.tensor(float(mean_path(np.array(samples))), device=vectors.device)

    def forward(self, vectors: Tensor) -> Tensor:
        if self.roots.numel() == 0:
            raise RuntimeError("the isolation forest has not been fitted.")
        vectors = vectors.float()
        nodes = self.roots.unsqueeze(0).expand(vectors.shape[0], -1)
        for _ in range(self.depth):
            values = vectors.gather(1, self.dimension[nodes])
            nodes = torch.where(values <= self.threshold[nodes], self.below[nodes], self.above[nodes])
        return torch.exp2(-self.path[nodes].mean(1) / self.expected)


def _nodes(tree: Any, start: int) -> dict[str, NDArray[Any]]:
    """The arrays of one of scikit-learn's trees, whose nodes are numbered from a start."""
    leaf = tree.children_left < 0
    own = np.arange(tree.node_count)
    depth = np.zeros(tree.node_count)
    for node in own:  # children come after their parent
        if not leaf[node]:
            depth[tree.children_left[node]] = depth[tree.children_right[node]] = depth[node] + 1
    # scikit-learn compares single precision with a threshold in double: of singles, those up to it are the same
    # as those up to the next single below
    single = tree.threshold.astype(np.float32)
    single = np.where(single > tree.threshold, np.nextafter(single, np.float32(-np.inf)), single)
    return {
        "dimension": np.where(leaf, 0, tree.feature).astype(np.int64),
        "threshold": np.where(leaf, np.float32(0), single).astype(np.float32),
        "below": (np.where(leaf, own, tree.children_left) + start).astype(np.int64),
        "above": (np.where(leaf, own, tree.children_right) + start).astype(np.int64),
        "path": (np.where(leaf, depth + mean_path(tree.n_node_samples), 0)).astype(np.float32),
    }
