"""Bins for the values of maps whose range nobody knows beforehand."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

__all__ = ["ValueBins"]

_CHUNK = 1 << 15  # values that are worked on at a time, so that they stay in the processor's cache
_SAMPLING = 16  # of the values still to come one in 16 is looked at for what else needs bins, as joining takes time


def _bits(values: NDArray) -> NDArray[np.uint32]:
    # adding zero turns -0.0 into 0.0, which would otherwise be another value.
    return (values.astype(np.float32, copy=False) + np.float32(0)).view(np.uint32)


def _distinct(rising: NDArray[np.int64]) -> NDArray[np.int64]:
    return rising[np.flatnonzero(np.diff(rising, prepend=-1))]


class ValueBins:
    """Counts per value in at most ``capacity`` bins, as fine as the values seen so far allow.

    A value belongs to a prefix: the leading bits of its float32. Each prefix that was seen has ``2**split`` bins, with
    the largest ``split`` (up to one float32 a bin) for which all bins fit the capacity; where the capacity is below the
    number of prefixes, ``split`` is negative and ``2**-split`` neighbouring prefixes share one bin. So bins are narrow
    whether values spread over decades, around zero or a little around a large offset. Halving ``split`` joins
    neighbours without cutting any: the counts at the end depend on the values alone, not on their order nor on how they
    came to be split over batches and ranks.

    Args:
        capacity: the most bins there may be, a power of two.
        prefix_bits: of the prefix. With 14 (sign, exponent, 5 bits of mantissa) its values differ by at most 3 %. Few
            prefixes are soon all met; many adapt better where bins are few.
    """

    def __init__(self, capacity: int, prefix_bits: int = 14) -> None:
        self.capacity, self._prefix_bits, self._suffix_bits = capacity, prefix_bits, 32 - prefix_bits
        self.split = min(self._suffix_bits, capacity.bit_length() - 1)
        self.groups: NDArray[np.int64] = np.zeros(0, dtype=np.int64)  # prefix (or joined prefixes) of each slot of bins
        self._arrays: list[NDArray] = []
        # what is added, modulo 2**32, to the leading bits of a value to give its bin; its bin is negative where unseen
        self._offsets = np.zeros(1 << prefix_bits, dtype=np.uint32)
        self._index(0)

    def zeros(self, *shape: int, dtype: type[np.floating] = np.float64) -> NDArray:
        """An array ``(*shape, capacity)`` of sums per bin, which is joined in place whenever bins are."""
        array = np.zeros((*shape, self.capacity), dtype=dtype)
        self._arrays.append(array)
        return array

    @property
    def used(self) -> int:
        """How many of the bins are in use, the first ones."""
        return self.groups.size << self.split if self.split > 0 else self.groups.size

    @property
    def most_groups(self) -> int:
        """How many groups the present split can distinguish."""
        return self._offsets.size >> max(-self.split, 0)

    @property
    def arrays(self) -> tuple[NDArray, ...]:
        """The sums per bin, in the order in which `zeros` made them."""
        return tuple(self._arrays)

    def find(self, values: NDArray) -> Iterator[NDArray[np.int64]]:
        """The bins of all values in the order of the flat array, a chunk at a time.

        A chunk has to be used up before the next one is drawn, which may join bins.

        Raises:
            ValueError: a value is NaN or infinite (as float32). What came before it has been given out.
        """
        flat, looked_ahead = values.reshape(-1), False
        for start in range(0, flat.size, _CHUNK):
            bits = _bits(flat[start : start + _CHUNK])
            bins = self._lookup(bits)
            if bins.min() < 0:
                if not looked_ahead:
                    self._admit(_bits(flat[start::_SAMPLING]))
                    looked_ahead, bins = True, self._lookup(bits)
                missing, split = np.flatnonzero(bins < 0), self.split
                self._admit(bits[missing])
                if self.split == split:
                    bins[missing] = self._lookup(bits[missing])
                else:
                    bins = self._lookup(bits)
            yield bins.astype(np.int64)

    def _lookup(self, bits: NDArray[np.uint32]) -> NDArray[np.int32]:
        """Bins of bit patterns; negative where a prefix has none."""
        bins = self._offsets.take((bits >> np.uint32(self._suffix_bits)).astype(np.intp))
        if self.split > 0:
            bins += bits >> np.uint32(self._suffix_bits - self.split)
        return bins.view(np.int32)

    def _admit(self, bits: NDArray[np.uint32]) -> None:
        """Make bins for bit patterns that have none."""
        leading = bits >> np.uint32(self._suffix_bits)
        if leading.size > 1024:
            seen = np.zeros(self._offsets.size, dtype=bool)
            seen[leading] = True
            prefixes = np.flatnonzero(seen).astype(np.int64)
        else:
            prefixes = _distinct(np.sort(leading.astype(np.int64)))
        if ((prefixes >> (self._prefix_bits - 9)) & 0xFF == 0xFF).any():  # the exponent of NaN and of infinity
            raise ValueError("a map has NaN or infinite values")
        self.add_groups(_distinct(prefixes >> max(-self.split, 0)))

    def add_groups(self, groups: NDArray[np.int64]) -> None:
        """Make bins for groups (prefixes, joined as ``split`` says) that have none; ``groups`` rise."""
        joined = False
        while True:
            added = np.setdiff1d(groups, self.groups, assume_unique=True) if joined else self._unseen(groups)
            if (self.groups.size + added.size) << max(self.split, 0) <= self.capacity:
                break
            if self.split <= 0:
                groups = _distinct(groups >> 1)
            self._join_once()
            joined = True
        known = 0 if joined else self.groups.size
        self.groups = np.concatenate([self.groups, added])
        self._index(known)

    def _unseen(self, groups: NDArray[np.int64]) -> NDArray[np.int64]:
        prefixes = (groups << max(-self.split, 0)).astype(np.uint32)
        return groups[self._lookup(prefixes << np.uint32(self._suffix_bits)) < 0]

    def join(self, split: int) -> None:
        """Join neighbouring bins until each prefix has ``2**split``."""
        if self.split > split:
            while self.split > split:
                self._join_once()
            self._index(0)

    def _join_once(self) -> None:
        used = self.used
        if self.split > 0:
            for array in self._arrays:
                array[..., : used // 2] = array[..., 0:used:2] + array[..., 1:used:2]
                array[..., used // 2 : used] = 0
        else:
            merged, slots = np.unique(self.groups >> 1, return_inverse=True)
            order = np.argsort(slots, kind="stable")
            starts = np.searchsorted(slots[order], np.arange(merged.size))
            for array in self._arrays:
                if used:
                    array[..., : merged.size] = np.add.reduceat(array[..., order], starts, axis=-1)
                array[..., merged.size : used] = 0
            self.groups = merged
        self.split -= 1

    def _index(self, known: int) -> None:
        """Write down the first bin of each prefix after the known ones, less what `_find` adds to it."""
        split, joined = max(self.split, 0), max(-self.split, 0)
        if known == 0:
            self._offsets[:] = np.uint32(1 << 31)
            if split:
                self._offsets -= np.arange(self._offsets.size, dtype=np.uint32) << np.uint32(split)
        groups, slots = self.groups[known:], np.arange(known, self.groups.size)
        first = (slots - groups if split else slots) << split
        self._offsets.reshape(-1, 1 << joined)[groups] = first[:, None].astype(np.uint32)

    def _falling_slots(self) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """Slots from the highest values to the lowest, and which slots hold negative values."""
        half = 1 << (self._prefix_bits - 1 + min(self.split, 0))
        negative = self.groups >= half  # the sign is the leading bit; a higher pattern is then a lower value
        return np.argsort(np.where(negative, self.groups, half - 1 - self.groups), kind="stable"), negative

    def falling(self, sums: NDArray) -> NDArray:
        """A copy of sums ``(..., capacity)``: of the bins in use, from the highest values to the lowest."""
        slots, negative = self._falling_slots()
        rising = slots[::-1]
        size = 1 << max(self.split, 0)
        rows = sums[..., : self.used].reshape(*sums.shape[:-1], -1, size)[..., rising, :]
        if negative.any():
            rows[..., negative[rising], :] = rows[..., negative[rising], ::-1]
        return rows.reshape(*sums.shape[:-1], -1)[..., ::-1]

    def places(self, bins: NDArray[np.intp]) -> NDArray[np.intp]:
        """Where bins in use stand in what `falling` gives."""
        slots, negative = self._falling_slots()
        place = np.empty(slots.size, dtype=np.intp)
        place[slots] = np.arange(slots.size)
        bits = max(self.split, 0)
        slot, within = bins >> bits, bins & ((1 << bits) - 1)
        return (place[slot] << bits) + np.where(negative[slot], within, (1 << bits) - 1 - within)

    def absorb(self, other: ValueBins) -> None:
        """Add the sums of other bins, which have the same arrays and stay as they are."""
        self.join(other.split)
        if other.groups.size == 0:
            return
        self.add_groups(np.unique(other.joined_groups(self.split)))
        target = self._bins_of(other)
        for array, addend in zip(self._arrays, other._arrays):
            for row, more in zip(array.reshape(-1, self.capacity), addend.reshape(-1, other.capacity)):
                np.add.at(row, target, more[: other.used])

    def joined_groups(self, split: int) -> NDArray[np.int64]:
        """The groups that these become at a split that is no higher."""
        return self.groups >> (min(self.split, 0) - min(split, 0))

    def _bins_of(self, finer: ValueBins) -> NDArray[np.int64]:
        """For each bin in use of finer bins, the bin here that it lies in."""
        order = np.argsort(self.groups)
        slots = order[np.searchsorted(self.groups, finer.joined_groups(self.split), sorter=order)]
        if finer.split <= 0:
            return slots
        split = max(self.split, 0)
        within = np.arange(1 << finer.split) >> (finer.split - split)
        return ((slots[:, None] << split) + within).reshape(-1)
