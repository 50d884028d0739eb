"""Noise of a batch is the same for one process and for several."""

from __future__ import annotations

from functools import partial

import ignite.distributed as idist
import pytest
import torch

from medad_plugins.networks import batch_drawn, batch_normal, batch_uniform


@pytest.mark.parametrize("draw", [batch_normal, batch_uniform, partial(batch_drawn, partial(torch.randint, 0, 9))])
def test_processes_share_what_one_draws(draw: object, monkeypatch: pytest.MonkeyPatch) -> None:
    assert callable(draw)
    like = torch.zeros(1, dtype=torch.float64)
    torch.manual_seed(0)
    whole = draw((6, 2), like)
    assert whole.dtype == torch.float64
    monkeypatch.setattr(idist, "get_world_size", lambda: 2)
    for rank in (0, 1):
        monkeypatch.setattr(idist, "get_rank", lambda rank=rank: rank)
        torch.manual_seed(0)
        assert torch.equal(draw((3, 2), like), whole[rank::2]), "the loader gives cases by turns"


def test_distributions() -> None:
    torch.manual_seed(0)
    normal, uniform = batch_normal((20_000,), torch.zeros(1)), batch_uniform((20_000,), torch.zeros(1))
    assert float(normal.mean()) == pytest.approx(0, abs=0.03) and float(normal.std()) == pytest.approx(1, abs=0.03)
    assert 0 <= float(uniform.min()) and float(uniform.max()) < 1
    assert float(uniform.mean()) == pytest.approx(0.5, abs=0.01)
