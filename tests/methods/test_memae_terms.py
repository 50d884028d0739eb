"""The terms of MemAE's loss, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medad_plugins.losses import memory_entropy
from medad_plugins.methods.memae import MemAE, memory_terms


@pytest.mark.parametrize("shape", [(2, 4), (2, 4, 3, 5), (2, 4, 2, 3, 2)])
def test_entropy_is_the_mean_over_queries(shape: tuple[int, ...]) -> None:
    weights = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    weights[:, 0] = 0  # items that were left out
    weights = weights / weights.sum(1, keepdim=True)
    rows = weights.movedim(1, -1).reshape(-1, 4).double().numpy()
    expected = np.mean([-sum(w * np.log(w) for w in row if w > 0) for row in rows])
    assert memory_entropy(weights).item() == pytest.approx(expected, rel=1e-5)
    assert memory_entropy(torch.zeros(2, 4)).item() == 0


def test_terms() -> None:
    torch.manual_seed(0)
    network = MemAE(2, 1, 16, (4, 8), 0, 6, "spatial", 10, 0.1).eval()
    scans = torch.rand(3, 1, 16, 16)
    terms = memory_terms(network, {"image": scans})
    with torch.no_grad():
        rebuilt, weights = network.remember(scans)
    # on -1..1, where the network works
    expected = np.mean(((2 * scans - 1) - (2 * rebuilt - 1)).double().numpy() ** 2)
    assert terms["reconstruction"].item() == pytest.approx(expected, rel=1e-5)
    assert terms["entropy"].item() == pytest.approx(memory_entropy(weights).item(), rel=1e-5)
    none = (weights.sum(1) == 0).double().mean()
    assert terms["empty"].item() == pytest.approx(none.item(), abs=1e-6)
    assert terms["entropy"].requires_grad and not terms["empty"].requires_grad


def test_queries_that_find_nothing_are_counted() -> None:
    network = MemAE(2, 1, 16, (4, 8), 0, 6, "spatial", 10, 0.99).eval()
    assert memory_terms(network, {"image": torch.rand(2, 1, 16, 16)})["empty"].item() == 1
