"""Copies among many scans: found by their local contrast, whatever was done to brightness, size, side or place."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.stats import norm

from medad_plugins.audit.orientations import Orientation, orientations

__all__ = ["COPY_SIMILARITY", "CopyPairs", "aligned_similarity", "find_copies", "noise_floor"]

logger = logging.getLogger(__name__)

# Slices of different patients ended at 0.66 among 3000 head slices; recompressed, resized, brightened and noisy copies
# stay above 0.97, copies shifted by 6 % of the edge or turned by 2 degrees mostly above 0.92.
COPY_SIMILARITY = 0.9
# Above this only a copy is so similar, whatever the floor.
_SURE_SIMILARITY = 0.998
# A copy whose large structures correlate less than this was shifted further than is searched for anyway.
_CANDIDATE_SIMILARITY = 0.3
_CANDIDATES = 5
_MAX_SHIFT = 0.1  # of the edge
_BLOCK = 1024
_PAIRS_AT_ONCE = 256
_SAMPLED_PAIRS = 8000
_EXPECTED_BEYOND = 0.01
# below it half a pixel cannot make a pair a near copy
_WORTH_REFINING = 0.65

_Ints = NDArray[np.int64]
_Floats = NDArray[np.float32]


@dataclass(frozen=True)
class CopyPairs:
    """Pairs of scans that are copies of each other.

    Attributes:
        first, second: ``(n,)`` positions.
        similarity: ``(n,)`` aligned similarity, up to 1.
        orientation: ``(n,)`` index into `orientations`: how the second must be turned to look like the first; 0 as it
            is.
        floor: what no pair of different scans of the set is likely to reach.
        threshold: similarity from which on pairs are listed.
    """

    first: _Ints
    second: _Ints
    similarity: _Floats
    orientation: _Ints
    floor: float
    threshold: float


def find_copies(detail: NDArray[np.float16], coarse: _Floats, groups: _Ints, seed: int = 0) -> CopyPairs:
    """Find pairs of near copies among ``n`` scans of one kind.

    Matrix products of the coarse local contrast, in eight orientations, propose for every scan the five likeliest
    copies in each group as it is and the five likeliest turned ones. These are then aligned by shifts of up to a tenth
    of the edge and judged by the correlation of their detailed local contrast.

    A pair is a near copy from `COPY_SIMILARITY` on, or from what the set's own pairs of different scans reach by
    chance, where that is more (see `noise_floor`), but always from 0.998 on.

    Args:
        detail: ``(n, *spatial)``, mean 0, norm 1 each.
        coarse: ``(n, *smaller)``, norm 1 each.
        groups: ``(n,)`` numbers from 0 (split and label), in each of which candidates are sought.
        seed: of the pairs that the noise floor is taken from.
    """
    ways = orientations(detail.ndim - 1)
    first, second, way = _candidates(coarse, groups, ways)
    logger.info("Comparing %d candidate pairs of %d scans.", len(first), len(detail))
    similarity = aligned_similarity(detail, first, second, way, ways)
    floor = noise_floor(detail, seed)
    threshold = min(max(COPY_SIMILARITY, floor), _SURE_SIMILARITY)
    found = similarity >= threshold
    return CopyPairs(first[found], second[found], similarity[found], way[found], floor, threshold)


def noise_floor(detail: NDArray[np.float16], seed: int = 0) -> float:
    """Similarity that no pair of different scans of the set is likely to reach, from a sample of its pairs.

    Fisher's transform of the aligned similarity of random pairs is taken as normal, its spread from the median and the
    90 % or 99 % quantile, which a few true copies do not move; the floor is where 0.01 pairs are expected beyond it
    among all pairs in all orientations.
    """
    n = len(detail)
    if n < 3:
        return 0.0
    ways = orientations(detail.ndim - 1)
    random = np.random.RandomState(seed)
    first, second = random.randint(n, size=(2, min(_SAMPLED_PAIRS, 10 * n)))
    first, second = first[first != second], second[first != second]
    sample = aligned_similarity(detail, first, second, np.zeros_like(first), ways)
    values = np.arctanh(sample.clip(-0.999, 0.999).astype(np.float64))
    middle = np.median(values)
    # a set of several kinds of scans has a heavy 90 % quantile, one with many copies a heavy 99 % quantile
    spread = min((np.quantile(values, 1 - part) - middle) / norm.isf(part) for part in (0.1, 0.01))
    trials = n * (n - 1) / 2 * len(ways)
    return float(np.tanh(middle + spread * norm.isf(_EXPECTED_BEYOND / trials)))


def _candidates(coarse: _Floats, groups: _Ints, ways: Sequence[Orientation]) -> tuple[_Ints, _Ints, _Ints]:
    """Unordered pairs that may be copies, each with the orientation that fits best: as it is, or the best other one."""
    n = len(coarse)
    order = np.argsort(groups, kind="stable")
    bounds = np.searchsorted(groups[order], np.arange(groups.max(initial=0) + 2))
    parts = [slice(a, b) for a, b in pairwise(bounds.tolist()) if b > a]
    flat = coarse[order].reshape(n, -1)
    # one product compares with all turned copies at once
    turned = [np.ascontiguousarray(way(coarse[order]).reshape(n, -1).T) for way in ways]
    found: list[NDArray] = []
    for start in range(0, n, _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, n))
        plain = flat[rows] @ turned[0]
        best = flat[rows] @ turned[1]
        which = np.ones(best.shape, dtype=np.uint8)
        for number in range(2, len(ways)):
            other = flat[rows] @ turned[number]
            better = other > best
            which[better] = number
            np.maximum(best, other, out=best)
        for scores, kinds in ((plain, None), (best, which)):
            scores[np.arange(len(rows)), rows] = -1  # a scan may well look like its own mirror image
            found += [_top(scores[:, part], rows, part.start, kinds) for part in parts]
        if n > 5 * _BLOCK:
            logger.info("Searched copies of %d of %d scans.", rows[-1] + 1, n)
    pairs = np.concatenate(found) if found else np.zeros((0, 3), dtype=np.int64)
    first, second, way = order[pairs[:, 0]], order[pairs[:, 1]], pairs[:, 2]
    return _once(first, second, way, ways)


def _top(scores: _Floats, rows: _Ints, offset: int, kinds: NDArray[np.uint8] | None) -> _Ints:
    """``(m, 3)``: row, column and orientation of the best few columns of every row."""
    count = min(_CANDIDATES, scores.shape[1])
    columns = np.argpartition(-scores, count - 1, axis=1)[:, :count]
    good = np.take_along_axis(scores, columns, axis=1) >= _CANDIDATE_SIMILARITY
    row, place = np.nonzero(good)
    column = columns[row, place] + offset
    way = np.zeros_like(row) if kinds is None else kinds[row, column].astype(np.int64)
    return np.stack([rows[row], column, way], axis=1)


def _once(first: _Ints, second: _Ints, way: _Ints, ways: Sequence[Orientation]) -> tuple[_Ints, _Ints, _Ints]:
    """Pairs with the smaller position first, each orientation once."""
    back = np.array([next(k for k, other in enumerate(ways) if way.is_undone_by(other)) for way in ways])
    swap = first > second
    low, high = np.minimum(first, second), np.maximum(first, second)
    pairs = np.unique(np.stack([low, high, np.where(swap, back[way], way)], axis=1), axis=0)
    return pairs[:, 0], pairs[:, 1], pairs[:, 2]


def aligned_similarity(
    detail: NDArray[np.float16], first: _Ints, second: _Ints, way: _Ints, ways: Sequence[Orientation]
) -> _Floats:
    """Correlation of pairs at their best shift: ``detail[first]`` against the turned ``detail[second]``.

    Args:
        detail: ``(n, *spatial)``, mean 0, norm 1 each.
        first, second: ``(m,)`` positions.
        way: ``(m,)`` index into ``ways``.
        ways: orientations.

    Returns:
        ``(m,)``, -1..1; shifts are circular and at most a tenth of the edge.
    """
    result = _best_at_shifts(detail, first, second, way, ways, [(0.0,) * (detail.ndim - 1)])
    unsure = np.flatnonzero((result > _WORTH_REFINING) & (result < _SURE_SIMILARITY))
    halves = list(product((0.0, 0.5), repeat=detail.ndim - 1))[1:]
    refined = _best_at_shifts(detail, first[unsure], second[unsure], way[unsure], ways, halves)
    result[unsure] = np.maximum(result[unsure], refined)
    return result.clip(-1, 1)


def _best_at_shifts(
    detail: NDArray[np.float16],
    first: _Ints,
    second: _Ints,
    way: _Ints,
    ways: Sequence[Orientation],
    offsets: Sequence[tuple[float, ...]],
) -> _Floats:
    """Largest correlation over whole pixels plus each of the offsets, as parts of a pixel along every axis."""
    axes = tuple(range(1, detail.ndim))
    size = detail.shape[1:]
    shifts = np.arange(-max(1, round(_MAX_SHIFT * size[0])), max(1, round(_MAX_SHIFT * size[0])) + 1)
    phases = [_phase(size, offset) for offset in offsets]
    result = np.full(len(first), -1, dtype=np.float32)
    for number, turn in enumerate(ways):
        chosen = np.flatnonzero(way == number)
        for start in range(0, len(chosen), _PAIRS_AT_ONCE):
            pairs = chosen[start : start + _PAIRS_AT_ONCE]
            left = fft.rfftn(detail[first[pairs]].astype(np.float32), axes=axes)
            right = fft.rfftn(np.ascontiguousarray(turn(detail[second[pairs]])).astype(np.float32), axes=axes)
            spectrum = left * right.conj()
            for phase in phases:
                correlation = fft.irfftn(spectrum * phase, s=size, axes=axes)
                for axis in axes:
                    correlation = correlation.take(shifts, axis=axis, mode="wrap")
                result[pairs] = np.maximum(result[pairs], correlation.max(axis=axes))
    return result


def _phase(size: tuple[int, ...], offset: tuple[float, ...]) -> NDArray[np.complex64]:
    """What a half spectrum is multiplied with to shift its signal by parts of a pixel."""
    frequencies = [fft.fftfreq(length) for length in size[:-1]] + [fft.rfftfreq(size[-1])]
    grid = np.meshgrid(*frequencies, indexing="ij")
    angle = sum(axis * part for axis, part in zip(grid, offset))
    return np.exp(2j * np.pi * angle).astype(np.complex64)
