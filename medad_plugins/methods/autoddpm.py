"""AutoDDPM: what partial diffusion shows as suspicious is painted over, with the rest of the scan to look at."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from medad_plugins.diffusion import PartialDiffusion
from medad_plugins.errors import InputError
from medad_plugins.networks.blocks.perceptual import make_saliency
from medad_plugins.scorers import dilated

__all__ = ["AutoDDPM"]

# a scan's residuals above this share of its own count alike
_HIGHEST = 0.95
# below every residual that means something
_LEAST = 1e-8


def _quantile(values: Tensor, share: float) -> Tensor:
    """Each case's own quantile of ``(B, 1, *spatial)``, to be compared with it."""
    # one by one, as PyTorch takes no more than 16 million values at once
    found = torch.stack([torch.quantile(case.flatten(), share) for case in values])
    return found.reshape([-1] + [1] * (values.dim() - 1))


class AutoDDPM(PartialDiffusion):
    """AutoDDPM: mask, stitch and resample; the scan itself where it is normal, and normal anatomy that fits elsewhere.

    A scan is noised far and cleaned. Where what comes of it differs in intensity and in looks is a mask. In a second,
    shorter chain the places outside the mask are the scan's own, noised as far as each step is, while those inside come
    from the first chain; each step is taken several times, noised again between, so that both fit. The map is the
    residual to that, times the first chain's suspicion.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        filled_level: how far the second chain goes, up to ``level``.
        filled_steps: in which it goes back.
        resamples: how often each of these is taken.
        masked: share of the scan that is masked at first, before the mask grows by a pixel.
        saliency: how looks are compared, ``"ssim"`` or ``"perceptual"``, see `make_saliency`.
        backbone, weights: of ``"perceptual"``.
        settings: see `PartialDiffusion`; ``boxes`` and ``residual`` mean nothing here.

    Raises:
        InputError: as `PartialDiffusion`, also for the second chain.
        ValueError: nothing is resampled, or the share is none.

    Reference:
        Bercea et al., "Mask, stitch, and re-sample: enhancing robustness and generalizability in anomaly detection
        through automatic diffusion models", 2023; resampling: Lugmayr et al., "RePaint", CVPR 2022.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        filled_level: int = 50,
        filled_steps: int = 50,
        resamples: int = 5,
        masked: float = 0.05,
        saliency: str = "ssim",
        backbone: str = "resnet18",
        weights: str = "none",
        **settings: Any,
    ) -> None:
        super().__init__(spatial_dims, in_channels, **settings)
        if resamples < 1 or not 0 < masked < 1:
            raise ValueError(f"resamples must be positive and masked between 0 and 1, got {resamples} and {masked}.")
        if filled_level > self.level:
            expected = f"1 to {self.level}, the level"
            what = "the second chain goes farther than the first"
            raise InputError(what, where="filled_level", expected=expected, found=filled_level)
        self.filling = self.scheduler.at_level(filled_level, filled_steps, ("filled_level", "filled_steps"))
        self.resamples, self.masked = resamples, masked
        self.saliency = make_saliency(saliency, spatial_dims, in_channels, backbone, weights)

    def suspicion(self, cleaned: Tensor, whole: Tensor) -> Tensor:
        """How different cleaned scans are from given ones ``(B, C, *spatial)`` in intensity and looks, 0 and more."""
        residual = (cleaned - whole).abs().mean(1, keepdim=True)
        relative = (residual / _quantile(residual, _HIGHEST).clamp_min(_LEAST)).clamp_max(1)
        return relative * self.saliency(cleaned, whole).clamp_min(0)

    def mask_of(self, suspicion: Tensor) -> Tensor:
        """Where scans are painted over, ``(B, 1, *spatial)``, booleans."""
        return dilated((suspicion > _quantile(suspicion, 1 - self.masked)).float(), 3) > 0

    def filled(self, scan: Tensor, cleaned: Tensor, mask: Tensor, generator: torch.Generator) -> Tensor:
        """Scans of -1..1 with what the second chain makes of the cleaned ones inside the mask."""
        shape = [1, *scan.shape[1:]]

        def noise() -> Tensor:
            # of no case, so that a map does not depend on a place in the batch
            return self.draw_noise(shape, generator).to(scan)

        def noised(image: Tensor, time: int) -> Tensor:
            times = torch.full((len(image),), time, device=image.device)
            return self.filling.add_noise(image, noise().expand_as(image), times)

        times: list[int] = self.filling.timesteps.tolist()
        sample = noised(cleaned, times[0])
        for time, then in zip(times, (*times[1:], None)):
            for again in range(self.resamples if then is not None else 1):
                if then is not None and again > 0:
                    # back to where this step begins
                    kept = self.filling.products[time] / self.filling.products[then]
                    sample = math.sqrt(kept) * sample + math.sqrt(1 - kept) * noise()
                output = self.unet(sample, torch.full((len(scan),), time, device=scan.device))
                inside, deviation, _ = self.filling.posterior(output.to(sample.dtype), time, sample)
                if deviation is not None:
                    inside = inside + deviation * noise()
                sample = torch.where(mask, inside, scan if then is None else noised(scan, then))
        return sample

    def _stages(self, image: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """The first chain's suspicion of scans, and what the second one makes of them, 0..1."""
        whole = self.whole(image)
        cleaned = super()._cleaned(image, seed).clamp(0, 1)
        suspicion = self.suspicion(cleaned, whole)
        generator = torch.Generator().manual_seed(seed)
        filled = self.filled(whole * 2 - 1, cleaned * 2 - 1, self.mask_of(suspicion), generator)
        return suspicion, ((filled + 1) / 2).clamp(0, 1)

    def _cleaned(self, image: Tensor, seed: int) -> Tensor:
        return self._stages(image, seed)[1]

    def anomaly_map(self, image: Tensor) -> Tensor:
        """The residual to the filled scan times the suspicion, mean over draws, perhaps with a median filter."""
        self.require_eager()
        whole = self.whole(image)
        maps: list[Tensor] = []
        for seed in range(self.draws):
            suspicion, filled = self._stages(image, seed)
            maps.append((filled - whole).abs().mean(1, keepdim=True) * suspicion)
        values: Tensor = self.median(torch.stack(maps).mean(0))
        return values.float()
