"""What a robust autoencoder takes out of its scans solves the problem that it is the solution of."""

from __future__ import annotations

import pytest
import torch

from medad_plugins.networks.blocks.outlier_part import OutlierPart


@pytest.mark.parametrize("kind", ["pixels", "scans"])
def test_it_is_the_proximal_step_of_its_norm(kind: str) -> None:
    torch.manual_seed(0)
    residual = 0.3 * torch.randn(6, 1, 4, 4).double() * torch.linspace(0.2, 2, 6).double()[:, None, None, None]
    size = 0.25
    sparse = OutlierPart(kind, size)(residual)

    def objective(part: torch.Tensor) -> torch.Tensor:
        error = 0.5 * (residual - part).square().flatten(1).sum(1)
        if kind == "pixels":
            return error + size * part.abs().flatten(1).sum(1)
        # size is of the root of the mean square, the norm is of the sum
        return error + size * 16**0.5 * part.flatten(1).norm(dim=1)

    best = objective(sparse)
    for _ in range(50):
        assert bool((objective(sparse + 0.01 * torch.randn_like(sparse)) >= best - 1e-12).all())
    small = residual.flatten(1).square().mean(1).sqrt() < size if kind == "scans" else residual.abs() < size
    assert not sparse[small].any()
    large = (~small).nonzero()
    assert len(large) and bool(sparse[tuple(large[0])].any())


def test_wrong_arguments() -> None:
    for kind, size in (("none", 0.1), ("pixels", 0.0)):
        with pytest.raises(ValueError, match="kind must be one of"):
            OutlierPart(kind, size)
