"""MemSTC-Net against plain computations: edges in, texture by a memory alone, and what that finds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from short_trainings import auroc_of_scans
from torch import Tensor

from medad_plugins.methods.memstc_net import MemSTCNet, correspondence_terms
from medad_plugins.networks import MemoryModule
from medad_plugins.scorers import gradient_magnitude

SIZES = [(16, 24), (16, 8, 16)]


def _scans(*size: int, seed: int = 0) -> Tensor:
    return torch.rand(2, 2, *size, generator=torch.Generator().manual_seed(seed))


def _network(spatial_dims: int = 2, **others: object) -> MemSTCNet:
    torch.manual_seed(0)
    keys: dict[str, object] = {"features": (4, 8, 8), "query_size": 5, "items": 7, "threshold": 0.1, **others}
    return MemSTCNet(spatial_dims, 2, **keys)  # type: ignore[arg-type]


@torch.no_grad()
def test_what_stands_beside_the_items_is_the_answer() -> None:
    torch.manual_seed(0)
    memory, queries = MemoryModule(3, 6, 0.1, answer_size=5), 4 * torch.randn(2, 3, 4, 2)
    answers, weights = memory(queries)
    assert answers.shape == (2, 5, 4, 2) and memory.answers is not None
    assert torch.equal(weights, _same_items(memory)(queries)[1]), "what it is asked by is as it was"
    torch.testing.assert_close(answers, torch.einsum("bmij,md->bdij", weights, memory.answers))


@torch.no_grad()
def test_sharpness_multiplies_cosines() -> None:
    torch.manual_seed(0)
    memory, queries = MemoryModule(3, 6, 0.0, "cosine", sharpness=8.0), torch.randn(4, 3)
    cosines = torch.nn.functional.cosine_similarity(queries[:, None], memory.items[None], dim=2)
    torch.testing.assert_close(memory(queries)[1], torch.softmax(8 * cosines, 1))
    with pytest.raises(ValueError, match="sharpness must be positive"):
        MemoryModule(3, 6, sharpness=0.0)


def _same_items(memory: MemoryModule) -> MemoryModule:
    plain = MemoryModule(3, 6, 0.1)
    plain.load_state_dict({"items": memory.items}, strict=True)
    return plain


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("structure_weight", [0.0, 0.5])
@torch.no_grad()
def test_map_is_the_residual_of_what_edges_and_memory_tell(size: tuple[int, ...], structure_weight: float) -> None:
    network, scans = _network(len(size), structure_weight=structure_weight).eval(), _scans(*size)
    levels = network.unet.encode(gradient_magnitude(scans))
    rebuilt = network.unet.decode([*levels[:-1], network.memory(network.to_query(levels[-1]))[0]])
    expected = (scans - rebuilt).abs().mean(1, keepdim=True)
    edges = (gradient_magnitude(scans) - gradient_magnitude(rebuilt)).abs().mean(1, keepdim=True)
    anomaly_map = network(scans)
    torch.testing.assert_close(anomaly_map, expected + structure_weight * edges)
    torch.testing.assert_close(network.pool(anomaly_map), anomaly_map.flatten(1).mean(1))
    torch.testing.assert_close(torch.jit.script(network)(scans), anomaly_map)


@torch.no_grad()
def test_brightness_by_itself_does_not_pass() -> None:
    """A scan that is brighter everywhere has the same edges, so the same reconstruction."""
    network, scans = _network().eval(), _scans(16, 24)
    torch.testing.assert_close(network.reconstruct(scans + 0.3), network.reconstruct(scans), rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_without_skips_all_passes_the_memory() -> None:
    network, scans = _network(skips=0, threshold=0.0).eval(), _scans(16, 24)
    network.memory.items.zero_()  # every item counts the same
    rebuilt = network.reconstruct(scans)
    torch.testing.assert_close(rebuilt[0], rebuilt[1])
    finest = _network(skips=1, threshold=0.0).eval()
    finest.memory.items.zero_()
    rebuilt = finest.reconstruct(scans)
    assert float((rebuilt[0] - rebuilt[1]).abs().max()) > 1e-3


@pytest.mark.parametrize("size", SIZES)
def test_terms_are_differences_of_intensities_and_edges(size: tuple[int, ...]) -> None:
    network, scans = _network(len(size)).train(), _scans(*size)
    terms = correspondence_terms(network, {"image": scans})
    rebuilt, weights = network.remember(scans)
    expected = {
        "texture": (rebuilt - scans).abs().mean(),
        "structure": (gradient_magnitude(rebuilt) - gradient_magnitude(scans)).abs().mean(),
        "entropy": -(weights * (weights + 1e-12).log()).sum(1).mean(),
        "empty": (weights.sum(1) == 0).float().mean(),
    }
    assert {name: float(term.detach()) for name, term in terms.items()} == pytest.approx(
        {name: float(term.detach()) for name, term in expected.items()}, rel=1e-4
    )


def _heads(number: int, seed: int, lesion: bool = False) -> Tensor:
    """Bright disks with a darker ring; a lesion is a smaller disk in it as no normal one has."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:32, :32]
    scans = []
    for _ in range(number):
        middle, radius = 16 + random.uniform(-2, 2, 2), random.uniform(10, 12)
        away = np.hypot(rows - middle[0], columns - middle[1])
        scan = 0.6 * (away < radius) + 0.2 * (away < radius - 3)
        if lesion:
            place = middle + random.uniform(-4, 4, 2)
            scan = np.where(np.hypot(rows - place[0], columns - place[1]) < 3, 0.4, scan)
        scans.append(scan + random.normal(0, 0.02, scan.shape))
    return torch.from_numpy(np.stack(scans)[:, None]).float()


def test_it_learns_what_texture_belongs_to_normal_edges() -> None:
    torch.manual_seed(0)
    network = MemSTCNet(features=(8, 16, 16), items=20, threshold=0.05, skips=1, reduction=0.05)
    scans, labels = torch.cat([_heads(20, 1), _heads(20, 2, lesion=True)]), [0] * 20 + [1] * 20

    before, losses = auroc_of_scans(network, scans, labels), []
    optimizer = torch.optim.Adam(network.parameters(), 0.005)
    for step in range(120):
        terms = correspondence_terms(network.train(), {"image": _heads(8, 100 + step)})
        optimizer.zero_grad()
        (terms["texture"] + 0.5 * terms["structure"] + 0.0002 * terms["entropy"]).backward()
        optimizer.step()
        losses.append(float(terms["texture"].detach()))
    after = auroc_of_scans(network, scans, labels)
    assert np.mean(losses[-10:]) < 0.3 * losses[0]
    assert after > 0.95 and after > before + 0.1, (before, after)


def test_what_there_is_not() -> None:
    with pytest.raises(ValueError, match="skips must be 0 to 2"):
        _network(skips=3)
    with pytest.raises(ValueError, match="structure_weight must not be negative"):
        _network(structure_weight=-0.1)
