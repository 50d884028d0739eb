"""Numbered patches that do not touch."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.random import RandomState
from numpy.typing import NDArray

from medad_plugins.synthesis import Host, medmix
from synthesis.textured_scans import body, scan


def _host(dims: int, in_body: bool = False) -> Host:
    return Host(scan(dims, 0), (1.0,) * dims, body(dims) if in_body else None)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("patches", [1, 2, 3])
def test_so_many_patches_apart_from_each_other(dims: int, patches: int) -> None:
    host, failed, shares = _host(dims), 0, []
    for seed in range(20):
        made = medmix(patches)(RandomState(seed), host, lambda: scan(dims, 1))
        if made.regions == 0:
            failed += 1
            assert np.array_equal(made.image, host.image) and not made.mask.any(), "all or nothing"
            continue
        assert made.regions == len(made.boxes) == patches
        covered = np.zeros(host.shape, dtype=int)
        for box in made.boxes:
            # with a margin on one side, so that boxes that touch would overlap
            covered[tuple(slice(first, last + 1) for first, last in box)] += 1
        assert covered.max() == 1
        assert not made.mask[covered == 0].any()
        changed = (made.image != host.image).any(0)
        assert np.array_equal(changed, made.mask)
        shares.append(made.mask.mean() / patches)
    assert failed <= 3
    assert 0.003 < np.mean(shares) < 0.06


@pytest.mark.parametrize("dims", [2, 3])
def test_patches_stay_in_the_body(dims: int) -> None:
    host = _host(dims, in_body=True)
    found = [medmix(2)(RandomState(seed), host, lambda: scan(dims, 1)) for seed in range(10)]
    assert sum(made.regions == 2 for made in found) >= 7
    assert not any(made.mask[~body(dims)].any() for made in found)


def test_equal_states_make_equal_anomalies() -> None:
    host = _host(2)
    one, other, third = (medmix(3)(RandomState(seed), host, lambda: scan(2, 1)) for seed in (5, 5, 6))
    assert np.array_equal(one.image, other.image) and one.boxes == other.boxes
    assert not np.array_equal(one.image, third.image)


def test_patches_of_the_same_scan_need_no_other() -> None:
    recipe = medmix(2, foreign=False)

    def nobody() -> NDArray[np.float32]:
        raise AssertionError("no other scan is needed")

    assert not recipe.takes_foreign and medmix(2).takes_foreign
    assert recipe(RandomState(0), _host(2), nobody).regions == 2


def test_where_there_is_no_room_nothing_is_changed() -> None:
    tiny = np.zeros((48, 40), dtype=bool)
    tiny[20:23, 20:23] = True
    made = medmix(3)(RandomState(0), Host(scan(2, 0), (1.0, 1.0), tiny), lambda: scan(2, 1))
    assert made.regions == 0 and np.array_equal(made.image, scan(2, 0))


def test_no_patches_are_no_recipe() -> None:
    with pytest.raises(ValueError, match="patches must be at least 1"):
        medmix(0)
