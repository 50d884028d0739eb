"""DOC against plain sums: what is drawn together, what is told apart, and what that finds."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from short_trainings import auroc_of_scans
from torch import Tensor

from medad_plugins.errors import InputError
from medad_plugins.methods.doc import DOC, DOCTerms, compactness
from medad_plugins.networks.blocks.geometric_transforms import GeometricTransforms

SIZES = [(32, 32), (32, 32, 16)]


def _scans(*size: int, batch: int = 6, seed: int = 0) -> Tensor:
    return torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(seed))


def _network(spatial_dims: int = 2, classes: int = 4, frozen: int = 2) -> DOC:
    torch.manual_seed(0)
    return DOC(spatial_dims, 1, "resnet10", "none", stages=3, frozen=frozen, classes=classes)


def _terms(spatial_dims: int = 2) -> DOCTerms:
    return DOCTerms(GeometricTransforms(spatial_dims, shift=0.0))


def _cross_entropy(network: DOC, pictures: Tensor, kinds: list[int]) -> float:
    logits = network.classifier(network.embed(pictures)).detach().double()
    return sum(
        math.log(sum(math.exp(each) for each in row)) - float(row[kind]) for row, kind in zip(logits, kinds)
    ) / len(kinds)


def test_each_scan_is_compared_with_the_mean_of_the_others() -> None:
    features = np.random.default_rng(0).normal(size=(5, 7))
    expected = np.mean([(features[i] - np.delete(features, i, 0).mean(0)) ** 2 for i in range(5)])
    assert float(compactness(torch.from_numpy(features))) == pytest.approx(expected)
    assert float(compactness(torch.ones(3, 7))) == 0
    with pytest.raises(InputError, match="compactness is of several scans"):
        compactness(torch.ones(1, 7))


@pytest.mark.parametrize("size", SIZES)
def test_terms_are_of_normal_scans_and_of_labelled_pictures(size: tuple[int, ...]) -> None:
    network, normal, pictures = _network(len(size)).train(), _scans(*size), _scans(*size, batch=3, seed=1)
    found = _terms(len(size))(network, {"image": normal, "target": (pictures, torch.tensor([1, 0, 3]))})
    assert float(found["compactness"].detach()) == pytest.approx(float(compactness(network.embed(normal)).detach()))
    assert float(found["descriptiveness"].detach()) == pytest.approx(
        _cross_entropy(network, pictures, [1, 0, 3]), rel=1e-4
    )
    taken = network.classifier(network.embed(pictures)).argmax(1)
    assert float(found["wrong"]) == pytest.approx(float((taken != torch.tensor([1, 0, 3])).float().mean()))


@pytest.mark.parametrize("size", SIZES)
def test_without_labels_turns_of_normal_scans_are_told_apart(size: tuple[int, ...]) -> None:
    network, normal = _network(len(size)).train(), _scans(*size)
    found = _terms(len(size))(network, {"image": normal, "target": normal})
    turned = torch.cat([torch.rot90(scan[None], turn, (2, 3)) for scan in normal[:2] for turn in range(4)])
    kinds = [turn for _ in range(2) for turn in range(4)]
    assert float(found["descriptiveness"].detach()) == pytest.approx(_cross_entropy(network, turned, kinds), rel=1e-4)


def test_only_late_stages_and_the_head_learn() -> None:
    network = _network().train()
    terms = _terms()(network, {"image": _scans(32, 32), "target": None})
    (terms["compactness"] + terms["descriptiveness"]).backward()
    learnt = {name.split(".layer")[-1] for name, value in network.named_parameters() if value.grad is not None}
    assert all(name.startswith("3.") or name.startswith("classifier") for name in learnt) and len(learnt) > 3


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_score_is_that_of_the_nearest_normal_scan(size: tuple[int, ...]) -> None:
    network, normal, scans = _network(len(size)).eval(), _scans(*size, batch=9), _scans(*size, seed=1)
    network.collect(normal)
    network.fit()
    squared = (network.embed(scans)[:, None].double() - network.embed(normal).double()).square().sum(2)
    found = network(scans)
    assert found.shape == scans.shape and float(found.flatten(1).std(1).max()) == 0, "it does not say where"
    torch.testing.assert_close(network.pool(found).double(), squared.min(1).values, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(torch.jit.script(network)(scans), found, rtol=1e-4, atol=1e-6)


def _stripes(kind: int, number: int, seed: int) -> Tensor:
    """Stripes of one of four directions, of any contrast, place and brightness, in noise."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:32, :32]
    angle = np.pi * kind / 4
    wave = rows * np.sin(angle) + columns * np.cos(angle)
    shift, contrast, light = (random.uniform(low, high, (number, 1, 1)) for low, high in ((0, 8), (0.05, 0.3), (0, 1)))
    scans = light + contrast * np.sin((wave + shift) * np.pi / 4) + random.normal(0, 0.02, (number, 32, 32))
    return torch.from_numpy(scans[:, None]).float()


def test_what_it_learns_from_other_pictures_finds_what_it_did_not_find() -> None:
    """Stripes of one direction are normal; which direction they have is what others' labels teach."""
    network, terms = _network(frozen=0), _terms()
    normal, abnormal = _stripes(0, 40, 1), torch.cat([_stripes(kind, 14, 2 + kind) for kind in (1, 2, 3)])
    known = _stripes(0, 40, 9)

    def auroc() -> float:
        network.eval()
        with torch.no_grad():
            network.collect(known)
            network.fit()
        return auroc_of_scans(network, torch.cat([normal, abnormal]), [0] * 40 + [1] * 42)

    before = auroc()
    optimizer = torch.optim.Adam([each for each in network.parameters() if each.requires_grad], 0.001)
    for step in range(40):
        network.train()
        pictures = torch.cat([_stripes(kind, 4, 1000 + 4 * step + kind) for kind in range(4)])
        found = terms(
            network,
            {"image": _stripes(0, 8, 5000 + step), "target": (pictures, torch.arange(4).repeat_interleave(4))},
        )
        optimizer.zero_grad()
        (0.1 * found["compactness"] + found["descriptiveness"]).backward()
        optimizer.step()
    after = auroc()
    assert before < 0.75 and after > 0.9, (before, after)


def test_fewer_than_two_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="classes must be at least 2"):
        _network(classes=1)
