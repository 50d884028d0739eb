"""Random sizes, counts and factors of synthetic anomalies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.random import RandomState

__all__ = ["FoldedNormal", "Geometric", "LogUniform", "Sampler", "ShiftedGamma", "Uniform"]


class Sampler(Protocol):
    """Anything that draws one number from the state it is given."""

    def __call__(self, rng: RandomState) -> float: ...


@dataclass(frozen=True)
class Uniform:
    """Uniform between two numbers; equal numbers are a constant."""

    low: float
    high: float

    def __call__(self, rng: RandomState) -> float:
        return float(rng.uniform(self.low, self.high))


@dataclass(frozen=True)
class LogUniform:
    """Uniform in the logarithm between two positive numbers."""

    low: float
    high: float

    def __call__(self, rng: RandomState) -> float:
        return float(np.exp(rng.uniform(np.log(self.low), np.log(self.high))))


@dataclass(frozen=True)
class ShiftedGamma:
    """``offset + Gamma(shape, scale)``, clipped: many small sizes, few large ones."""

    shape: float
    scale: float
    offset: float
    low: float
    high: float

    def __call__(self, rng: RandomState) -> float:
        return float(np.clip(self.offset + rng.gamma(self.shape, self.scale), self.low, self.high))


@dataclass(frozen=True)
class FoldedNormal:
    """Absolute value of a normal number, clipped."""

    mean: float
    sd: float
    low: float
    high: float

    def __call__(self, rng: RandomState) -> float:
        return float(np.clip(abs(rng.normal(self.mean, self.sd)), self.low, self.high))


@dataclass(frozen=True)
class Geometric:
    """A count: one, then one more with this probability again and again, up to a largest."""

    largest: int
    probability: float = 0.5

    @property
    def mean(self) -> float:
        """The count on average."""
        return sum(self.probability**more for more in range(self.largest))

    def __call__(self, rng: RandomState) -> int:
        count = 1
        while count < self.largest and rng.uniform() < self.probability:
            count += 1
        return count
