"""An alarm that may be looked at after every scan: whether new scans are still like the reference."""

from __future__ import annotations

import bisect
from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

__all__ = ["ExchangeabilityAlarm"]

_SHIFTS = (-1.5, -0.75, -0.375, 0.375, 0.75, 1.5)  # standard deviations by which a figure may have moved
_SPREADS = (0.6, 1.6)  # factors by which its spread may have changed
_MORE_ALARMS = 2.0  # factor by which alpha may be broken
_CHANGE = 0.005  # share of the wealth that changes over to the other bets with every scan


def _gains(p_values: ArrayLike, alpha: float) -> NDArray[np.float64]:
    """What each bet makes of a stake of 1, ``(..., bets)``; every one is worth 1 on average over uniform p-values."""
    p = np.clip(np.asarray(p_values, dtype=np.float64), 1e-12, 1 - 1e-12)
    z = norm.isf(p)
    bets = [np.ones_like(p)]
    bets += [np.exp(shift * z - shift**2 / 2) for shift in _SHIFTS]
    bets += [np.exp(z**2 / 2 * (1 - spread**-2)) / spread for spread in _SPREADS]
    broken = min(_MORE_ALARMS * alpha, (1 + alpha) / 2)
    bets.append(np.where(p <= alpha, broken / alpha, (1 - broken) / (1 - alpha)))
    return np.stack(bets, axis=-1)


def _next_stakes(stakes: NDArray[np.float64], gains: NDArray[np.float64]) -> NDArray[np.float64]:
    """Stakes ``(..., bets)`` after a scan; a part changes over to the other bets, for changes that come late."""
    won = stakes * gains
    return (1 - _CHANGE) * won + _CHANGE * won.mean(axis=-1, keepdims=True)


class ExchangeabilityAlarm:
    """A conformal test martingale: the wealth of a gambler who bets that new values differ from the reference.

    Each value gets its conformal p-value among the reference and all values before it, ties broken at random. As long
    as all are exchangeable these are independent and uniform, no bet gains on average, and the wealth ever exceeds
    ``1 / rate`` with a probability of at most ``rate``, however long and however often one looks (Ville's inequality;
    Vovk et al., "Algorithmic learning in a random world", 2005; Vovk, "Testing randomness online", 2021). The bets are
    on shifts and changes of spread in either direction and on more values than ``alpha`` among the highest; their
    mixture with sharing (Herbster and Warmuth, 1998) also finds what changes late.

    Args:
        reference: ``(n,)`` values to compare with.
        alpha: share of the highest values that one bet watches.
        seed: of the ties.

    Attributes:
        history: natural logarithm of the wealth after each value.

    Example:
        >>> alarm = ExchangeabilityAlarm(np.random.RandomState(0).randn(200))
        >>> alarm.watch(np.random.RandomState(1).randn(100)).first_above(1e-4) is None
        True
        >>> alarm.watch(1.5 + np.random.RandomState(2).randn(50)).first_above(1e-4)
        136
    """

    def __init__(self, reference: Iterable[float], alpha: float = 0.05, seed: int = 0) -> None:
        self._values = sorted(float(value) for value in reference)
        self.alpha, self._random = alpha, np.random.RandomState(seed)
        bets = _gains(0.5, alpha).size
        self._stakes = np.full(bets, 1 / bets)
        self._scale = 0.0  # logarithm, for stakes alone would overflow
        self.history: list[float] = []

    def update(self, value: float) -> float:
        """Take a value in and return its p-value; high values have low ones."""
        below, until = bisect.bisect_left(self._values, value), bisect.bisect_right(self._values, value)
        above, ties = len(self._values) - until, until - below
        p_value = (above + self._random.uniform() * (ties + 1)) / (len(self._values) + 1)
        self._values.insert(until, float(value))
        self._stakes = _next_stakes(self._stakes, _gains(p_value, self.alpha))
        wealth = float(self._stakes.sum())
        self._stakes, self._scale = self._stakes / wealth, self._scale + float(np.log(wealth))
        self.history.append(self._scale)
        return float(p_value)

    def watch(self, values: Iterable[float]) -> ExchangeabilityAlarm:
        """Take values in, in their order."""
        for value in values:
            self.update(value)
        return self

    def first_above(self, rate: float) -> int | None:
        """Number, from 1, of the value at which the alarm with this false-alarm rate goes off; None: it has not."""
        above = np.flatnonzero(np.asarray(self.history) >= -np.log(rate))
        return int(above[0]) + 1 if above.size else None
