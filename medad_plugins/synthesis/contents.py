"""Changes of content before it is blended in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray
from scipy import ndimage

from medad_plugins.synthesis.sizes import LogUniform, Sampler, Uniform

__all__ = [
    "AddNoise",
    "Blur",
    "ContentTransform",
    "Gamma",
    "IntensityJitter",
    "Invert",
    "MatchRange",
    "Posterise",
    "Sharpen",
    "Solarise",
    "SomeChanges",
]


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


class MatchRange:
    """The content's range of intensities brought to that of what it will lie on, channel by channel."""

    def __call__(self, rng: RandomState, content: NDArray[np.float32], own: NDArray[np.float32]) -> NDArray[np.float32]:
        axes = tuple(range(1, content.ndim))
        low, high = content.min(axes, keepdims=True), content.max(axes, keepdims=True)
        own_low, own_high = own.min(axes, keepdims=True), own.max(axes, keepdims=True)
        share = (content - low) / np.maximum(high - low, 1e-6)
        return (own_low + share * (own_high - own_low)).astype(np.float32)


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


class Invert:
    """Dark for bright, within the content's own range."""

    def __call__(self, rng: RandomState, content: NDArray[np.float32], own: NDArray[np.float32]) -> NDArray[np.float32]:
        return content.max() + content.min() - content


class Solarise:
    """Intensities above a threshold turned over at it, as film exposed too long shows them.

    Args:
        threshold: draws it, as a share of the content's range.
    """

    def __init__(self, threshold: Sampler = Uniform(0.1, 0.5)) -> None:
        self.threshold = threshold

    def __call__(self, rng: RandomState, content: NDArray[np.float32], own: NDArray[np.float32]) -> NDArray[np.float32]:
        low, high = content.min(), content.max()
        threshold = low + np.float32(self.threshold(rng)) * (high - low)
        return np.where(content > threshold, threshold + high - content, content).astype(np.float32)


class Posterise:
    """Few grey levels in place of many.

    Args:
        levels: draws how many.
    """

    def __init__(self, levels: Sampler = Uniform(2, 8)) -> None:
        self.levels = levels

    def __call__(self, rng: RandomState, content: NDArray[np.float32], own: NDArray[np.float32]) -> NDArray[np.float32]:
        steps, low = max(1, round(self.levels(rng)) - 1), content.min()
        span = max(float(content.max() - low), 1e-6)
        return (low + np.round((content - low) / span * steps) / steps * span).astype(np.float32)


class Sharpen:
    """What a Gaussian would smooth away is added once more.

    Args:
        strength: draws how much of it.
        sigma: of the Gaussian, in voxels.
    """

    def __init__(self, strength: Sampler = Uniform(0.5, 2), sigma: float = 1.0) -> None:
        self.strength, self.sigma = strength, sigma

    def __call__(self, rng: RandomState, content: NDArray[np.float32], own: NDArray[np.float32]) -> NDArray[np.float32]:
        smooth = np.stack([ndimage.gaussian_filter(c, self.sigma) for c in content])
        return (content + np.float32(self.strength(rng)) * (content - smooth)).clip(0, 1).astype(np.float32)


class SomeChanges:
    """Some of several changes, drawn anew each time, one after the other.

    Args:
        changes: to choose from.
        count: how many of them.
    """

    def __init__(self, changes: Sequence[ContentTransform], count: int = 3) -> None:
        if not 0 <= count <= len(changes):
            raise ValueError(f"count must lie in 0..{len(changes)}, got {count}.")
        self.changes, self.count = list(changes), count

    def __call__(self, rng: RandomState, content: NDArray[np.float32], own: NDArray[np.float32]) -> NDArray[np.float32]:
        for index in rng.permutation(len(self.changes))[: self.count]:
            content = self.changes[index](rng, content, own)
        return content
