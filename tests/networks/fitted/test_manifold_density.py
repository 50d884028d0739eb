"""GPND's density against the distributions that it is made of."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import gennorm, norm

from medad_plugins.networks.fitted.manifold_density import ManifoldDensity


def _vectors(count: int = 400) -> np.ndarray:
    random = np.random.default_rng(0)
    code = np.stack([random.normal(2, 0.5, count), random.laplace(0, 3, count), random.uniform(-1, 1, count)], 1)
    # the length of a residual of ten independent values of deviation 2
    length = np.linalg.norm(random.normal(0, 2, (count, 10)), axis=1)
    return np.column_stack([code, length])


def test_exponents_and_freedom_are_those_of_the_data() -> None:
    head = ManifoldDensity()
    head.fit(torch.from_numpy(_vectors(4000)).float())
    # a Gaussian's exponent is 2, a Laplacian's 1, a uniform's without end
    assert float(head.shape[0]) == pytest.approx(2, abs=0.2)
    assert float(head.shape[1]) == pytest.approx(1, abs=0.1)
    assert float(head.shape[2]) > 6
    assert float(head.freedom) == pytest.approx(10, rel=0.15)


def test_it_is_the_sum_of_both_parts() -> None:
    vectors = _vectors()
    head = ManifoldDensity()
    head.fit(torch.from_numpy(vectors).float())
    tested = np.array([[2.1, -1.0, 0.3, 7.0], [5.0, 9.0, 0.5, 30.0]])
    found = head.unlikelihood(torch.from_numpy(tested).float()).numpy()
    for row, actual in zip(tested, found, strict=True):
        along = sum(
            gennorm.logpdf(row[i], float(head.shape[i]), float(head.place[i]), float(head.scale[i])) for i in range(3)
        )
        logs, width = np.log(vectors[:, 3]), float(head.width)
        spread = logs.std(ddof=1)
        assert width == pytest.approx(1.06 * spread * len(logs) ** -0.2, rel=1e-3)
        kernels = norm.pdf(np.log(row[3]), logs, width).mean()
        wide = norm.pdf(np.log(row[3]), logs.mean(), 3 * spread)
        radius = np.log((0.9 * kernels + 0.1 * wide) * np.sqrt(2 * np.pi) / row[3])
        expected = -along - radius + (float(head.freedom) - 1) * np.log(row[3])
        assert actual == pytest.approx(expected, rel=1e-3)


def test_what_is_unlikely_in_either_way_is_abnormal() -> None:
    vectors = torch.from_numpy(_vectors()).float()
    head = ManifoldDensity()
    head.fit(vectors)
    typical = torch.tensor([[2.0, 0.0, 0.0, 6.0]])
    odd_code, odd_length = typical.clone(), typical.clone()
    odd_code[0, 0], odd_length[0, 3] = 4.5, 20.0
    scores = head(torch.cat([typical, odd_code, odd_length]))
    highest = float(head(vectors).max())
    assert float(scores[0]) < highest < min(float(scores[1]), float(scores[2]))
    assert float(head(vectors).min()) >= 0
    with pytest.raises(RuntimeError, match="has not been fitted"):
        ManifoldDensity()(vectors)
