"""PatchCore by its paper: the distance of a patch to the nearest of a memory of normal ones."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plain_resnet import varied_taps
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional

from medad_plugins.errors import InputError
from medad_plugins.methods.patchcore import PatchCore, PatchesAnywhere


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("weights") / "resnet10.pth"
    torch.save(varied_taps("resnet10").state_dict(), path)
    return str(path)


def _scans(*size: int, batch: int = 4, seed: int = 0) -> Tensor:
    return torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(seed))


def _fitted(weights: str, scans: Tensor, **settings: Any) -> PatchCore:
    values = {"backbone": "resnet10", "dimensions": 24, "coreset": 0.5, "sigma": 1.5, **settings}
    network = PatchCore(scans.dim() - 2, 1, weights=weights, **values).train()
    for batch in scans.split(3):
        network.collect(batch)
    network.fit()
    return network.eval()


@pytest.fixture(scope="module")
def network(weights: str) -> PatchCore:
    """Fitted on four scans, not to be changed."""
    return _fitted(weights, _scans(32, 48))


def _plain_distances(network: PatchCore, image: Tensor) -> Tensor:
    """From the backbone's taps: unfold, resize, pool, stack, pool; then the nearest in memory, one by one."""
    taps, vectors = network.features(image), []
    grid = taps[0].shape[2:]
    for tap in taps:
        patches = functional.unfold(tap, 3, padding=1).reshape(len(tap), -1, *tap.shape[2:])
        patches = functional.interpolate(patches, grid, mode="bilinear", align_corners=False)
        flat = patches.permute(0, 2, 3, 1).reshape(-1, 1, patches.shape[1])
        vectors.append(functional.adaptive_avg_pool1d(flat, 24).squeeze(1))
    pooled = functional.adaptive_avg_pool1d(torch.cat(vectors, 1).unsqueeze(1), 24).squeeze(1)
    bank = network.memory.bank.tolist()
    distances = [min(math.dist(vector, other) for other in bank) for vector in pooled.tolist()]
    return torch.tensor(distances).reshape(len(image), 1, *grid)


@torch.no_grad()
def test_map_and_score_are_those_written_out(network: PatchCore) -> None:
    image = _scans(32, 48, batch=2, seed=1)
    anomaly_map = network(image)
    distances = _plain_distances(network, image)
    assert distances.shape == (2, 1, 4, 6)
    # the score is taken before the map is enlarged
    torch.testing.assert_close(network.pool(anomaly_map), distances.amax((1, 2, 3)), rtol=1e-4, atol=0)
    large = functional.interpolate(distances, (32, 48), mode="bilinear", align_corners=False)
    smooth = np.stack([gaussian_filter(case.double().numpy(), 1.5, mode="nearest") for case in large[:, 0]])
    scale = distances.amax((1, 2, 3)).numpy() / smooth.max((1, 2))
    np.testing.assert_allclose(anomaly_map[:, 0].numpy(), smooth * scale[:, None, None], rtol=1e-4)


@torch.no_grad()
def test_reweighting_by_the_neighbours_of_the_nearest(weights: str, network: PatchCore) -> None:
    """The paper's equation 7, in loops."""
    weighted = _fitted(weights, _scans(32, 48), neighbours=3)
    assert torch.equal(weighted.memory.bank, network.memory.bank)
    image = _scans(32, 48, batch=2, seed=1)
    patches = network.embed(image)[0]
    assert patches.shape == (2, 24, 24)
    bank = network.memory.bank.tolist()
    plain, found = network(image), weighted(image)
    for case in range(2):
        nearest = [min((math.dist(p, b), i) for i, b in enumerate(bank)) for p in patches[case].tolist()]
        worst = max(range(24), key=lambda row: nearest[row][0])
        score, place = nearest[worst]
        around = sorted(bank, key=lambda b: math.dist(b, bank[place]))[:3]
        total = sum(math.exp(math.dist(patches[case][worst].tolist(), b)) for b in around)
        weight = 1 - math.exp(score) / total
        assert float(network.pool(found)[case]) == pytest.approx(weight * score, rel=1e-3)
        torch.testing.assert_close(found[case], weight * plain[case], rtol=1e-3, atol=1e-6)


@torch.no_grad()
def test_what_is_in_memory_is_at_distance_zero(weights: str) -> None:
    scans = _scans(32, 32, batch=3)
    network = _fitted(weights, scans, coreset=1.0)
    assert float(network(scans).abs().max()) < 1e-3 * float(network(_scans(32, 32, seed=1).square()).max())


def test_the_memory_is_part_of_the_state(network: PatchCore, tmp_path: Path) -> None:
    torch.save(network.state_dict(), tmp_path / "state.pt")
    other = PatchCore(2, 1, "resnet10", "none", dimensions=24, sigma=1.5).eval()
    with pytest.raises(RuntimeError, match="has not been fitted"):
        other(_scans(32, 48))
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True), strict=True)
    with torch.no_grad():
        assert torch.equal(other(_scans(32, 48)), network(_scans(32, 48)))


@pytest.mark.parametrize("settings", [{}, {"neighbours": 3}, {"window": 3, "score": "both"}])
@torch.no_grad()
def test_scripted_it_gives_the_same_map(weights: str, settings: dict[str, Any]) -> None:
    network = _fitted(weights, _scans(32, 48), **settings)
    if isinstance(network.memory, PatchesAnywhere):
        network.memory.at_once = 10
    image = _scans(32, 48, batch=2, seed=1)
    torch.testing.assert_close(torch.jit.script(network)(image), network(image), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("settings", [{}, {"neighbours": 3}, {"window": 3, "score": "both"}])
@torch.no_grad()
def test_a_map_does_not_depend_on_batch_mates(weights: str, settings: dict[str, Any]) -> None:
    network = _fitted(weights, _scans(32, 48), **settings)
    image = _scans(32, 48, batch=3, seed=1)
    torch.testing.assert_close(network(image)[1:2], network(image[1:2]), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_volumes(weights: str) -> None:
    network = _fitted(weights, _scans(24, 17, 16), neighbours=2)
    anomaly_map = network(_scans(24, 17, 16, batch=2, seed=1))
    assert anomaly_map.shape == (2, 1, 24, 17, 16)
    assert network.embed(_scans(24, 17, 16, batch=2))[1] == [3, 3, 2]
    assert bool((anomaly_map.flatten(1).std(1) > 0).all())


def test_other_layers(weights: str) -> None:
    network = PatchCore(2, 1, "resnet10", weights, layers=[1, 2, 4], dimensions=30)
    patches, grid, pooled = network.embed(_scans(32, 32))
    assert grid == [8, 8] and patches.shape == (4, 64, 30) and pooled.shape == (4, 64 + 128 + 512)


@pytest.mark.parametrize("layers", [[], [-1, 1], [2, 5], [3, 2], [2, 2]])
def test_layers_that_no_backbone_has(layers: list[int]) -> None:
    with pytest.raises(InputError, match=r"the backbone has no such layers: layers .expected stages .* 1 to 4"):
        PatchCore(backbone="resnet10", weights="none", layers=layers)


def test_weights_without_the_tapped_layer(weights: str, tmp_path: Path) -> None:
    state = {n: v for n, v in torch.load(weights, weights_only=True).items() if not n.startswith("layer3")}
    torch.save({n: v for n, v in state.items() if not n.startswith("layer4")}, tmp_path / "short.pth")
    with pytest.raises(InputError, match=r"the weights lack a stage that this method taps: .*expected layer3"):
        PatchCore(backbone="resnet10", weights=str(tmp_path / "short.pth"))


@pytest.mark.parametrize("size", [(8, 8), (15, 12), (9, 15, 7)])
def test_an_image_smaller_than_the_deepest_stride(size: tuple[int, ...]) -> None:
    network = PatchCore(len(size), 1, "resnet10", "none", dimensions=8)
    text = (
        r"smaller than one step of the backbone.* .expected at least 16 pixels .* found [0-9x ]+.; raise --image_size"
    )
    with pytest.raises(InputError, match=text):
        network.collect(_scans(*size))


@torch.no_grad()
def test_by_place_it_is_the_nearest_of_the_places_around(weights: str) -> None:
    """Unit vectors, and of each place all that normal scans have at it and its neighbours, in loops."""
    scans, image = _scans(32, 48, batch=5), _scans(32, 48, batch=2, seed=1)
    network = _fitted(weights, scans, window=3, unit_length=True, coreset=1.0, reduction=0.1)
    normal, found = network.embed(scans)[0].reshape(5, 4, 6, 24), network.embed(image)[0].reshape(2, 4, 6, 24)
    torch.testing.assert_close(torch.linalg.vector_norm(found, dim=3), torch.ones(2, 4, 6))
    expected = torch.zeros(2, 4, 6)
    for case, row, column in itertools.product(range(2), range(4), range(6)):
        around = normal[:, max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2].reshape(-1, 24)
        expected[case, row, column] = torch.cdist(found[case, row, column][None], around).min()
    scores = expected.flatten(1).topk(2, 1).values.mean(1)
    torch.testing.assert_close(network.pool(network(image)), scores, rtol=2e-3, atol=0)  # half precision is kept


@torch.no_grad()
def test_a_normal_patch_in_a_wrong_place_is_seen_by_place_alone(weights: str) -> None:
    scans = torch.zeros(4, 1, 64, 64)
    scans[:, :, :32] = _scans(32, 64, seed=2)
    upside_down = scans[:1].flip(2)
    ratio = {}
    for window in (0, 3):
        network = _fitted(weights, torch.cat([scans, scans[:, :, :, :].roll(1, 3)]), window=window, coreset=1.0)
        ratio[window] = float(network.pool(network(upside_down)) / network.pool(network(scans[:1] + 0.2)))
    assert ratio[3] > 1.5 * ratio[0]


@pytest.mark.parametrize("window", [0, 3])
@torch.no_grad()
def test_scores_by_pooled_features_and_by_both(weights: str, window: int) -> None:
    scans, image = _scans(32, 48, batch=8), _scans(32, 48, batch=3, seed=1)
    networks = {s: _fitted(weights, scans, window=window, coreset=0.3, score=s) for s in ("local", "pooled", "both")}
    local, pooled, both = (network.pool(network(image)) for network in networks.values())
    apart = networks["pooled"].scan_score.pooled
    assert apart is not None
    torch.testing.assert_close(pooled, apart(networks["pooled"].embed(image)[2]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(both, (local / networks["both"].scan_score.unit + pooled) / 2, rtol=1e-3, atol=1e-3)
    # the unit is the deviation of what normal scans score that are judged by the others
    assert 0 < float(networks["both"].scan_score.unit) < float(local.mean())
    assert not any(name.startswith("scan_score") for name in networks["local"].state_dict())
    # the map is the same but for a factor
    maps = [network(image).flatten(1) for network in networks.values()]
    torch.testing.assert_close(maps[0] / maps[0].amax(1, True), maps[2] / maps[2].amax(1, True), rtol=1e-3, atol=1e-4)


def test_a_window_has_no_neighbours_anywhere() -> None:
    with pytest.raises(ValueError, match="give no window, got 3"):
        PatchCore(backbone="resnet10", weights="none", neighbours=2, window=3)
    with pytest.raises(ValueError, match="score must be one of"):
        PatchCore(backbone="resnet10", weights="none", score="none")


def test_wrong_number_of_neighbours() -> None:
    with pytest.raises(ValueError, match="neighbours must be 0 or at least 2, got 1"):
        PatchCore(backbone="resnet10", weights="none", neighbours=1)
