"""PANDA against plain sums: who learns, what is learnt, and what the score is."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from medad_plugins.methods.panda import CompactnessLoss, Panda

SIZES = [(32, 40), (32, 16, 32)]


def _scans(*size: int, batch: int = 6, seed: int = 0) -> Tensor:
    return torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(seed))


def _panda(spatial_dims: int = 2, **others: object) -> Panda:
    torch.manual_seed(0)
    keys: dict[str, object] = {"backbone": "resnet10", "weights": "none", "stages": 3, **others}
    return Panda(spatial_dims, 1, **keys)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", SIZES)
def test_loss_is_the_squared_distance_over_the_features(size: tuple[int, ...]) -> None:
    network, scans = _panda(len(size)).train(), _scans(*size)
    with torch.no_grad():
        features = network.encoder(scans)[-1].double().flatten(2).mean(2)
    network.set_centre(torch.linspace(-1, 1, features.shape[1]).double())
    expected = ((features - torch.linspace(-1, 1, features.shape[1])) ** 2).sum(1) / features.shape[1]
    distances = network(scans)
    torch.testing.assert_close(distances.double(), expected, rtol=1e-4, atol=1e-6)
    assert float(CompactnessLoss()(distances, scans).detach()) == pytest.approx(float(expected.mean()), rel=1e-4)


@pytest.mark.parametrize(
    ("backbone", "frozen"), [("resnet10", 2), ("resnet10", 1), ("resnet10", 0), ("efficientnet_lite0", 2)]
)
def test_early_stages_stay(backbone: str, frozen: int) -> None:
    network = _panda(backbone=backbone, frozen=frozen).train()
    before = {name: value.clone() for name, value in network.encoder.state_dict().items()}
    with torch.no_grad():
        taps = [tap.clone() for tap in network.encoder(_scans(32, 32))]
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    CompactnessLoss()(network(_scans(32, 32))).backward()
    assert all(parameter.grad is not None for parameter in learning)
    torch.optim.SGD(learning, 0.1).step()
    with torch.no_grad():
        after = network.encoder(_scans(32, 32))
    assert [torch.equal(one, other) for one, other in zip(taps, after, strict=True)] == [True] * frozen + [False] * (
        3 - frozen
    )
    names = [name for name, value in network.encoder.state_dict().items() if not torch.equal(value, before[name])]
    assert not any("running" in name or "tracked" in name for name in names), "norms keep their statistics"
    if backbone == "resnet10":
        assert {name.split(".")[0] for name in names} == set(
            ["conv1", "bn1", "layer1", "layer2", "layer3"][-3 + frozen :]
            if frozen
            else ["conv1", "bn1", "layer1", "layer2", "layer3"]
        )


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_score_is_that_of_the_nearest_normal_scans(size: tuple[int, ...]) -> None:
    network, normal, scans = _panda(len(size)).eval(), _scans(*size, batch=9), _scans(*size, seed=1)
    network.set_centre(network.embed(normal).mean(0))
    own = network.embed(scans).double()
    expected = (own - network.centre.double()).square().sum(1)
    torch.testing.assert_close(network.pool(network(scans)).double(), expected, rtol=1e-4, atol=1e-6)
    for batch in normal.split(4):
        network.collect(batch)
    network.fit()
    squared = (own[:, None] - network.embed(normal).double()).square().sum(2)
    expected = squared.sort(1).values[:, :2].mean(1)
    anomaly_map = network(scans)
    assert anomaly_map.shape == scans.shape and anomaly_map.dtype == torch.float32
    torch.testing.assert_close(network.pool(anomaly_map).double(), expected, rtol=1e-3, atol=1e-6)
    assert float(anomaly_map.flatten(1).std(1).max()) == 0, "it does not say where"
    other = _panda(len(size)).eval()
    other.load_state_dict(network.state_dict(), strict=True)
    assert torch.equal(other(scans), anomaly_map)
    torch.testing.assert_close(torch.jit.script(network)(scans), anomaly_map, rtol=1e-4, atol=1e-6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(network(scans), anomaly_map)


def test_training_draws_normal_scans_together() -> None:
    network, scans = _panda().train(), _scans(32, 32, batch=16)
    with torch.no_grad():
        network.set_centre(network.embed(scans).mean(0))
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer, losses = torch.optim.SGD(learning, 0.1, momentum=0.9), []
    for _ in range(30):
        loss = CompactnessLoss()(network(scans))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_what_there_is_not() -> None:
    with pytest.raises(ValueError, match="frozen must be"):
        _panda(frozen=3)
