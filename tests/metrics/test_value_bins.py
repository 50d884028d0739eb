"""Bins that adapt to values of any range."""

from __future__ import annotations

import numpy as np
import pytest

from medad_plugins.metrics.value_bins import ValueBins

RANGES = [(0.0, 1.0), (-1000.0, 1e-3), (1000.0, 1e-2), (0.0, 1e-30), (5.0, 1e6)]


def _values(shift: float, scale: float, count: int = 20_000) -> np.ndarray:
    values = (np.random.default_rng(0).standard_cauchy(count) * scale + shift).astype(np.float32)
    values[:2] = 0.0, -0.0
    return values


def _counted(parts: list[np.ndarray], capacity: int, prefix_bits: int = 14) -> tuple[ValueBins, np.ndarray]:
    bins = ValueBins(capacity, prefix_bits)
    sums = bins.zeros(1)
    for part in parts:
        for found in bins.find(part):
            np.add.at(sums[0], found, 1.0)
    return bins, sums


@pytest.mark.parametrize("prefix_bits", [14, 20])
@pytest.mark.parametrize("capacity", [1 << 19, 1 << 11, 8])
@pytest.mark.parametrize(("shift", "scale"), RANGES)
def test_bins_keep_the_order_of_values(shift: float, scale: float, capacity: int, prefix_bits: int) -> None:
    values = _values(shift, scale)
    bins, sums = _counted([values], capacity, prefix_bits)
    assert bins.used <= capacity
    assert sums.sum() == values.size
    found = np.concatenate([part.copy() for part in bins.find(values)])
    places = bins.places(found)[np.argsort(-values, kind="stable")]
    assert (np.diff(places) >= 0).all()  # falling values take places that rise
    assert np.array_equal(np.bincount(places, minlength=bins.used), bins.falling(sums)[0])


@pytest.mark.parametrize("capacity", [1 << 19, 1 << 11, 8])
@pytest.mark.parametrize(("shift", "scale"), RANGES)
def test_counts_depend_on_neither_order_nor_parts_nor_merging(shift: float, scale: float, capacity: int) -> None:
    values = _values(shift, scale)
    bins, sums = _counted([values], capacity)
    expected = bins.falling(sums)
    backwards = values[::-1]
    other, turned = _counted([backwards[:7000], backwards[7000:]], capacity)
    assert np.array_equal(other.falling(turned), expected)
    for cut in (20, 19_990):
        first, total = _counted([values[:cut]], capacity)
        second, addend = _counted([values[cut:]], capacity)
        before = addend.copy()
        first.absorb(second)
        assert np.array_equal(first.falling(total), expected)
        assert np.array_equal(addend, before)
        assert first.split == bins.split


@pytest.mark.parametrize(("shift", "scale"), [(-1000.0, 1e-3), (1000.0, 1e-2)])
def test_a_small_spread_around_a_large_offset_is_distinguished(shift: float, scale: float) -> None:
    values = (np.random.default_rng(0).normal(size=20_000) * scale + shift).astype(np.float32)
    _, sums = _counted([values], 1 << 19)
    distinct = np.unique(values).size
    assert np.count_nonzero(sums) == distinct
    _, coarse = _counted([values], 1 << 11, 20)
    assert np.count_nonzero(coarse) >= 30


def test_few_values_have_bins_of_their_own_and_zero_has_one_sign() -> None:
    next_to_2 = np.nextafter(np.float32(2), np.float32(3))
    bins, sums = _counted([np.array([2, next_to_2, 2, 0.0, -0.0], dtype=np.float32)], 1 << 19)
    assert [count for count in bins.falling(sums)[0].tolist() if count] == [1, 2, 2]
    bins, sums = _counted([np.array([-2, -next_to_2, -2, 0.0, -0.0, 0], dtype=np.float32)], 1 << 19)
    assert [count for count in bins.falling(sums)[0].tolist() if count] == [3, 2, 1]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite_is_refused_wherever_it_stands(bad: float) -> None:
    values = _values(0, 1)
    values[-1] = bad
    with pytest.raises(ValueError, match="NaN or infinite"):
        _counted([values], 1 << 11)


def test_merging_with_empty_bins_changes_nothing() -> None:
    values = _values(0, 1)
    bins, sums = _counted([values], 1 << 11)
    expected = bins.falling(sums)
    empty, _ = _counted([], 1 << 11)
    bins.absorb(empty)
    assert np.array_equal(bins.falling(sums), expected)
    fresh, total = _counted([], 1 << 11)
    fresh.absorb(bins)
    assert np.array_equal(fresh.falling(total), expected)
