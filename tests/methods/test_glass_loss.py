"""GLASS' loss against plain sums over probabilities."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medad_plugins.methods.glass import GlassLogits, GlassLoss


def _said(seed: int, count: int = 11) -> GlassLogits:
    generator = torch.Generator().manual_seed(seed)
    normal, ascended = torch.randn(2, 7, generator=generator, dtype=torch.float64)
    local = 2 * torch.randn(count, generator=generator, dtype=torch.float64)
    return GlassLogits(normal, ascended, local, (torch.rand(count, generator=generator) < 0.3).double())


def _plain(said: GlassLogits, share: float, gamma: float) -> float:
    normal, ascended, local = (1 / (1 + np.exp(-one.numpy())) for one in (said.normal, said.ascended, said.local))
    total = -np.log(1 - normal).mean() - np.log(ascended).mean()
    mask = said.mask.numpy()
    hardest = sorted(range(len(local)), key=lambda i: (local[i] - mask[i]) ** 2)[-max(1, round(share * len(local))) :]
    right = [local[i] if mask[i] else 1 - local[i] for i in hardest]
    return float(total + np.mean([-((1 - p) ** gamma) * np.log(p) for p in right]))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("share", "gamma", "count"), [(0.5, 2.0, 12), (1.0, 2.0, 11), (0.25, 0.0, 8)])
def test_loss_is_the_papers(seed: int, share: float, gamma: float, count: int) -> None:
    said = _said(seed, count)
    assert float(GlassLoss(share, gamma)(said)) == pytest.approx(_plain(said, share, gamma), rel=1e-9)


def test_the_default_is_half_of_them_and_gamma_two() -> None:
    said = _said(0, 10)
    assert float(GlassLoss()(said)) == pytest.approx(_plain(said, 0.5, 2.0), rel=1e-9)


def test_certain_answers_stay_finite() -> None:
    far = torch.tensor([200.0, -200.0])
    said = GlassLogits(far, far, far.clone().requires_grad_(), torch.tensor([0.0, 1.0]))
    loss = GlassLoss()(said)
    loss.backward()
    assert bool(torch.isfinite(loss)) and bool(torch.isfinite(said.local.grad).all())  # type: ignore[arg-type]


def test_wrong_share() -> None:
    with pytest.raises(ValueError, match="hard_share must lie in"):
        GlassLoss(0)
