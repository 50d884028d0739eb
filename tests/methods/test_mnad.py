"""MNAD: reading, writing and terms by hand, the map in units of normal scans, and that the memory learns."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from medad_plugins.methods.mnad import MNAD, prototype_terms
from medad_plugins.methods.mnad.prototypes import PrototypeMemory


def _network(spatial_dims: int = 2, **settings: object) -> MNAD:
    torch.manual_seed(0)
    arguments = {"image_size": 16, "channels": (4, 8), "latent_size": 6, "items": 4, **settings}
    return MNAD(spatial_dims, **arguments)  # type: ignore[arg-type]


def _unit(*shape: int, seed: int = 0) -> Tensor:
    return functional.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_reading() -> None:
    memory = PrototypeMemory(6, 4)
    torch.testing.assert_close(memory.items.norm(dim=1), torch.ones(4))
    queries = _unit(2, 6, 3, 5)
    answers, distances = memory(queries)
    for b, y, x in ((0, 0, 0), (1, 2, 4)):
        q = queries[b, :, y, x]
        torch.testing.assert_close(answers[b, :, y, x], (memory.items @ q).softmax(0) @ memory.items)
        expected = (memory.items - q).square().sum(1).amin()
        torch.testing.assert_close(distances[b, y, x], expected)


def test_writing_item_by_item() -> None:
    memory = PrototypeMemory(6, 4)
    rows = _unit(4, 6, seed=1)
    before = memory.items.clone()
    nearest = (rows @ before.t()).argmax(1)
    assert 4 > nearest.unique().numel() > 1, "some items stay as they are"
    memory.write(rows)
    for item in range(4):
        weights = (rows @ before[item]).softmax(0)
        weights = weights / weights.max()
        moved = before[item] + sum((weights[i] * rows[i] for i in range(4) if nearest[i] == item), torch.zeros(6))
        torch.testing.assert_close(memory.items[item], functional.normalize(moved, dim=0))


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_terms(spatial_dims: int) -> None:
    network = _network(spatial_dims)
    image = torch.rand(3, 1, *[16] * spatial_dims)
    items = network.memory.items.clone()
    terms = prototype_terms(network, {"image": image})
    assert not torch.equal(network.memory.items, items), "and written"
    network.memory.items = items
    reconstruction, queries = network.training_output(image)
    rows = queries.movedim(1, -1).reshape(-1, 6)
    two = torch.topk(rows @ items.t(), 2).indices
    near, far = (torch.linalg.vector_norm(rows - items[two[:, k]] + 1e-6, dim=1) for k in (0, 1))
    expected = {
        "reconstruction": 4 * (reconstruction - image).square().mean(),
        "compactness": (rows - items[two[:, 0]]).square().mean(),
        "separateness": (near - far + 1).clamp_min(0).mean(),
    }
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value)
    terms["separateness"].backward()
    assert network.to_query.weight.grad is not None


@pytest.mark.parametrize("spatial_dims", [2, 3])
@torch.no_grad()
def test_the_map_is_one_in_the_mean_of_normal_scans(spatial_dims: int) -> None:
    network = _network(spatial_dims, residual_weight=0.6).eval()
    normal = torch.rand(8, 1, *[16] * spatial_dims)
    residual = (network.reconstruct(normal) - normal).square()
    raw = network(normal)
    for batch in normal.split(3):
        network.collect(batch)
    network.fit()
    found = network(normal)
    assert float(found.mean()) == pytest.approx(1.0, abs=1e-4)
    distances = network.memory(network.queries(normal))[1].unsqueeze(1)
    mode = "bilinear" if spatial_dims == 2 else "trilinear"
    far = functional.interpolate(distances, normal.shape[2:], mode=mode)
    torch.testing.assert_close(found, 0.6 * residual / residual.mean() + 0.4 * far / far.mean(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(raw, 0.6 * residual + 0.4 * far, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(network(normal[:1]), found[:1], rtol=1e-4, atol=1e-5)


def test_the_memory_is_state_and_no_parameter() -> None:
    network = _network()
    assert "memory.items" in network.state_dict()
    assert "memory.items" not in dict(network.named_parameters())


@pytest.mark.slow
def test_it_learns_what_is_normal() -> None:
    torch.manual_seed(0)
    base = functional.interpolate(torch.rand(1, 1, 4, 4), (16, 16), mode="bilinear")
    normal = (base + 0.03 * torch.randn(32, 1, 16, 16)).clamp(0, 1)
    sick = normal[:8].clone()
    sick[..., 4:8, 4:8] = 1 - sick[..., 4:8, 4:8]
    network = _network()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.003)
    for _ in range(150):
        optimizer.zero_grad()
        terms = prototype_terms(network, {"image": normal})
        (terms["reconstruction"] + 0.01 * (terms["compactness"] + terms["separateness"])).backward()
        optimizer.step()
    network.eval()
    network.collect(normal)
    network.fit()
    with torch.no_grad():
        assert network.pool(network(sick)).min() > network.pool(network(normal[:8])).max()
        found = network(sick)
    assert found[..., 4:8, 4:8].mean() > 2 * found.mean()
