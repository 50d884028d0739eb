"""SubspaceAD against scikit-learn's principal components."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from medad_plugins.methods.subspace import SubspaceAD


def _scans(*size: int, batch: int = 6, seed: int = 0) -> Tensor:
    return torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", [(32, 48), (32, 32, 32)])
@pytest.mark.parametrize("window", [0, 1])
@torch.no_grad()
def test_the_score_is_what_components_leave(size: tuple[int, ...], window: int) -> None:
    torch.manual_seed(0)
    network = SubspaceAD(len(size), backbone="resnet10", window=window, share=0.9, reduction="max")
    scans, image = _scans(*size), _scans(*size, batch=2, seed=1)
    for batch in scans.split(4):
        network.collect(batch)
    network.fit()
    known, asked = (network.tokens.rows(x)[0].double().numpy() for x in (scans, image))
    left = np.zeros(asked.shape[:2])
    for place in range(asked.shape[1]):
        rows = known.reshape(-1, known.shape[2]) if window == 0 else known[:, place]
        model = PCA(n_components=0.9, svd_solver="full").fit(rows)
        left[:, place] = np.linalg.norm(
            asked[:, place] - model.inverse_transform(model.transform(asked[:, place])), axis=1
        )
    found = network.eval()(image)
    assert found.shape == image.shape
    np.testing.assert_allclose(network.pool(found).numpy(), left.max(1), rtol=1e-3)


@torch.no_grad()
def test_a_bright_spot_stands_out_where_it_is() -> None:
    torch.manual_seed(0)
    network = SubspaceAD(backbone="resnet10")
    base = _scans(64, 64, batch=1)
    network.collect((base + 0.05 * _scans(64, 64, batch=20, seed=1)).clamp(0, 1))
    network.fit()
    image = (base + 0.05 * _scans(64, 64, batch=2, seed=2)).clamp(0, 1)
    image[1, :, 36:60, 4:28] = 1
    found = network.eval()(image)
    assert float(network.pool(found)[1]) > 1.5 * float(network.pool(found)[0])
    peak = int(found[1].argmax())
    assert 32 <= peak // 64 < 64 and 0 <= peak % 64 < 32
