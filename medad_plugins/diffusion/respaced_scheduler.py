"""The full diffusion's noise levels in a few steps, with more or less noise than the model was trained with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy

import torch
from monai.networks.schedulers.ddpm import DDPMPredictionType, DDPMScheduler
from torch import Tensor

from medad_plugins.errors import InputError

__all__ = ["RespacedDDPMScheduler"]


class RespacedDDPMScheduler(DDPMScheduler):
    """MONAI's scheduler, but its steps lead from each kept time to the next kept one, however far that is.

    MONAI's own steps always lead to the time before. Of a step from time t to time r, ``1 - a_t / a_r`` takes the place
    of beta, where a is the cumulative product of the alphas; with all times kept, both are the same.

    Args:
        steps: how many times are kept, spread evenly from the last to the first; of one step the result is what the
            model takes for the clean image.
        variance_factor: of the posterior's variance in every step, one number or one for each sample ``(B,)``; it may
            be set between samplings. 1 gives what the model was trained with, more makes samples less normal.
        num_train_timesteps: times of the whole diffusion.
        schedule: of the betas, see MONAI's ``NoiseSchedules``.
        clip_sample: whether what a step takes for the clean image is clipped to -1..1.
        prediction_type: what the model predicts: ``"epsilon"`` (the noise), ``"sample"`` or ``"v_prediction"``.
        level: how many of the diffusion's times are gone back, from time ``level - 1``; None goes back all.
        eta: how much of the posterior's noise a step adds: 1 for that of the diffusion, 0 for none, which is the
            deterministic sampler of implicit models.

    Raises:
        InputError: there are not so many times, or there are more steps than times.

    References:
        Nichol and Dhariwal, "Improved denoising diffusion probabilistic models", ICML 2021; ``eta``: Song et al.,
        "Denoising diffusion implicit models", ICLR 2021; the factor: Zhang et al., "RealNet", CVPR 2024.
    """

    def __init__(
        self,
        steps: int = 20,
        variance_factor: float | Tensor = 1.0,
        num_train_timesteps: int = 1000,
        schedule: str = "linear_beta",
        clip_sample: bool = True,
        prediction_type: str = DDPMPredictionType.EPSILON,
        level: int | None = None,
        eta: float = 1.0,
    ) -> None:
        super().__init__(num_train_timesteps, schedule, clip_sample=clip_sample, prediction_type=prediction_type)
        if not 0 <= eta <= 1:
            raise InputError("the share of the noise is not understood", where="eta", expected="0 to 1", found=eta)
        self.variance_factor, self.eta = variance_factor, eta
        # one minus a ratio of these is a small number: not in single precision
        self.products = torch.cumprod(1 - self.betas.double(), 0).tolist()
        self._take(num_train_timesteps if level is None else level, steps, ("level", "steps"))

    def _take(self, level: int, steps: int, names: Sequence[str]) -> None:
        for name, value, most in zip(names, (level, steps), (self.num_train_timesteps, level)):
            if not 1 <= value <= most:
                what = "that number of steps is out of range"
                raise InputError(what, where=name, expected=f"1 to {most}", found=value)
        self.level = level
        self.set_timesteps(steps)

    def at_level(self, level: int, steps: int, names: Sequence[str] = ("level", "steps")) -> RespacedDDPMScheduler:
        """The same diffusion gone back from another time in other steps; names are those of the keys, for errors."""
        other = deepcopy(self)
        other._take(level, steps, names)
        return other

    def set_timesteps(self, num_inference_steps: int, device: str | torch.device | None = None) -> None:
        """Keep so many times, from ``level - 1`` to 0."""
        super().set_timesteps(num_inference_steps, device)
        self.timesteps = torch.linspace(self.level - 1, 0, num_inference_steps, device=device).round().long()

    def _products(self, timestep: int) -> tuple[float, float]:
        """Cumulative products of the alphas at a kept time and at the next kept one; at the end that is 1."""
        place = int((self.timesteps == timestep).nonzero()[0])
        is_last = place + 1 == len(self.timesteps)
        return self.products[timestep], 1.0 if is_last else self.products[int(self.timesteps[place + 1])]

    def clean_of(self, model_output: Tensor, timestep: int, sample: Tensor) -> Tensor:
        """The model's estimate of the clean image, clipped if set so."""
        now = self.products[timestep]
        if self.prediction_type == DDPMPredictionType.SAMPLE:
            clean = model_output
        elif self.prediction_type == DDPMPredictionType.V_PREDICTION:
            clean = math.sqrt(now) * sample - math.sqrt(1 - now) * model_output
        else:
            clean = (sample - math.sqrt(1 - now) * model_output) / math.sqrt(now)
        return clean.clamp(*self.clip_sample_values) if self.clip_sample else clean

    def posterior(self, model_output: Tensor, timestep: int, sample: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        """Where a step from a kept time leads.

        Returns:
            mean of the next sample, its standard deviation that fits the samples' form (None where there is none), and
            what the model takes for the clean image.
        """
        now, then = self._products(int(timestep))
        clean = self.clean_of(model_output, int(timestep), sample)
        if then == 1:
            return clean, None, clean
        variance = self.eta**2 * (1 - then) / (1 - now) * (1 - now / then)
        # what is left of the noise keeps its direction
        direction = (sample - math.sqrt(now) * clean) / math.sqrt(1 - now)
        mean = math.sqrt(then) * clean + math.sqrt(1 - then - variance) * direction
        if variance == 0:
            return mean, None, clean
        factor = torch.as_tensor(self.variance_factor, dtype=sample.dtype, device=sample.device)
        factor = factor.reshape([-1] + [1] * (sample.dim() - 1)) if factor.dim() else factor
        return mean, (variance * factor).sqrt(), clean

    def step(
        self, model_output: Tensor, timestep: int, sample: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """One step from a kept time to the next: the new sample, and what the model takes for the clean image."""
        mean, deviation, clean = self.posterior(model_output, timestep, sample)
        if deviation is None:
            return mean, clean
        # drawn on the processor, so that a seed gives the same samples on every device
        return mean + deviation * torch.randn(sample.shape, generator=generator).to(sample), clean
