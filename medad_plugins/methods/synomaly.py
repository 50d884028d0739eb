"""Synomaly: a diffusion whose noise has blobs in it, and scans cleaned again and again where they are abnormal."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from medad_plugins.diffusion import PartialDiffusion
from medad_plugins.scorers import GaussianSmoothing, without_small_components

__all__ = ["Synomaly"]

# a mask that changes by less than this share of itself is stable; it never counts as smaller than _LEAST of the scan
_STABLE, _LEAST = 0.01, 0.03


class Synomaly(PartialDiffusion):
    """Synomaly: trained to take off blobs with the noise, it is given white noise alone; then it takes off lesions.

    The network's first answer replaces the scan where both, smoothed, differ by more than a threshold; what comes of it
    is noised and answered again, and compared with the scan as it was given, until the place of the difference stays.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        stages: how often a scan is cleaned at most; 1 keeps the first answer.
        threshold: of the smoothed difference on 0..1.
        smallest: pixels that a component of the difference's mask must have.
        sigma: Gaussian smoothing of scan and answer before they are compared, in pixels.
        settings: see `PartialDiffusion`; of its chain only the first step is taken.

    Raises:
        InputError: as `PartialDiffusion`.
        ValueError: there is no stage.

    Reference:
        Bi et al., "Synomaly noise and multi-stage diffusion: a novel approach for unsupervised anomaly detection in
        medical images", Medical Image Analysis 2025.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        stages: int = 5,
        threshold: float = 0.1,
        smallest: int = 8,
        sigma: float = 1.0,
        **settings: Any,
    ) -> None:
        if stages < 1:
            raise ValueError(f"stages must be positive, got {stages}.")
        super().__init__(spatial_dims, in_channels, **{**settings, "steps": 1})
        self.stages, self.threshold, self.smallest = stages, threshold, smallest
        self.smoothing = GaussianSmoothing(spatial_dims, sigma)

    def gap(self, cleaned: Tensor, whole: Tensor) -> Tensor:
        """How far cleaned scans are from given ones ``(B, C, *spatial)``, smoothed and averaged over channels."""
        signed = (cleaned - whole).flatten(0, 1)[:, None]
        smoothed: Tensor = self.smoothing(signed).reshape(whole.shape)
        return smoothed.abs().mean(1, keepdim=True)

    def _cleaned(self, image: Tensor, seed: int) -> Tensor:
        whole = self.whole(image)
        cleaned = super()._cleaned(whole, seed)
        mask = self._mask(cleaned, whole)
        single = [-1] + [1] * (whole.dim() - 1)
        # each case goes on until its own mask is stable
        runs = torch.ones(len(whole), dtype=torch.bool, device=whole.device)
        for _ in range(self.stages - 1):
            if not bool(runs.any()):
                break
            again = super()._cleaned(torch.where(mask, cleaned, whole), seed)
            cleaned = torch.where(runs.reshape(single), again, cleaned)
            new = torch.where(runs.reshape(single), self._mask(cleaned, whole), mask)
            before, now = mask.flatten(1).float().mean(1), new.flatten(1).float().mean(1)
            runs = runs & ((now - before).abs() > _STABLE * before.clamp_min(_LEAST))
            mask = new
        return cleaned

    def _mask(self, cleaned: Tensor, whole: Tensor) -> Tensor:
        return without_small_components(self.gap(cleaned, whole) > self.threshold, self.smallest)

    def anomaly_map(self, image: Tensor) -> Tensor:
        """The smoothed difference to what has become of the scan, mean over draws, perhaps with a median filter."""
        self.require_eager()
        whole = self.whole(image)
        maps = [self.gap(self._cleaned(image, seed), whole) for seed in range(self.draws)]
        values: Tensor = self.median(torch.stack(maps).mean(0))
        return values.float()
