"""Patches whose opacity fades towards their edge."""

from __future__ import annotations

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray
from scipy import ndimage

from medad_plugins.synthesis.host import Host
from medad_plugins.synthesis.shapes import AreaCuboid, Shape
from medad_plugins.synthesis.sizes import Sampler, Uniform

__all__ = ["SoftPatch"]


class SoftPatch:
    """A box, or the ellipsoid in it by equal chance, with a margin inside its frame, blurred there.

    Lengths are fractions of the shortest side of the image; the paper's are of 256 pixels.

    Args:
        box: draws the frame.
        margin: between frame and shape, on every side.
        sigma: draws the standard deviation of the blur.
        opacity: draws the largest alpha before the blur.

    Reference:
        Sato et al., "Anatomy-aware self-supervised learning for anomaly detection in chest radiographs", iScience 2023.
    """

    def __init__(
        self,
        box: Shape | None = None,
        margin: float = 10 / 256,
        sigma: Sampler = Uniform(0, 14 / 256),
        opacity: Sampler = Uniform(150 / 255, 1),
    ) -> None:
        self.box, self.margin, self.sigma, self.opacity = box or AreaCuboid(), margin, sigma, opacity

    def __call__(self, rng: RandomState, host: Host) -> NDArray[np.float32]:
        frame = self.box(rng, host)
        shortest, round_one = min(host.shape), rng.randint(2) == 1
        halves = [max((edge - 1) / 2 - round(self.margin * shortest), 0.5) for edge in frame.shape]
        axes = [(np.arange(edge) - (edge - 1) / 2) / half for edge, half in zip(frame.shape, halves)]
        grid = np.meshgrid(*axes, indexing="ij")
        reach = np.square(grid).sum(0) if round_one else np.abs(grid).max(0)
        inside = reach <= max(1.0, float(reach.min()))  # a frame of two voxels has none nearer than its corners
        alpha = self.opacity(rng) * ndimage.gaussian_filter(
            inside.astype(float), self.sigma(rng) * shortest, mode="constant"
        )
        # what is hardly there does not count, but something must be
        return np.where(alpha >= min(1 / 255, alpha.max()), alpha, 0).astype(np.float32)
