"""The detectors of vectors by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from medad_plugins.networks.fitted.cluster_distance import ClusterDistance
from medad_plugins.networks.fitted.density_ratio import DensityRatio
from medad_plugins.networks.fitted.gaussian_mixture import GaussianMixtureHead
from medad_plugins.networks.fitted.isolation_forest import IsolationTrees
from medad_plugins.networks.fitted.kernel_density import KernelDensityHead
from medad_plugins.networks.fitted.kernel_support import KernelSupport
from medad_plugins.networks.fitted.linear_support import LinearSupport
from medad_plugins.networks.fitted.local_outliers import LocalOutliers
from medad_plugins.networks.fitted.low_rank_gaussian import LowRankGaussian
from medad_plugins.networks.fitted.median_deviation import MedianDeviation
from medad_plugins.networks.fitted.nearest_neighbours import NearestNeighbours
from medad_plugins.networks.fitted.one_class_head import OneClassHead
from medad_plugins.networks.fitted.pyod_head import PyODHead
from medad_plugins.networks.fitted.robust_gaussian import RobustGaussian
from medad_plugins.networks.fitted.self_representation import SelfRepresentation
from medad_plugins.networks.fitted.sketch_subspace import SketchSubspace

__all__ = ["DETECTORS", "vector_head"]

SETTINGS: dict[str, Any] = {
    "gamma": 1.0,
    "nu": 0.1,
    "neighbours": 20,
    "clusters": 5,
    "directions": 32,
    "penalty": 0.1,
    "trees": 100,
    "tree_samples": 256,
    "seed": 0,
}
# each takes of the settings those that are its own
DETECTORS: dict[str, Callable[[dict[str, Any]], OneClassHead]] = {
    "ocsvm": lambda own: KernelSupport(own["nu"], own["gamma"]),
    "linear_ocsvm": lambda own: LinearSupport(own["nu"]),
    "svdd": lambda own: KernelSupport(own["nu"], own["gamma"], ball=True),
    "kde": lambda own: KernelDensityHead(own["gamma"]),
    "ulsif": lambda own: DensityRatio("ulsif", own["gamma"], seed=own["seed"]),
    "kliep": lambda own: DensityRatio("kliep", own["gamma"], seed=own["seed"]),
    "lof": lambda own: LocalOutliers(own["neighbours"]),
    "knn": lambda own: NearestNeighbours(own["neighbours"]),
    "kth_neighbour": lambda own: NearestNeighbours(own["neighbours"], last=True),
    "k_means": lambda own: ClusterDistance(own["clusters"], own["seed"]),
    "gmm": lambda own: GaussianMixtureHead(own["clusters"], own["seed"]),
    "isolation_forest": lambda own: IsolationTrees(own["trees"], own["tree_samples"], own["seed"]),
    "mahalanobis": lambda own: LowRankGaussian(),
    "mcd": lambda own: RobustGaussian(own["seed"]),
    "median": lambda own: MedianDeviation(),
    "sketch": lambda own: SketchSubspace(own["directions"]),
    "self_representation": lambda own: SelfRepresentation(own["penalty"]),
}


def vector_head(detector: str, **settings: Any) -> OneClassHead:
    """One of `DETECTORS`, or with ``pyod:NAME`` one of PyOD's.

    Args:
        detector: its name.
        settings: of `SETTINGS`, those that differ; a detector takes of them those that are its own.

    Raises:
        ValueError: there is no such detector or setting.
        InputError: PyOD is not installed, or has no such detector.
    """
    unknown = settings.keys() - SETTINGS.keys()
    if unknown:
        raise ValueError(f"settings must be of {sorted(SETTINGS)}, got {sorted(unknown)}.")
    own = {**SETTINGS, **settings}
    if detector.startswith("pyod:"):
        return PyODHead(detector.removeprefix("pyod:"), own["seed"])
    if detector not in DETECTORS:
        raise ValueError(f"detector must be one of {sorted(DETECTORS)} or pyod:NAME, got {detector!r}.")
    return DETECTORS[detector](own)
