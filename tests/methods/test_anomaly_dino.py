"""AnomalyDINO: the nearest normal token thereabouts, of one backbone or of several."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from plain_resnet import varied_taps
from torch import Tensor
from torch.nn import functional

from medad_plugins.methods.anomaly_dino import AnomalyDINO, BackboneTokens


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("weights") / "resnet10.pth"
    torch.save(varied_taps("resnet10").state_dict(), path)
    return str(path)


def _scans(*size: int, batch: int = 4, seed: int = 0) -> Tensor:
    return torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(seed))


def _fitted(file: str, scans: Tensor, **settings: Any) -> AnomalyDINO:
    values = {"backbone": "resnet10", "weights": file, "sigma": 1.5, "storage": "float32", **settings}
    network = AnomalyDINO(scans.dim() - 2, 1, **values).train()
    for batch in scans.split(3):
        network.collect(batch)
    network.fit()
    return network.eval()


def _tokens(network: AnomalyDINO, image: Tensor, part: int = 0) -> Tensor:
    embedded: Tensor = network.parts[part].embed(image)[0]  # type: ignore[operator]
    return embedded


def _bank(network: AnomalyDINO) -> Tensor:
    return network.state_dict()["parts.0.bank.bank"]


@pytest.mark.parametrize("size", [(32, 64), (32, 48, 32)])
@torch.no_grad()
def test_map_and_score_are_those_written_out(weights: str, size: tuple[int, ...]) -> None:
    scans, image = _scans(*size), _scans(*size, batch=2, seed=1)
    network = _fitted(weights, scans, window=0)
    kept, asked = _tokens(network, scans), _tokens(network, image)
    assert kept.shape == (4, torch.tensor(size).prod() // 16 ** len(size), 384)
    torch.testing.assert_close(kept.square().sum(2), torch.ones(kept.shape[:2]))
    nearest = (1 - asked @ kept.flatten(0, 1).T).amin(2)
    left = torch.stack([(1 - kept[i] @ kept[torch.arange(4) != i].flatten(0, 1).T).amin(1) for i in range(4)])
    expected = nearest / left.std(correction=0)
    found = network(image)
    assert found.shape == image.shape and found.dtype == torch.float32
    torch.testing.assert_close(network.pool(found), expected.amax(1), rtol=1e-3, atol=0)
    grid = [edge // 16 for edge in size]
    torch.testing.assert_close(network.grid_map(image)[0], expected.reshape(2, 1, *grid), rtol=1e-3, atol=0)


@torch.no_grad()
def test_scans_with_columns_first_are_turned_for_the_backbone(weights: str) -> None:
    """As the scans of older models, by which a backbone would see pictures that lie on their side."""
    turning = AnomalyDINO(backbone="resnet10", weights=weights, columns_first=True).eval()
    part, image = turning.parts[0], _scans(32, 64, batch=2)
    tokens, grid, _ = part.embed(image)  # type: ignore[operator]
    taps = part.features(image.transpose(2, 3))  # type: ignore[operator]
    expected = part.tokens(taps).transpose(2, 3)  # type: ignore[operator]
    assert grid == [2, 4] == list(expected.shape[2:])
    assert torch.equal(tokens, expected.flatten(2).transpose(1, 2))


@torch.no_grad()
def test_two_backbones_are_averaged(weights: str) -> None:
    scans, image = _scans(64, 64), _scans(64, 64, batch=2, seed=1)
    both = _fitted(weights, scans, backbone=["resnet10", "resnet10"], layers=[[2, 3], [2]])
    coarse = _fitted(weights, scans)
    fine = _fitted(weights, scans, layers=[2])
    scores = [network.grid_map(image)[1] for network in (both, coarse, fine)]
    torch.testing.assert_close(scores[0], (scores[1] + scores[2]) / 2)
    large = functional.interpolate(fine.grid_map(image)[0], (4, 4), mode="bilinear", align_corners=False)
    torch.testing.assert_close(both.grid_map(image)[0], (coarse.grid_map(image)[0] + large) / 2)
    torch.testing.assert_close(both.pool(both(image)), scores[0])


@torch.no_grad()
def test_a_scan_that_is_mirrored_is_known_where_mirrored_scans_are(weights: str) -> None:
    scans = _scans(64, 64)
    network = _fitted(weights, scans, mirrored=1)
    assert _bank(network).shape[:2] == (4, 2)
    assert float(network(scans.flip(3)).amax()) < 1e-3
    assert float(network(scans.flip(2)).amax()) > 1
    assert float(_fitted(weights, scans)(scans.flip(3)).amax()) > 1


@torch.no_grad()
def test_one_scan_with_its_turns(weights: str) -> None:
    scan = _scans(64, 64, batch=1)
    network = _fitted(weights, scan, rotations=4)
    assert _bank(network).shape[:2] == (1, 4)
    quarters = torch.cat([scan.rot90(k, (2, 3)) for k in range(4)])
    views = torch.cat(network.views(scan))
    # the angles rise one way or the other
    torch.testing.assert_close(views[1::2].sort(0).values, quarters[1::2].sort(0).values, rtol=0, atol=1e-4)
    torch.testing.assert_close(views[2], quarters[2], rtol=0, atol=1e-4)
    assert float(network(quarters).amax()) < 1e-2
    volume = _fitted(weights, _scans(32, 32, 48, batch=1), rotations=2)
    assert torch.isfinite(volume(_scans(32, 32, 48, seed=1))).all()


@torch.no_grad()
def test_what_is_background_counts_as_normal(weights: str) -> None:
    scans, image = _scans(64, 64), _scans(64, 64, batch=2, seed=1)
    image[..., :32] *= 0.02
    open_map = _fitted(weights, scans).grid_map(image)[0]
    masked = _fitted(weights, scans, foreground=0.1).grid_map(image)[0]
    assert torch.equal(masked[..., 2:], open_map[..., 2:])
    assert float(masked[..., :2].abs().amax()) == 0 < float(open_map[..., :2].amin())


@torch.no_grad()
def test_scores_of_pooled_features(weights: str) -> None:
    scans, image = _scans(32, 32, batch=6), _scans(32, 32, batch=2, seed=1)
    local, pooled, both = (_fitted(weights, scans, score=score) for score in ("local", "pooled", "both"))
    part = pooled.parts[0]
    vectors = torch.cat([tap.flatten(2).mean(2) for tap in part.features(image)], 1)  # type: ignore[operator]
    torch.testing.assert_close(pooled.pool(pooled(image)), part.pooled(vectors))  # type: ignore[operator]
    scores = [network.pool(network(image)) for network in (local, pooled, both)]
    torch.testing.assert_close(scores[2], (scores[0] + scores[1]) / 2)


@pytest.mark.parametrize("settings", [{}, {"window": 0}, {"score": "both", "foreground": 0.1}])
@torch.no_grad()
def test_scripted_it_gives_the_same_map(weights: str, settings: dict[str, Any]) -> None:
    network = _fitted(weights, _scans(32, 48), backbone=["resnet10", "resnet10"], **settings)
    image = _scans(32, 48, batch=2, seed=1)
    torch.testing.assert_close(torch.jit.script(network)(image), network(image), rtol=1e-5, atol=1e-5)


def test_the_banks_are_part_of_the_state(weights: str, tmp_path: Path) -> None:
    network = _fitted(weights, _scans(32, 48), score="both", storage="float16")
    torch.save(network.state_dict(), tmp_path / "state.pt")
    other = AnomalyDINO(backbone="resnet10", sigma=1.5, score="both").eval()
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True), strict=True)
    with torch.no_grad():
        assert torch.equal(other(_scans(32, 48, seed=1)), network(_scans(32, 48, seed=1)))


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"score": "all"}, "score must be one of"),
        ({"mirrored": 2}, "mirrored one of the 2 axes"),
        ({"rotations": 0}, "rotations must be positive"),
        ({"backbone": ["resnet10", "resnet10"], "weights": ["none"]}, "one for each backbone, got 2, 1 and 2"),
        ({"layers": [[2], [3]]}, "one for each backbone, got 1, 1 and 2"),
    ],
)
def test_wrong_arguments(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        AnomalyDINO(**{"backbone": "resnet10", **settings})


@pytest.mark.parametrize(("neighbourhood", "edge"), [(None, 1), (1, 1), (3, 3)])
@torch.no_grad()
def test_tokens_of_a_transformer_are_averaged_over_their_neighbourhood(neighbourhood: int | None, edge: int) -> None:
    torch.manual_seed(0)
    network = AnomalyDINO(2, 1, "dino_vits16", "none", neighbourhood=neighbourhood).eval()
    part = network.parts[0]
    assert isinstance(part, BackboneTokens)
    image = _scans(48, 64, batch=2, seed=1)
    mean = torch.stack(part.features(image)).mean(0)
    padded = functional.pad(mean, [edge // 2] * 4, mode="replicate")
    expected = functional.normalize(functional.avg_pool2d(padded, edge, 1), dim=1).flatten(2).transpose(1, 2)
    torch.testing.assert_close(part.embed(image)[0], expected)
