"""Features of training scans, computed once: the same but for the rounding of what is kept."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from plain_resnet import varied_taps
from torch import Tensor

from medad_plugins.networks import FeatureTaps, TapCache, make_taps

NAMES = ["a", "b", "c", "d", "e"]


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> FeatureTaps:
    path = tmp_path_factory.mktemp("weights") / "resnet10.pth"
    torch.save(varied_taps("resnet10").state_dict(), path)
    return make_taps("resnet10", weights=str(path))


def _scans(*size: int, seed: int = 0) -> Tensor:
    return torch.rand(len(NAMES), 1, *size, generator=torch.Generator().manual_seed(seed))


def _asked(taps: FeatureTaps, scans: Tensor, rows: list[int]) -> list[Tensor]:
    assert taps.cache is not None
    taps.cache.current = [NAMES[row] for row in rows]
    return taps.remembered(scans[rows])


@pytest.mark.parametrize("memory_budget", [100.0, 0.01])
@torch.no_grad()
def test_what_comes_back_is_what_the_backbone_says(memory_budget: float, frozen: FeatureTaps, tmp_path: Path) -> None:
    taps, scans = copy.deepcopy(frozen), _scans(32, 48)
    cache = taps.cache = TapCache(5, tmp_path, memory_budget)
    exact = taps(scans)
    # new ones, some known, all known, one of them twice
    for rows in ([0, 2], [2, 1, 4], [4, 0], [3, 1], [1, 1, 3]):
        for found, tap in zip(_asked(taps, scans, rows), exact, strict=True):
            assert found.shape == tap[rows].shape and found.dtype == tap.dtype
            torch.testing.assert_close(found, tap[rows], rtol=1e-3, atol=1e-4)
    assert (cache.computed, cache.given) == (5, 7)
    # it looks at names and not at scans, so that without one it computes
    cache.current = None
    torch.testing.assert_close(taps.remembered(scans[:1] / 2)[0], taps(scans[:1] / 2)[0])
    cache.current = ["a"]
    assert not torch.allclose(taps.remembered(scans[:1] / 2)[0], taps(scans[:1] / 2)[0], rtol=0.01)
    # another size is not what was kept
    assert taps.remembered(scans[:1, :, :32, :32])[0].shape[2:] == (4, 4)
    cache.close()
    assert torch.equal(taps.remembered(scans[:1])[0], taps(scans[:1])[0])
    assert not list(tmp_path.iterdir())


@torch.no_grad()
def test_bfloat16_is_kept_as_it_is(frozen: FeatureTaps) -> None:
    taps, scans = copy.deepcopy(frozen), _scans(32, 32)
    taps.cache = TapCache(5)
    with torch.autocast("cpu", torch.bfloat16):
        first, exact = _asked(taps, scans, [0, 1, 2]), taps(scans[:3])
        again = _asked(taps, scans, [2, 0])
    for kept, found, tap in zip(first, again, exact, strict=True):
        assert kept.dtype == torch.bfloat16
        assert torch.equal(kept, tap) and torch.equal(found, tap[[2, 0]])


def test_large_values_are_kept_too() -> None:
    cache = TapCache(2)
    cache.current = ["a", "b"]
    found = [cache.taps(torch.ones(2, 1, 4, 4), lambda image: [1e6 * image])[0] for _ in range(2)]
    torch.testing.assert_close(found[1], torch.full((2, 1, 4, 4), 1e6), rtol=4e-3, atol=0)


def test_without_a_folder_nothing_is_kept_beyond_the_budget(frozen: FeatureTaps) -> None:
    taps, scans = copy.deepcopy(frozen), _scans(32, 32)
    cache = taps.cache = TapCache(5, None, 0.001)
    for _ in range(2):
        assert torch.equal(_asked(taps, scans, [0, 1])[0], taps(scans[:2])[0])
    assert cache.given == 0


def test_what_learns_is_not_kept_and_a_copy_remembers_nothing(frozen: FeatureTaps) -> None:
    taps = copy.deepcopy(frozen)
    taps.cache = TapCache(5)
    assert copy.deepcopy(taps).cache is None
    learning = make_taps("resnet10")
    learning.frozen = False
    learning.cache = TapCache(5)
    learning.cache.current = ["a"]
    learning.remembered(_scans(32, 32)[:1])
    assert learning.cache.computed == 0
