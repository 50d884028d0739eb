"""Geometric transforms told apart: the transforms, what is fitted to the answers, losses and scores by plain sums."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import digamma, gammaln
from torch import Tensor

from medad_plugins.errors import InputError
from medad_plugins.methods.geotrans import (
    TASKS,
    Dirichlets,
    GeoTrans,
    geotrans_terms,
    triplet_centre_loss,
)
from medad_plugins.methods.geotrans.fitted import inverse_digamma
from medad_plugins.networks.blocks.geometric_transforms import GeometricTransforms


def _network(task: str, dims: int = 2, **others: Any) -> GeoTrans:
    torch.manual_seed(0)
    keys: dict[str, Any] = {"shift": 0.0 if dims == 3 else 0.1, "dimensions": 8, **others}
    return GeoTrans(dims, 1, "resnet10", task=task, **keys)


def _scans(dims: int = 2, count: int = 3, seed: int = 1) -> Tensor:
    return torch.rand((count, 1, *[32] * dims), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dims", [2, 3])
def test_transforms_are_mirrored_then_moved_then_turned(dims: int) -> None:
    transforms = GeometricTransforms(dims, mirrored=True, shift=0.2, turns=4)
    assert transforms.sizes == [2, *[3] * dims, 4] and len(transforms.specs) == 2 * 3**dims * 4
    image = torch.rand(2, 1, *[10] * dims)
    found = transforms(image)
    assert torch.equal(found[:, 0], image)
    place = transforms.specs.index([1, 1, *[-1] * (dims - 1), 3])
    assert transforms.factors[place].tolist() == [1, 2, *[1] * (dims - 1), 3]
    expected = image.numpy()
    expected = expected[..., ::-1] if dims == 2 else expected[:, :, ::-1]
    pad = [(0, 0), (0, 0), *[(2, 2)] * dims]
    expected = np.pad(expected, pad, mode="reflect")
    # forward along the first axis, back along the others
    expected = expected[:, :, :10, 4:] if dims == 2 else expected[:, :, :10, 4:, 4:]
    np.testing.assert_array_equal(found[:, place].numpy(), np.rot90(expected, 3, (2, 3)))
    quarters = [found[:, transforms.specs.index([0, *[0] * dims, turn])].numpy() for turn in range(4)]
    for turn, each in enumerate(quarters):
        np.testing.assert_array_equal(each, np.rot90(image.numpy(), turn, (2, 3)))


def test_what_cannot_be_turned_is_refused() -> None:
    with pytest.raises(InputError, match="quarter turns"):
        GeometricTransforms(2)(torch.rand(1, 1, 8, 12))
    assert GeometricTransforms(2, turns=2)(torch.rand(1, 1, 8, 12)).shape == (1, 18, 1, 8, 12)
    with pytest.raises(ValueError, match="nothing to tell apart"):
        GeometricTransforms(2, shift=0, turns=1)
    with pytest.raises(ValueError, match="turns must be"):
        GeometricTransforms(2, turns=3)
    with pytest.raises(InputError, match="classes, centres, heads"):
        _network("rotation")


def test_dirichlets_are_those_of_maximum_likelihood() -> None:
    alpha = np.array([[8.0, 1.0, 0.5], [1.0, 4.0, 2.0]])
    rng = np.random.RandomState(0)
    answers = np.stack([rng.dirichlet(row, 4000) for row in alpha], 1)
    logs = torch.from_numpy(np.log(answers.clip(1e-12)))
    fitted = Dirichlets()
    for part in logs.split(1500):
        fitted.collect(part)
    fitted.fit()
    np.testing.assert_allclose(fitted.alpha.numpy(), alpha, rtol=0.1)
    # at the highest likelihood its gradient is 0
    found = fitted.alpha.double().numpy()
    gradient = digamma(found.sum(1, keepdims=True)) - digamma(found) + logs.mean(0).numpy()
    np.testing.assert_allclose(gradient, 0, atol=1e-3)
    constant = gammaln(found.sum(1)) - gammaln(found).sum(1)
    expected = -((found - 1) * logs.numpy()).sum(2).mean(1)
    np.testing.assert_allclose(fitted(logs).double().numpy(), expected, rtol=1e-4, atol=1e-4)
    # up to that constant it is the likelihood, so samples of another distribution are less likely
    assert constant.shape == (2,)
    strange = torch.from_numpy(np.log(np.stack([rng.dirichlet(row, 400) for row in alpha[::-1]], 1).clip(1e-12)))
    assert float(fitted(strange).mean()) > float(fitted(logs).mean()) + 1


def test_inverse_digamma() -> None:
    values = torch.linspace(-30, 6, 50, dtype=torch.float64)
    torch.testing.assert_close(torch.digamma(inverse_digamma(values)), values, rtol=1e-8, atol=1e-8)


def test_triplets_are_of_a_transform_and_the_nearest_other_centre() -> None:
    vectors = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0))
    centres, total = vectors.mean(0), 0.0
    for scan in range(3):
        for own in range(4):
            squares = [float((vectors[scan, own] - centre).square().sum()) for centre in centres]
            nearest = min(squares[other] for other in range(4) if other != own)
            total += max(0.0, squares[own] + 0.5 - nearest) / 12
    assert float(triplet_centre_loss(vectors, 0.5)) == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("dims", [2, 3])
@torch.no_grad()
def test_terms(task: str, dims: int) -> None:
    network, scans = _network(task, dims, mirrored=dims == 3).train(), _scans(dims)
    terms = {name: float(term) for name, term in geotrans_terms(network, {"image": scans}).items()}
    vectors = network.vectors(scans)
    logits = network.heads(vectors)
    expected, first = 0.0, 0
    for head, size in enumerate(network.sizes):
        logs = logits[..., first : first + size].log_softmax(2)
        for number, places in enumerate(network.transforms.factors.tolist()):
            right = places[head] if task == "heads" else number
            expected -= float(logs[:, number, right].mean()) / network.count
        first += size
    assert network.sizes == ({2: [3, 3, 4], 3: [2, 4]}[dims] if task == "heads" else [{2: 36, 3: 8}[dims]])
    assert terms["answers"] == pytest.approx(expected, rel=1e-4)
    assert set(terms) == ({"answers", "centre", "size"} if task == "centres" else {"answers"})
    if task == "centres":
        assert terms["size"] == pytest.approx(float(vectors.square().mean()), rel=1e-4)


@pytest.mark.parametrize(
    ("task", "answers"), [("classes", "likelihood"), ("classes", "right"), ("centres", "right"), ("heads", "right")]
)
@torch.no_grad()
def test_scores(task: str, answers: str) -> None:
    network, normal, scans = _network(task, answers=answers).eval(), _scans(count=6), _scans(seed=2)
    for batch in normal.split(4):
        network.collect(batch)
    network.fit()
    vectors, known = network.vectors(scans).double(), network.vectors(normal).double()
    chances = [part.double().exp() for part in network.log_chances(network.vectors(scans))]
    if task == "centres":
        squares = (vectors[:, :, None] - known.mean(0)).square().sum(3)
        expected = -(-squares).softmax(2).diagonal(dim1=1, dim2=2).log().mean(1)
    elif answers == "likelihood":
        expected = -((network.dirichlets.alpha.double() - 1) * chances[0].log()).sum(2).mean(1)
    else:
        right = network.transforms.factors if task == "heads" else torch.arange(36)[:, None]
        own = [part[:, torch.arange(36), right[:, head]] for head, part in enumerate(chances)]
        expected = 1 - torch.stack(own).mean((0, 2))
    found = network(scans)
    assert found.shape == scans.shape and float(found.flatten(1).std(1).max()) < 1e-5
    torch.testing.assert_close(network.pool(found).double(), expected, rtol=1e-3, atol=1e-4)
    other = _network(task, answers=answers).eval()
    other.load_state_dict(network.state_dict(), strict=True)
    torch.testing.assert_close(torch.jit.script(other)(scans), found, rtol=1e-4, atol=1e-5)


@pytest.mark.costly
@pytest.mark.parametrize("task", TASKS)
def test_a_short_training_tells_the_transforms_of_a_kind_of_scan(task: str) -> None:
    """Scans with a bright side; one that is bright in the middle answers strangely."""
    network, generator = _network(task, shift=0.0).train(), torch.Generator().manual_seed(4)
    network.requires_grad_(True)
    ramp = torch.linspace(0, 1, 32).reshape(1, 1, 32, 1).expand(1, 1, 32, 32)

    def normal(count: int) -> Tensor:
        return ramp + 0.1 * torch.randn(count, 1, 32, 32, generator=generator)

    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    for _ in range(15):
        optimizer.zero_grad()
        torch.stack(list(geotrans_terms(network, {"image": normal(4)}).values())).sum().backward()
        optimizer.step()
    network.eval()
    with torch.no_grad():
        network.collect(normal(12))
        network.fit()
        middle = (1 - (ramp - 0.5).abs() * 2) + 0.1 * torch.randn(6, 1, 32, 32, generator=generator)
        seen, strange = network.pool(network(normal(6))), network.pool(network(middle))
    assert float(strange.min()) > float(seen.max())
