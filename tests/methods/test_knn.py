"""k-NN on pooled features against scikit-learn's search."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from medad_plugins.errors import InputError
from medad_plugins.methods.knn import KNN


def _network(spatial_dims: int, **settings: int | str) -> KNN:
    torch.manual_seed(0)
    return KNN(spatial_dims, backbone="resnet10", weights="none", **settings).eval()  # type: ignore[arg-type]


def _scans(spatial_dims: int, count: int, seed: int) -> Tensor:
    return torch.rand((count, 1) + (32,) * spatial_dims, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("spatial_dims", [2, 3])
@torch.no_grad()
def test_the_score_is_the_mean_distance_to_the_nearest_normal_scans(spatial_dims: int) -> None:
    network = _network(spatial_dims, neighbours=2)
    normal, others = _scans(spatial_dims, 7, 1), _scans(spatial_dims, 3, 2)
    for batch in normal.split(3):
        network.collect(batch)
    network.fit()
    known, new = (
        torch.cat([tap.flatten(2).mean(2) for tap in network.taps(images)], 1).numpy() for images in (normal, others)
    )
    expected = NearestNeighbors(n_neighbors=2).fit(known).kneighbors(new)[0].mean(1)
    found = network(others)
    np.testing.assert_allclose(network.pool(found).numpy(), expected, rtol=1e-4)
    assert found.shape == others.shape and bool((found.flatten(1).std(1) == 0).all()), "it does not say where"


def test_fewer_scans_than_neighbours_are_refused() -> None:
    network = _network(2, neighbours=4)
    network.collect(_scans(2, 3, 1))
    with pytest.raises(InputError, match="fewer normal scans than neighbours: --neighbours 4 .expected at most 3"):
        network.fit()


@pytest.mark.parametrize("neighbours", [0, -1])
def test_no_neighbour_is_refused(neighbours: int) -> None:
    with pytest.raises(ValueError, match="neighbours must be at least 1"):
        _network(2, neighbours=neighbours)
