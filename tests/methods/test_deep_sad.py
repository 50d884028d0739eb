"""Deep SAD's terms by hand, that without labels it is Deep SVDD, and that a few labels help."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from medad_plugins.methods.deep_sad import DeepSAD, DeepSADTerms
from medad_plugins.methods.deep_svdd import DeepSVDD, DeepSVDDTerms

SIZES = [(16, 24), (16, 8, 24)]


def _scans(*size: int, batch: int = 6, seed: int = 0) -> Tensor:
    return torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(seed))


def _network(*size: int) -> DeepSAD:
    torch.manual_seed(0)
    network = DeepSAD(len(size), 1, size, (4, 8), 6)
    network.set_centre(torch.randn(6))
    return network.eval()


@pytest.mark.parametrize("size", SIZES)
def test_terms_by_hand(size: tuple[int, ...]) -> None:
    network, scans = _network(*size), _scans(*size)
    labels = torch.tensor([0, 1, 0, 0, 1, 0])
    loss = DeepSADTerms(eta=3.0, epsilon=1e-3)
    terms = loss(network, {"image": scans, "target": labels})
    with torch.no_grad():
        d = ((network.embed(scans) - network.centre).double().numpy() ** 2).sum(1)
    y = labels.numpy() == 1
    total = sum(float(value.detach()) * loss.weights.get(name, 1.0) for name, value in terms.items())
    expected = (d[~y].sum() + 3 * (1 / (d[y] + 1e-3)).sum()) / 6
    assert total == pytest.approx(expected, rel=1e-4)
    assert float(terms["labelled"]) == pytest.approx(2 / 6)
    assert not terms["spread"].requires_grad


@pytest.mark.parametrize("size", SIZES)
def test_without_labels_it_is_deep_svdd(size: tuple[int, ...]) -> None:
    network, scans = _network(*size), _scans(*size)
    other = DeepSVDD(len(size), 1, size, (4, 8), 6).eval()
    other.load_state_dict({**network.state_dict(), "radius": torch.zeros(()), "followed": torch.tensor(0)})
    terms = DeepSADTerms()(network, {"image": scans, "target": torch.zeros(6, dtype=torch.long)})
    expected = DeepSVDDTerms()(other, {"image": scans})["distance"]
    total = terms["distance"] + terms["inverse"]
    assert torch.equal(total, expected)
    gradients = [
        torch.autograd.grad(value, list(net.bottleneck.parameters()))[0]
        for value, net in ((total, network), (expected, other))
    ]
    assert torch.equal(*gradients)
    with torch.no_grad():
        assert torch.equal(network(scans), other(scans))


def test_gradient_leads_anomalies_away_and_stays_finite_at_the_centre() -> None:
    network, scans = _network(16, 24), _scans(16, 24)
    parameters = list(network.bottleneck.parameters())
    before = network.distances(network.embed(scans)).detach()
    inverse = DeepSADTerms()(network, {"image": scans, "target": torch.ones(6, dtype=torch.long)})["inverse"]
    for parameter, gradient in zip(parameters, torch.autograd.grad(inverse, parameters), strict=True):
        parameter.data -= 1e-2 * gradient / gradient.norm()
    assert float((network.distances(network.embed(scans)) - before).mean()) > 0
    network.set_centre(network.embed(scans[:1]).detach()[0], least=0.0)
    terms = DeepSADTerms()(network, {"image": scans[:1], "target": torch.ones(1, dtype=torch.long)})
    assert float(terms["inverse"].detach()) == pytest.approx(1e6, rel=0.01)


def test_slices_have_the_label_of_their_volume() -> None:
    network, slices = _network(16, 24), _scans(16, 24, batch=6)
    terms = DeepSADTerms()(network, {"image": slices, "target": torch.tensor([0, 1])})
    whole = DeepSADTerms()(network, {"image": slices, "target": torch.tensor([0, 0, 0, 1, 1, 1])})
    assert torch.equal(terms["distance"], whole["distance"]) and torch.equal(terms["inverse"], whole["inverse"])


def test_a_few_labels_teach_what_normal_scans_alone_do_not() -> None:
    """Normal scans differ in a coarse stripe; anomalies have it too, and a faint dot that hardly changes a scan."""
    random = np.random.RandomState(0)

    def scans(count: int, dots: bool) -> Tensor:
        image = random.rand(count, 1, 16, 16).astype(np.float32) * 0.2
        for one in image:
            one[0, random.randint(16)] += 1.0
            if dots:
                one[0, 6:9, 6:9] += 0.25
        return torch.from_numpy(image)

    normal, anomalies = scans(200, False), scans(10, True)
    test = torch.cat([scans(150, False), scans(150, True)])
    truth = np.repeat([0, 1], 150)

    def auroc(labelled: bool) -> float:
        torch.manual_seed(0)
        network = DeepSAD(2, 1, 16, (8, 16), 8)
        network.train()
        with torch.no_grad():
            network.embed(normal)
            network.set_centre(network.embed(normal).mean(0))
        optimizer = torch.optim.Adam([*network.encoder.parameters(), *network.bottleneck.parameters()], 2e-3)
        loss = DeepSADTerms()
        order = np.random.RandomState(1)
        for _ in range(200):
            image = torch.cat([normal[order.permutation(200)[:28]], anomalies[order.permutation(10)[:4]]])
            labels = torch.tensor([0] * 28 + [int(labelled)] * 4)
            keep = slice(None) if labelled else slice(0, 28)
            terms = loss(network, {"image": image[keep], "target": labels[keep]})
            optimizer.zero_grad()
            (terms["distance"] + terms["inverse"]).backward()
            optimizer.step()
        network.eval()
        with torch.no_grad():
            return float(roc_auc_score(truth, network.pool(network(test)).numpy()))

    with_labels, without = auroc(True), auroc(False)
    assert with_labels > 0.9 and with_labels > without + 0.1


def test_what_there_is_not() -> None:
    for wrong in ({"eta": -1.0}, {"epsilon": 0.0}):
        with pytest.raises(ValueError, match="eta must not be negative"):
            DeepSADTerms(**wrong)


@pytest.mark.parametrize("size", [(32, 40), (16, 24, 16)])
@torch.no_grad()
def test_on_a_backbone_pooled_features_take_the_convolutions_place(size: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    keys = {"backbone": "resnet10", "layers": (1, 2), "latent_size": 5, "hidden": 7}
    network = DeepSAD(len(size), 1, size, **keys)  # type: ignore[arg-type]
    normal, scans = _scans(*size, batch=9), _scans(*size, seed=1)
    network.eval()
    for batch in normal.split(4):
        network.collect(batch)
    network.fit()
    network.set_centre(network.embed(normal).mean(0), least=0.0)
    taps = network.encoder.taps

    def pooled(image: Tensor) -> Tensor:
        return torch.cat([tap.flatten(2).mean(2) for tap in taps(image)], 1).double()

    known = pooled(normal)
    deviation = known.std(0, correction=0)
    x = (pooled(scans) - known.mean(0)) / torch.where(deviation > 1e-6 * deviation.max(), deviation, 1.0)
    first, last = (network.bottleneck[index].weight.double() for index in (0, 2))
    x = torch.nn.functional.leaky_relu(x @ first.T, 0.1) @ last.T
    expected = (x - network.centre.double()).square().sum(1)
    torch.testing.assert_close(network.pool(network(scans)).double(), expected, rtol=1e-3, atol=1e-5)
    assert network.bottleneck[0].bias is None and network.bottleneck[2].bias is None
    other = DeepSAD(len(size), 1, size, **keys).eval()  # type: ignore[arg-type]
    other.load_state_dict(network.state_dict(), strict=True)
    assert torch.equal(other(scans), network(scans))
    torch.testing.assert_close(torch.jit.script(network)(scans), network(scans), rtol=1e-4, atol=1e-5)
    network.train()
    torch.testing.assert_close(network.embed(scans), other.embed(scans)), "nothing in it follows a batch"
