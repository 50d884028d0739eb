"""Targets that a network is to predict for a synthetic anomaly."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Binary", "Factor", "FlippedGaussian", "Labeller", "Logistic"]


class Labeller(Protocol):
    """Soft target ``(*spatial)``, 0..1, zero where nothing changed.

    ``difference`` is the mean over channels of the absolute change, ``changed`` where it counts, ``factor`` the share
    of what is foreign.
    """

    def __call__(
        self, difference: NDArray[np.float32], changed: NDArray[np.bool_], factor: float
    ) -> NDArray[np.float32]: ...


class Binary:
    """One where something changed."""

    def __call__(
        self, difference: NDArray[np.float32], changed: NDArray[np.bool_], factor: float
    ) -> NDArray[np.float32]:
        return changed.astype(np.float32)


class Factor:
    """The share of what is foreign where something changed (foreign patch and Poisson image interpolation)."""

    def __call__(
        self, difference: NDArray[np.float32], changed: NDArray[np.bool_], factor: float
    ) -> NDArray[np.float32]:
        return changed.astype(np.float32) * np.float32(factor)


class Logistic:
    """How visible the change is: a logistic curve of the difference (natural synthetic anomalies).

    Args:
        middle: difference, on the image's scale, at which the target is a half; the paper's 4 of 256 grey levels.
        slope: of the curve there; the paper's a half per grey level.
    """

    def __init__(self, middle: float = 4 / 255, slope: float = 255 / 2) -> None:
        self.middle, self.slope = middle, slope

    def __call__(
        self, difference: NDArray[np.float32], changed: NDArray[np.bool_], factor: float
    ) -> NDArray[np.float32]:
        curve = 1 / (1 + np.exp(-self.slope * (difference.astype(np.float64) - self.middle)))
        return np.where(changed, curve, 0).astype(np.float32)


class FlippedGaussian:
    """How large the change is: one minus a Gaussian of the difference (many tasks).

    Args:
        sigma: standard deviation of the Gaussian, on the image's scale.
    """

    def __init__(self, sigma: float = 0.2) -> None:
        self.sigma = sigma

    def __call__(
        self, difference: NDArray[np.float32], changed: NDArray[np.bool_], factor: float
    ) -> NDArray[np.float32]:
        target = 1 - np.exp(-np.square(difference) / (2 * self.sigma**2))
        return np.where(changed, target, 0).astype(np.float32)
