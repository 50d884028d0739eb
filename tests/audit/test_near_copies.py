"""Finding copies whatever was done to them, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from audit.textured_heads import CHANGES, Picture, textured_head, textured_volume
from medad_plugins.audit.near_copies import CopyPairs, _candidates, aligned_similarity, find_copies, noise_floor
from medad_plugins.audit.orientations import orientations
from medad_plugins.audit.signatures import Signature, sign_scan
from medad_plugins.data import Scan


def _signature(picture: Picture) -> Signature:
    return sign_scan(Scan(picture.swapaxes(0, 1), np.eye(4), 8, False), Path(__file__))


def _volume_signature(volume: Picture) -> Signature:
    return sign_scan(Scan(volume, np.eye(4), 8, False), Path(__file__))


def _find(signatures: list[Signature], groups: list[int] | None = None) -> CopyPairs:
    detail, coarse = (np.stack([getattr(one, name) for one in signatures]) for name in ("detail", "coarse"))
    numbers = np.zeros(len(signatures), np.int64) if groups is None else np.array(groups)
    return find_copies(detail, coarse, numbers)


@pytest.fixture(scope="module")
def heads() -> list[Signature]:
    return [_signature(textured_head(seed)) for seed in range(60)]


def test_different_scans_are_no_copies(heads: list[Signature]) -> None:
    found = _find(heads)
    assert len(found.first) == 0
    assert 0 < found.floor <= found.threshold < 1


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found_with_its_orientation(heads: list[Signature], change: str) -> None:
    alter, orientation = CHANGES[change]
    copy = _signature(np.ascontiguousarray(alter(textured_head(17))))
    found = _find([*heads, copy], [0] * 10 + [1] * 51)
    assert list(zip(found.first, found.second)) == [(17, 60)]
    assert orientations(2)[found.orientation[0]].name == orientation
    assert found.similarity[0] >= found.threshold


def test_all_of_many_copies_are_found(heads: list[Signature]) -> None:
    copies = [_signature((textured_head(3) * (0.5 + 0.03 * k)).astype(np.uint8)) for k in range(14)]
    found = _find([*heads, *copies])
    assert set(found.first) | set(found.second) == {3, *range(60, 74)}


def test_candidates_come_from_every_group_also_behind_many_better_ones() -> None:
    one, other = np.random.RandomState(0).randn(2, 16, 16).astype(np.float32)
    # 12 of the second group are more like the first scan, and more like the last, than these two are like each other
    grids = np.stack([one, *[one + 0.3 * (other - one)] * 12, one + 0.5 * (other - one)])
    coarse = grids / np.linalg.norm(grids, axis=(1, 2), keepdims=True)
    first, second, way = _candidates(coarse, np.array([0] + [1] * 12 + [2]), orientations(2))
    assert (0, 13, 0) in set(zip(first.tolist(), second.tolist(), way.tolist()))


def test_copies_of_volumes_are_found_mirrored_and_shifted_too() -> None:
    volumes = [textured_volume(seed) for seed in range(24)]
    copies = [volumes[4][::-1], np.roll(volumes[9], (2, -1, 1), (0, 1, 2)), (volumes[11] * 0.6).astype(np.uint8)]
    found = _find([_volume_signature(np.ascontiguousarray(volume)) for volume in [*volumes, *copies]])
    assert sorted(zip(found.first, found.second)) == [(4, 24), (9, 25), (11, 26)]
    names = {int(a): orientations(3)[way].name for a, way in zip(found.first, found.orientation)}
    assert names == {4: "mirrored left-right", 9: "as it is", 11: "as it is"}


def test_similarity_is_the_largest_correlation_over_shifts() -> None:
    random = np.random.RandomState(0)
    grids = random.randn(4, 64, 64)
    grids -= grids.mean((1, 2), keepdims=True)
    grids /= np.linalg.norm(grids, axis=(1, 2), keepdims=True)
    detail = grids.astype(np.float16)
    ways = orientations(2)
    first, second, way = (np.array(values) for values in ([0, 1, 2], [1, 2, 3], [0, 1, 5]))
    found = aligned_similarity(detail, first, second, way, ways)
    for value, a, b, number in zip(found, first, second, way):
        turned = ways[number](detail[b][None].astype(np.float64))[0]
        shifts = [(y, x) for y in range(-6, 7) for x in range(-6, 7)]
        best = max((detail[a].astype(np.float64) * np.roll(turned, shift, (0, 1))).sum() for shift in shifts)
        assert value == pytest.approx(best, abs=2e-3)


def test_half_a_pixel_does_not_hide_a_copy() -> None:
    fine = np.repeat(np.repeat(textured_head(2, 64), 2, 0), 2, 1)
    halves = [_signature(np.roll(fine, shift, (0, 1))).detail for shift in ((0, 0), (1, 1))]
    way = np.zeros(1, np.int64)
    assert aligned_similarity(np.stack(halves), way, way + 1, way, orientations(2))[0] > 0.93


def test_the_floor_follows_how_alike_the_scans_of_a_set_are(heads: list[Signature]) -> None:
    apart = np.stack([one.detail for one in heads])
    base = textured_head(99) * 0.6
    alike = [_signature((base + 0.4 * textured_head(seed)).astype(np.uint8)).detail for seed in range(60)]
    assert noise_floor(np.stack(alike)) > noise_floor(apart) + 0.05
    copies = np.concatenate([apart, apart[:6]])
    assert noise_floor(copies) == pytest.approx(noise_floor(apart), abs=0.05)
