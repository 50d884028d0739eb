"""MuSc: kinds of tokens, scans that judge each other, and scores averaged over scans that are alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from plain_resnet import varied_taps
from torch import Tensor
from torch.nn import functional

from medad_plugins.methods.musc import MuSc
from medad_plugins.networks import make_taps


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("weights") / "resnet10.pth"
    torch.save(varied_taps("resnet10").state_dict(), path)
    return str(path)


def _scans(*size: int, batch: int = 6, seed: int = 0) -> Tensor:
    return torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(seed))


def _fitted(file: str, scans: Tensor, **settings: Any) -> MuSc:
    values = {"backbone": "resnet10", "weights": file, "sigma": 1.5, "storage": "float32", **settings}
    network = MuSc(scans.dim() - 2, 1, **values).train()
    for batch in scans.split(4):
        network.collect(batch)
    network.fit()
    return network.eval()


@pytest.mark.parametrize("size", [(32, 64), (32, 48, 32)])
@torch.no_grad()
def test_kinds_are_layers_times_neighbourhoods(weights: str, size: tuple[int, ...]) -> None:
    dims = len(size)
    network = MuSc(dims, backbone="resnet10", weights=weights, neighbourhoods=[1, 3]).eval()
    image = _scans(*size, batch=2)
    tokens, grid = network.kinds(image)
    assert grid == [edge // 16 for edge in size]
    found = make_taps("resnet10", dims, layers=[2, 3], weights=weights).eval()(image)
    pool = functional.avg_pool2d if dims == 2 else functional.avg_pool3d
    expected = []
    for tap in found:
        for edge in (1, 3):
            mean = pool(functional.pad(tap, [edge // 2] * 2 * dims, mode="replicate"), edge, 1)
            mean = pool(mean, 2) if mean.shape[2] != grid[0] else mean
            expected.append(functional.normalize(mean, dim=1).flatten(2).transpose(1, 2))
    assert tokens.shape == (2, 4, expected[0].shape[1], 256)
    for kind, rows in enumerate(expected):
        torch.testing.assert_close(tokens[:, kind, :, : rows.shape[2]], rows)
        assert float(tokens[:, kind, :, rows.shape[2] :].abs().sum()) == 0


@torch.no_grad()
def test_scores_are_averaged_over_scans_that_are_alike(weights: str) -> None:
    scans, image = _scans(64, 64), _scans(64, 64, batch=2, seed=1)
    plain = _fitted(weights, scans, neighbours=[1], reduction="max")
    network = _fitted(weights, scans, neighbours=[1, 2, 4], reduction="max")
    own = plain.pool(plain(image))
    known = network.state_dict()["bank.own"].amax(1)
    describe = [network.kinds(x)[0].mean(2).flatten(1) for x in (image, scans)]
    alike = torch.cosine_similarity(describe[0][:, None], describe[1], dim=2)
    expected = torch.zeros(2)
    for case in range(2):
        order = alike[case].argsort(descending=True).tolist()
        for count in (1, 2, 4):
            weights_of = [1.0, *(float(alike[case, i]) for i in order[: count - 1])]
            scores = [float(own[case]), *(float(known[i]) for i in order[: count - 1])]
            expected[case] += sum(a * b for a, b in zip(weights_of, scores)) / sum(weights_of) / 3
    torch.testing.assert_close(network.pool(network(image)), expected, rtol=1e-4, atol=1e-5)
    found = network(image)
    assert found.shape == image.shape
    ratio = found / plain(image)
    assert float(ratio.flatten(1).std(1).amax()) < 1e-3, "the map stays but for a factor for each case"


@torch.no_grad()
def test_a_scan_of_the_bank_has_the_score_it_has_among_the_others(weights: str) -> None:
    scans = _scans(64, 64)
    network = _fitted(weights, scans)
    found = network.pool(network(scans))
    torch.testing.assert_close(found, network.bank_scores(), rtol=1e-3, atol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = _fitted(weights, scans)
        one_by_one = torch.cat([rounded.pool(rounded(scan[None])) for scan in scans])
    assert float(rounded.state_dict()["bank.own"].amin()) > 0.01
    torch.testing.assert_close(one_by_one, rounded.bank_scores(), rtol=0.05, atol=0)


@pytest.mark.parametrize("window", [0, 3])
@torch.no_grad()
def test_what_few_scans_have_stands_out_without_a_label(weights: str, window: int) -> None:
    scans = (_scans(64, 64, batch=1) + 0.1 * _scans(64, 64, batch=20, seed=1)).clamp(0, 1)
    scans[7, :, 36:60, 4:28] = 1
    scans[13, :, 4:28, 36:60] = 0
    network = _fitted(weights, scans, window=window, neighbours=[1])
    assert sorted(network.bank_scores().topk(2).indices.tolist()) == [7, 13]
    peaks = network(scans[[7, 13]]).flatten(1).argmax(1).tolist()
    assert 32 <= peaks[0] // 64 < 64 and peaks[0] % 64 < 32
    assert peaks[1] // 64 < 32 and 32 <= peaks[1] % 64 < 64


@torch.no_grad()
def test_state_and_script(weights: str, tmp_path: Path) -> None:
    network, image = _fitted(weights, _scans(32, 48)), _scans(32, 48, batch=2, seed=1)
    torch.save(network.state_dict(), tmp_path / "state.pt")
    other = MuSc(backbone="resnet10", sigma=1.5, storage="float32").eval()
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True), strict=True)
    assert torch.equal(other(image), network(image))
    torch.testing.assert_close(torch.jit.script(network)(image), network(image))


@pytest.mark.parametrize(
    ("settings", "text"),
    [({"neighbourhoods": [2]}, "odd and positive"), ({"neighbours": []}, "neighbours must be at least 1")],
)
def test_wrong_arguments(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        MuSc(**settings)
