"""The memory of MemAE by plain loops, and the autoencoder around it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from medad_plugins.methods.memae import MemAE
from medad_plugins.networks import MemoryModule

Floats = NDArray[np.float64]


def _queries(*shape: int, seed: int = 0) -> Tensor:
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _memory(size: int, items: int, threshold: float, similarity: str = "dot") -> MemoryModule:
    torch.manual_seed(1)
    memory = MemoryModule(size, items, threshold, similarity)
    with torch.no_grad():
        memory.items.mul_(3)
    return memory


def _answer(query: Floats, items: Floats, threshold: float, cosine: bool) -> tuple[Floats, Floats]:
    """As the paper and its code write it, for one query."""
    likeness = np.array([query @ item for item in items])
    if cosine:
        likeness /= np.array([np.linalg.norm(query) * np.linalg.norm(item) for item in items])
    weights = np.exp(likeness) / np.exp(likeness).sum()
    shrunk = np.array([max(w - threshold, 0) * w / (abs(w - threshold) + 1e-12) for w in weights])
    shrunk /= max(np.abs(shrunk).sum(), 1e-12)
    return sum(w * item for w, item in zip(shrunk, items, strict=True)), shrunk


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
@pytest.mark.parametrize("threshold", [0.0, 0.05, 0.12])
@pytest.mark.parametrize("grid", [(), (3, 2), (2, 3, 2)])
@torch.no_grad()
def test_every_location_is_answered_for_itself(grid: tuple[int, ...], threshold: float, similarity: str) -> None:
    memory, queries = _memory(5, 10, threshold, similarity), _queries(2, 5, *grid)
    answers, weights = memory(queries)
    assert answers.shape == queries.shape and weights.shape == (2, 10, *grid)
    items = memory.items.double().numpy()
    places = np.ndindex(2, *grid)
    for case, *place in places:
        at = (case, slice(None), *place)
        expected, shares = _answer(queries[at].double().numpy(), items, threshold, similarity == "cosine")
        np.testing.assert_allclose(weights[at].numpy(), shares, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(answers[at].numpy(), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_threshold_below_one_over_the_items_hardly_leaves_anything_out() -> None:
    """25 items and 0.0025, as in MedIAnomaly's code: more is left out at one over the items, everything far above."""
    queries = 0.2 * _queries(200, 16)
    torch.manual_seed(0)
    kept = {t: MemoryModule(16, 25, t)(queries)[1].gt(0).sum(1).float() for t in (0.0025, 0.04, 0.12)}
    assert kept[0.0025].mean() > 24
    assert 5 < kept[0.04].mean() < 15 and kept[0.04].min() >= 1
    assert kept[0.12].mean() < 0.5


@torch.no_grad()
def test_a_query_that_finds_nothing_gets_zero() -> None:
    answers, weights = _memory(4, 10, 0.9)(torch.zeros(2, 4))
    assert not answers.any() and not weights.any() and bool(torch.isfinite(answers).all())


def test_the_memory_learns_by_gradient_where_it_counts() -> None:
    memory, queries = _memory(5, 10, 0.05), (0.1 * _queries(1, 5)).requires_grad_(True)
    answers, weights = memory(queries)
    assert 1 < int((weights > 0).sum()) < 10
    answers.square().sum().backward()
    assert memory.items.grad is not None and queries.grad is not None
    assert float(queries.grad.abs().sum()) > 0
    assert bool((memory.items.grad[weights[0] > 0].abs().sum(1) > 0).all())


def test_items_begin_within_one_over_the_root_of_their_length() -> None:
    items = MemoryModule(64, 500).items
    assert items.abs().max().item() <= 1 / 8
    assert items.std().item() == pytest.approx(1 / 8 / math.sqrt(3), rel=0.02)


@torch.no_grad()
def test_half_precision_leaves_the_weights_alone() -> None:
    memory, queries = _memory(5, 10, 0.05), _queries(3, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        answers, weights = memory(queries)
    assert torch.equal(weights, memory(queries)[1]) and answers.dtype == torch.float32


@pytest.mark.parametrize(("bottleneck", "hidden"), [("vector", 12), ("spatial", 0)])
@pytest.mark.parametrize("size", [(16, 24), (16, 8, 24)])
@pytest.mark.parametrize("residual", ["l1", "l2"])
@torch.no_grad()
def test_map_is_the_residual_of_what_the_memory_tells(
    size: tuple[int, ...], bottleneck: str, hidden: int, residual: str
) -> None:
    torch.manual_seed(0)
    network = MemAE(len(size), 2, size, (4, 8), hidden, 6, bottleneck, 10, 0.1, residual=residual).eval()
    scans = torch.rand(3, 2, *size, generator=torch.Generator().manual_seed(2))
    latent = network.bottleneck(network.encoder(2 * scans - 1))
    assert latent.shape == ((3, 6) if bottleneck == "vector" else (3, 6, *(edge // 4 for edge in size)))
    answers, _ = network.memory(latent)
    rebuilt = (network.decoder(network.expansion(answers)) + 1) / 2
    torch.testing.assert_close(network.reconstruct(scans), rebuilt)
    difference = (scans - rebuilt).abs() if residual == "l1" else (scans - rebuilt) ** 2
    anomaly_map = network(scans)
    torch.testing.assert_close(anomaly_map, difference.mean(1, keepdim=True))
    torch.testing.assert_close(network.pool(anomaly_map), difference.flatten(1).mean(1))
    torch.testing.assert_close(torch.jit.script(network)(scans), anomaly_map)


def test_what_there_is_not() -> None:
    for keys in ({"items": 1}, {"threshold": 1.0}, {"threshold": -0.1}):
        with pytest.raises(ValueError, match="items must be at least 2 and threshold lie in"):
            MemoryModule(4, **keys)
    with pytest.raises(ValueError, match="similarity must be one of"):
        MemoryModule(4, similarity="euclidean")
    with pytest.raises(ValueError, match="residual must be one of"):
        MemAE(residual="l0")
