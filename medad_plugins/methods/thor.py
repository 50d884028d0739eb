"""THOR: a partial diffusion that is brought back to the scan on its way, wherever nothing suspicious is seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from medad_plugins.diffusion import PartialDiffusion
from medad_plugins.errors import InputError
from medad_plugins.networks.blocks.perceptual import make_saliency
from medad_plugins.scorers import GaussianSmoothing, closed, dilated

__all__ = ["THOR"]

# below every value that means something: a harmonic mean wants no zero
_LEAST = 1e-8


class THOR(PartialDiffusion):
    """THOR: temporal harmonisation, and the harmonic mean of what is seen on the way.

    At some times of the chain back, what the network takes for the scan is compared with it, in intensity and in looks.
    Where nothing is suspicious the scan itself takes its place, and all is noised again to go on: so healthy anatomy
    does not drift away. The map is the harmonic mean of what was seen: a place is abnormal if it was so at every look.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        harmonised: at which times of the chain the scan is brought in, as shares of ``level``.
        looks: how many times are looked at for the map, evenly over the chain, besides these.
        region: edge of the window in which a suspicion spreads before the scan is brought in, in pixels, odd.
        saliency: how looks are compared, ``"ssim"`` or ``"perceptual"``, see `make_saliency`.
        backbone, weights: of ``"perceptual"``.
        settings: see `PartialDiffusion`; ``boxes`` and ``residual`` mean nothing here.

    Raises:
        InputError: as `PartialDiffusion`, or the chain is too short for its looks.
        ValueError: a share is beyond 0 to 1, or the window is even.

    Reference:
        Bercea et al., "Diffusion models with implicit guidance for medical anomaly detection", MICCAI 2024.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        harmonised: Sequence[float] = (0.86, 0.43, 0.14),
        looks: int = 8,
        region: int = 13,
        saliency: str = "ssim",
        backbone: str = "resnet18",
        weights: str = "none",
        **settings: Any,
    ) -> None:
        super().__init__(spatial_dims, in_channels, **settings)
        if region < 1 or region % 2 == 0 or not all(0 < share <= 1 for share in harmonised):
            raise ValueError(f"region must be odd and harmonised in 0 to 1, got {region} and {list(harmonised)}.")
        times = self.scheduler.timesteps.tolist()
        if not 1 <= looks <= len(times):
            expected = f"1 to {len(times)}, the steps"
            raise InputError("the chain is too short for its looks", where="looks", expected=expected, found=looks)
        # the last step leads to the scan, after which there is nothing to go on with
        self.harmonised = {
            min(range(len(times)), key=lambda place: abs(times[place] - share * self.level)) for share in harmonised
        } - {len(times) - 1}
        even = torch.linspace(len(times) - 1, 0, looks).round().long().tolist()
        self.looked_at: set[int] = {*even, *self.harmonised}
        self.region = region
        self.saliency = make_saliency(saliency, spatial_dims, in_channels, backbone, weights)
        self.smoothing = GaussianSmoothing(spatial_dims, 2.0)

    def suspicion(self, answer: Tensor, whole: Tensor) -> Tensor:
        """How different answers are from given scans ``(B, C, *spatial)`` in intensity and looks, 0..1."""
        looks = self.smoothing(self.saliency(answer, whole)).clamp(0, 1)
        return looks * (answer - whole).abs().mean(1, keepdim=True)

    def region_of(self, suspicion: Tensor) -> Tensor:
        """How much of an answer is kept at each place, 0..1, from each case's own highest suspicion."""
        unit = suspicion / suspicion.flatten(1).amax(1).clamp_min(_LEAST).reshape([-1] + [1] * (suspicion.dim() - 1))
        return (dilated(closed(unit, self.region), self.region) + unit) / 2

    def _chain(self, image: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """What is left of scans at the end of the chain, 0..1, and the harmonic mean of what was seen on the way."""
        whole = self.whole(image)
        generator = torch.Generator().manual_seed(seed)
        shape = [1, *whole.shape[1:]]

        def noise() -> Tensor:
            # of no case, so that a map does not depend on a place in the batch
            return self.draw_noise(shape, generator).to(whole)

        first = noise().expand_as(whole)
        times: list[int] = self.scheduler.timesteps.tolist()
        start = torch.full((len(whole),), times[0], device=whole.device)
        sample: Tensor = self.scheduler.add_noise(whole * 2 - 1, first, start)
        seen: list[Tensor] = []
        for place, time in enumerate(times):
            output = self.unet(sample, torch.full_like(start, time))
            sample, deviation, clean = self.scheduler.posterior(output.to(sample.dtype), time, sample)
            if deviation is not None:
                sample = sample + deviation * noise()
            if place not in self.looked_at:
                continue
            answer = ((clean + 1) / 2).clamp(0, 1)
            seen.append(self.suspicion(answer, whole))
            if place in self.harmonised:
                kept = self.region_of(seen[-1])
                mixed = kept * answer + (1 - kept) * whole
                sample = self.scheduler.add_noise(mixed * 2 - 1, first, torch.full_like(start, times[place + 1]))
        together = 1 / torch.stack(seen).clamp_min(_LEAST).reciprocal().mean(0)
        return (sample + 1) / 2, together

    def _cleaned(self, image: Tensor, seed: int) -> Tensor:
        return self._chain(image, seed)[0]

    def anomaly_map(self, image: Tensor) -> Tensor:
        """The harmonic mean of what was seen, mean over draws, perhaps with a median filter."""
        self.require_eager()
        maps = [self._chain(image, seed)[1] for seed in range(self.draws)]
        values: Tensor = self.median(torch.stack(maps).mean(0))
        return values.float()
