"""The terms of Deep SVDD's stages, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from medad_plugins.losses import normalised_reconstruction
from medad_plugins.methods.deep_svdd import DeepSVDD, DeepSVDDTerms


@pytest.fixture
def network() -> DeepSVDD:
    torch.manual_seed(0)
    network = DeepSVDD(2, 1, 16, (4, 8), 6)
    network.set_centre(torch.randn(6))
    return network.eval()


@pytest.fixture
def scans() -> Tensor:
    return torch.rand(7, 1, 16, 16, generator=torch.Generator().manual_seed(1))


def _squared(network: DeepSVDD, scans: Tensor) -> np.ndarray:
    with torch.no_grad():
        return ((network.embed(scans) - network.centre).double().numpy() ** 2).sum(1)


def test_first_stage_rebuilds_the_normalised_scan(network: DeepSVDD, scans: Tensor) -> None:
    terms = normalised_reconstruction(network, {"image": scans})
    with torch.no_grad():
        expected = np.mean((network.rebuild(scans) - network.normalised(scans)).double().numpy() ** 2)
    assert terms["reconstruction"].item() == pytest.approx(expected, rel=1e-5)


def test_one_class(network: DeepSVDD, scans: Tensor) -> None:
    loss = DeepSVDDTerms()
    terms = loss(network, {"image": scans})
    assert float(terms["distance"]) == pytest.approx(_squared(network, scans).mean(), rel=1e-5)
    with torch.no_grad():
        spread = network.embed(scans).double().numpy().var(0).mean()
    assert float(terms["spread"]) == pytest.approx(spread, rel=1e-4)
    assert not terms["spread"].requires_grad and loss.weights == {"spread": 0.0}
    assert float(network.radius) == int(network.followed) == 0


def test_soft_boundary_uses_the_radius_before_the_batch(network: DeepSVDD, scans: Tensor) -> None:
    loss, squared = DeepSVDDTerms("soft_boundary", nu=0.2, wait=1), _squared(network, scans)
    assert loss.weights == {"spread": 0.0, "outside": 5.0}
    radius = 0.0
    for step in range(3):
        terms = loss(network, {"image": scans})
        total = float(terms["ball"] + 5.0 * terms["outside"])
        expected = radius**2 + np.maximum(0, squared - radius**2).mean() / 0.2
        assert total == pytest.approx(expected, rel=1e-4)
        radius = 0.0 if step == 0 else float(np.quantile(np.sqrt(squared), 0.8))
        assert float(network.radius) == pytest.approx(radius, rel=1e-5)
    (gradient,) = torch.autograd.grad(terms["outside"], next(network.bottleneck.parameters()))
    assert float(gradient.abs().sum()) > 0


def test_what_there_is_not() -> None:
    with pytest.raises(ValueError, match="objective must be one of"):
        DeepSVDDTerms("two_class")
    for wrong in ({"nu": 0.0}, {"nu": 1.0}, {"wait": -1}):
        with pytest.raises(ValueError, match="nu must lie between 0 and 1"):
            DeepSVDDTerms(**wrong)
