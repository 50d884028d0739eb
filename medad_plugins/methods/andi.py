"""ANDi: how far a diffusion's steps from a scan lie from the true ones, over many noise levels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from medad_plugins.diffusion import PartialDiffusion
from medad_plugins.errors import InputError

__all__ = ["ANDi"]

# noise levels of all cases that the network sees in one call
_AT_ONCE = 8
# below every residual that means something: a mean of logarithms wants no zero
_LEAST = 1e-8


class ANDi(PartialDiffusion):
    """ANDi: no chain, but one step each from several noise levels; the geometric mean of what they miss is the map.

    From the noised scan of a time, the network's step back and the true one, which knows the scan, differ by a multiple
    of the squared residual between the scan and what the network takes for it. The multiples are the same for all
    scans, so they are left out of the mean over times.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        first_level: the lowest of the levels.
        level: the highest.
        steps: how many there are, evenly from one to the other.
        settings: see `PartialDiffusion`; ``eta``, ``boxes`` and ``residual`` mean nothing here.

    Raises:
        InputError: as `PartialDiffusion`, or the lowest level is not below the highest.

    Reference:
        Frotscher et al., "Unsupervised anomaly detection using aggregated normative diffusion", 2023.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        first_level: int = 75,
        level: int = 200,
        steps: int = 125,
        **settings: Any,
    ) -> None:
        super().__init__(spatial_dims, in_channels, level=level, steps=steps, **settings)
        if not 1 <= first_level < level:
            expected = f"1 to {level - 1}, below the level"
            raise InputError("the levels are in no order", where="first_level", expected=expected, found=first_level)
        self.times: list[int] = torch.linspace(first_level - 1, level - 1, steps).round().long().tolist()
        # the step's mean is compared, whatever the range of the scan that it aims at
        self.scheduler.clip_sample = False

    def answers(self, image: Tensor, seed: int = 0) -> Tensor:
        """What the network takes for the scan at each time, ``(times, B, C, *spatial)``, intensities about 0..1."""
        scan = self.whole(image) * 2 - 1
        generator = torch.Generator().manual_seed(seed)
        noises = [self.draw_noise([1, *scan.shape[1:]], generator).to(scan) for _ in self.times]
        found: list[Tensor] = []
        for start in range(0, len(self.times), _AT_ONCE):
            times = self.times[start : start + _AT_ONCE]
            each = torch.tensor(times, device=scan.device).repeat_interleave(len(scan))
            drawn = torch.cat([noise.expand_as(scan) for noise in noises[start : start + _AT_ONCE]])
            noisy = self.scheduler.add_noise(scan.repeat([len(times)] + [1] * (scan.dim() - 1)), drawn, each)
            outputs = self.unet(noisy, each).to(scan.dtype)
            for time, output, sample in zip(times, outputs.chunk(len(times)), noisy.chunk(len(times)), strict=True):
                found.append(self.scheduler.clean_of(output, time, sample))
        return (torch.stack(found) + 1) / 2

    def reconstruct(self, image: Tensor) -> Tensor:
        """The mean of the answers at all times, ``(B, C, *spatial)``."""
        return self.answers(image).mean(0)

    def anomaly_map(self, image: Tensor) -> Tensor:
        """The geometric mean over times and draws of the squared residual on 0..1, perhaps with a median filter."""
        self.require_eager()
        whole = self.whole(image)
        residuals = torch.cat([(self.answers(image, seed) - whole).square() for seed in range(self.draws)])
        together = residuals.clamp_min(_LEAST).log().mean(0).exp().mean(1, keepdim=True)
        values: Tensor = self.median(together)
        return values.float()
