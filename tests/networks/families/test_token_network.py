"""Methods on a frozen backbone's tokens: what the head is shown, and what becomes of its distances."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from plain_resnet import varied_taps
from torch import Tensor
from torch.nn import functional

from medad_plugins.networks import AnomalyNetwork, FrozenTokens, TokenHead, TokenNetwork, TokenSubspace, make_taps
from medad_plugins.scorers import GaussianSmoothing


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("weights") / "resnet10.pth"
    torch.save(varied_taps("resnet10").state_dict(), path)
    return str(path)


def _scans(*size: int, batch: int = 4, seed: int = 0) -> Tensor:
    return torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(seed))


class _First(TokenHead):
    """How far the first value lies from its mean over all tokens seen."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []
        self.grid: list[int] = []
        self.mean: Tensor = torch.nn.Buffer(torch.zeros(()))

    def collect(self, tokens: Tensor, grid: Any) -> None:
        self.seen.append(tokens)
        self.grid = list(grid)

    def fit(self) -> None:
        self.mean = torch.cat(self.seen)[..., 0].mean()

    def distances(self, tokens: Tensor) -> Tensor:
        return (tokens[..., 0] - self.mean).abs()


@pytest.mark.parametrize("size", [(32, 64), (32, 48, 32)])
@torch.no_grad()
def test_the_map_is_that_of_the_heads_distances(weights: str, size: tuple[int, ...]) -> None:
    head = _First()
    network = TokenNetwork(head, len(size), 1, "resnet10", weights, sigma=1.5, reduction=0.5)
    scans, image = _scans(*size), _scans(*size, batch=2, seed=1)
    for batch in scans.split(3):
        network.collect(batch)
    network.fit()
    network.eval()
    tokens = FrozenTokens("resnet10", len(size), 1, None, weights).eval()
    shown, grid = tokens.rows(scans)
    assert head.grid == grid == [edge // 16 for edge in size]
    torch.testing.assert_close(torch.cat(head.seen), shown[:, None])
    expected = (tokens.rows(image)[0][..., 0] - shown[..., 0].mean()).abs().reshape([2, 1, *grid])
    torch.testing.assert_close(network.grid_map(image), expected)
    found = network(image)
    half = (expected[0].numel() + 1) // 2
    score = expected.flatten(1).sort(1, descending=True).values[:, :half].mean(1)
    torch.testing.assert_close(network.pool(found), score)
    mode = "bilinear" if len(size) == 2 else "trilinear"
    smooth = GaussianSmoothing(len(size), 1.5)(functional.interpolate(expected, list(size), mode=mode))
    assert float((found / smooth).flatten(1).std(1).amax()) < 1e-3, "but for a factor for each case"
    assert isinstance(network, AnomalyNetwork)


@torch.no_grad()
def test_tokens_are_joined_stages_of_unit_length(weights: str) -> None:
    tokens, image = FrozenTokens("resnet10", weights=weights).eval(), _scans(32, 64, batch=2)
    found = tokens(image)
    assert found.shape == (2, 384, 2, 4) and tokens.out_channels == 384 and tokens.stride == 16
    torch.testing.assert_close(found.square().sum(1), torch.ones(2, 2, 4))
    fine, coarse = make_taps("resnet10", layers=[2, 3], weights=weights).eval()(image)
    mean = [functional.avg_pool2d(functional.pad(tap, [1] * 4, mode="replicate"), 3, 1) for tap in (fine, coarse)]
    joined = torch.cat([functional.avg_pool2d(mean[0], 2), mean[1]], 1)
    torch.testing.assert_close(found, functional.normalize(joined, dim=1))


def test_blocks_of_a_transformer() -> None:
    tokens = FrozenTokens("dino_vits16", blocks=3)
    assert tokens.features.layers == [6, 7, 8] and tokens.out_channels == 384
    assert FrozenTokens("dino_vits16", layers=[2, 5]).features.layers == [2, 5]
    assert FrozenTokens("dino_vits16", blocks=1, neighbourhood=1).features.layers == [8]


@torch.no_grad()
def test_views_and_foreground(weights: str) -> None:
    scans, image = _scans(64, 64), _scans(64, 64, batch=2, seed=1)
    image[..., :32] *= 0.02
    head = _First()
    network = TokenNetwork(head, backbone="resnet10", weights=weights, mirrored=0, rotations=2, foreground=0.1)
    network.collect(scans)
    network.fit()
    (views,) = head.seen
    assert views.shape == (4, 4, 16, 384)
    for view, seen in enumerate((scans, scans.rot90(2, (2, 3)), scans.flip(2), scans.rot90(2, (2, 3)).flip(2))):
        torch.testing.assert_close(views[:, view], network.tokens.rows(seen)[0], rtol=1e-3, atol=1e-4)
    masked = network.eval().grid_map(image)
    assert float(masked[..., :2].abs().amax()) == 0 < float(masked[..., 2:].amin())


@torch.no_grad()
def test_its_state_and_script(weights: str, tmp_path: Path) -> None:
    network = TokenNetwork(TokenSubspace(0.9), backbone="resnet10", weights=weights, foreground=0.1)
    network.collect(_scans(32, 48))
    network.fit()
    image = _scans(32, 48, batch=2, seed=1)
    torch.save(network.eval().state_dict(), tmp_path / "state.pt")
    other = TokenNetwork(TokenSubspace(0.9), backbone="resnet10", foreground=0.1).eval()
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True), strict=True)
    assert torch.equal(other(image), network(image))
    torch.testing.assert_close(torch.jit.script(network)(image), network(image))
