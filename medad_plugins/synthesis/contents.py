"""Changes of content before it is blended in."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray
from scipy import ndimage

from medad_plugins.synthesis.sizes import LogUniform, Sampler, Uniform

__all__ = ["AddNoise", "Blur", "ContentTransform", "Gamma", "IntensityJitter", "MatchRange"]


class ContentTransform(Protocol):
    """Content ``(C, *box)`` to content, beside the host's own values ``(C, *box)`` there."""

    def __call__(
        self, rng: RandomState, content: NDArray[np.float32], own: NDArray[np.float32]
    ) -> NDArray[np.float32]: ...


class IntensityJitter:
    """Brightness and contrast changed by up to a share, as CutPaste's colour jitter.

    Args:
        strength: largest relative change of each.
    """

    def __init__(self, strength: float = 0.1) -> None:
        self.strength = strength

    def __call__(self, rng: RandomState, content: NDArray[np.float32], own: NDArray[np.float32]) -> NDArray[np.float32]:
        brightness, contrast = rng.uniform(1 - self.strength, 1 + self.strength, 2)
        mean = content.mean()
        return ((content - mean) * contrast + mean * brightness).clip(0, 1).astype(np.float32)


class Gamma:
    """Intensities to a random power.

    Args:
        exponent: draws it.
    """

    def __init__(self, exponent: Sampler = LogUniform(0.5, 2)) -> None:
        self.exponent = exponent

    def __call__(self, rng: RandomState, content: NDArray[np.float32], own: NDArray[np.float32]) -> NDArray[np.float32]:
        return (np.maximum(content, 0) ** self.exponent(rng)).astype(np.float32)


class Blur:
    """Gaussian smoothing.

    Args:
        sigma: draws the standard deviation in voxels.
    """

    def __init__(self, sigma: Sampler = Uniform(0.5, 2)) -> None:
        self.sigma = sigma

    def __call__(self, rng: RandomState, content: NDArray[np.float32], own: NDArray[np.float32]) -> NDArray[np.float32]:
        sigma = self.sigma(rng)
        return np.stack([ndimage.gaussian_filter(c, sigma) for c in content])


class AddNoise:
    """Independent normal noise.

    Args:
        sd: draws its standard deviation on the image's scale.
    """

    def __init__(self, sd: Sampler = Uniform(0, 0.05)) -> None:
        self.sd = sd

    def __call__(self, rng: RandomState, content: NDArray[np.float32], own: NDArray[np.float32]) -> NDArray[np.float32]:
        return content + rng.normal(0, self.sd(rng), content.shape).astype(np.float32)


class MatchRange:
    """Content stretched to the lowest and highest intensity of the host there, so that its level gives no clue."""

    def __call__(self, rng: RandomState, content: NDArray[np.float32], own: NDArray[np.float32]) -> NDArray[np.float32]:
        low, high = float(content.min()), float(content.max())
        relative = (content - low) / max(high - low, 1e-6)
        return (own.min() + relative * (own.max() - own.min())).astype(np.float32)
