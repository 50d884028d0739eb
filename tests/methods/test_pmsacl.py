"""After PMSACL: who learns, what is scored."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from medad_plugins.methods.pmsacl import PMSACL, PMSACLTerms

CLASSES = torch.tensor([0, 0, 1, 1, 2, 2])


def _network(dims: int = 2) -> PMSACL:
    torch.manual_seed(0)
    return PMSACL(dims, 1, "resnet10", stages=3, classes=3, hidden=16, dimensions=8)


def _scans(dims: int = 2, count: int = 6) -> Tensor:
    return torch.rand((count, 1, *[32] * dims), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("dims", [2, 3])
def test_terms_are_what_the_card_says(dims: int) -> None:
    network, batch = _network(dims), {"image": _scans(dims), "target": CLASSES}
    network.centres.centres.normal_()
    terms = {name: float(term) for name, term in PMSACLTerms(0.2, 0.5)(network, batch).items()}
    with torch.no_grad():
        pooled = network.encoder(batch["image"])[-1].flatten(2).mean(2)
        vectors = network.head(pooled)
        vectors = vectors / vectors.norm(dim=1, keepdim=True)
        logits = network.classifier(pooled)
    contrast, centre, classes = 0.0, 0.0, 0.0
    for own in range(6):
        temperature = 0.2 if CLASSES[own] == 0 else 0.5
        powers = {o: math.exp(float(vectors[own] @ vectors[o]) / temperature) for o in range(6) if o != own}
        (fellow,) = [o for o in powers if CLASSES[o] == CLASSES[own]]
        contrast -= math.log(powers[fellow] / sum(powers.values())) / 6
        centre += float((vectors[own] - network.centres.centres[CLASSES[own]]).square().sum()) / 2
        classes -= float(logits[own].log_softmax(0)[CLASSES[own]]) / 6
    assert terms == pytest.approx({"contrast": contrast, "centre": centre, "classes": classes}, rel=1e-4)


def test_centres_follow_after_the_step_alone() -> None:
    network = _network()
    PMSACLTerms()(network, {"image": _scans(), "target": CLASSES})
    assert not bool(network.centres.centres.any())
    network.follow()
    assert bool(network.centres.centres.any(1).all())
    before = network.centres.centres.clone()
    network.follow()
    assert torch.equal(network.centres.centres, before), "once for each step"


def test_everything_that_is_trained_is_reached() -> None:
    network = _network()
    terms = PMSACLTerms()(network, {"image": _scans(), "target": CLASSES})
    network.centres.centres.normal_()
    torch.stack(list(terms.values())).sum().backward()
    untaught = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert untaught == []


@pytest.mark.parametrize("dims", [2, 3])
@torch.no_grad()
def test_the_score_is_the_distance_of_the_features(dims: int) -> None:
    network = _network(dims).eval()
    network.collect(_scans(dims, 12))
    network.fit()
    scans = _scans(dims, 3)
    features = network.encoder(scans)[-1].flatten(2).mean(2)
    features = features / features.norm(dim=1, keepdim=True)
    expected = network.gaussian(features) / len(network.gaussian.whitening)
    torch.testing.assert_close(network.pool(network(scans)), expected, rtol=1e-4, atol=1e-5)


def test_senseless_temperatures_are_refused() -> None:
    with pytest.raises(ValueError, match="temperatures must be positive"):
        PMSACLTerms(0.0)
