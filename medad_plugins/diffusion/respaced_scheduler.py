"""The full diffusion's noise levels in a few steps, with more or less noise than the model was taught."""

from __future__ import annotations

import math

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
        steps: how many times are kept, spread evenly from the last to the first.
        variance_factor: of the posterior's variance in every step, one number or one for each sample ``(B,)``; it may
            be set between samplings. 1 gives what the model was taught, more makes samples less normal.
        num_train_timesteps: times of the whole diffusion.
        schedule: of the betas, see MONAI's ``NoiseSchedules``.
        clip_sample: whether what a step takes for the clean image is clipped to -1..1.
        prediction_type: what the model predicts: ``"epsilon"`` (the noise), ``"sample"`` or ``"v_prediction"``.

    Raises:
        InputError: more steps are asked for than there are times.

    References:
        Nichol and Dhariwal, "Improved denoising diffusion probabilistic models", ICML 2021; the factor: Zhang et al.,
        "RealNet", CVPR 2024.
    """

    def __init__(
        self,
        steps: int = 20,
        variance_factor: float | Tensor = 1.0,
        num_train_timesteps: int = 1000,
        schedule: str = "linear_beta",
        clip_sample: bool = True,
        prediction_type: str = DDPMPredictionType.EPSILON,
    ) -> None:
        super().__init__(num_train_timesteps, schedule, clip_sample=clip_sample, prediction_type=prediction_type)
        if not 1 <= steps <= num_train_timesteps:
            raise InputError(
                "the diffusion has no so many steps",
                where="steps",
                expected=f"1 to {num_train_timesteps}",
                found=steps,
            )
        self.variance_factor = variance_factor
        # one minus a ratio of these is a small number: not in single precision
        self.products = torch.cumprod(1 - self.betas.double(), 0).tolist()
        self.set_timesteps(steps)

    def _products(self, timestep: int) -> tuple[float, float]:
        """Cumulative products of the alphas at a kept time and at the next kept one; at the end that is 1."""
        place = int((self.timesteps == timestep).nonzero()[0])
        is_last = place + 1 == len(self.timesteps)
        return self.products[timestep], 1.0 if is_last else self.products[int(self.timesteps[place + 1])]

    def clean_of(self, model_output: Tensor, timestep: int, sample: Tensor) -> Tensor:
        """What the model takes for the clean image, clipped if so asked."""
        now = self.products[timestep]
        if self.prediction_type == DDPMPredictionType.SAMPLE:
            clean = model_output
        elif self.prediction_type == DDPMPredictionType.V_PREDICTION:
            clean = math.sqrt(now) * sample - math.sqrt(1 - now) * model_output
        else:
            clean = (sample - math.sqrt(1 - now) * model_output) / math.sqrt(now)
        return clean.clamp(*self.clip_sample_values) if self.clip_sample else clean

    def step(
        self, model_output: Tensor, timestep: int, sample: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """One step from a kept time to the next: the new sample, and what the model takes for the clean image."""
        now, then = self._products(int(timestep))
        clean = self.clean_of(model_output, int(timestep), sample)
        alpha = now / then
        of_clean, of_sample = math.sqrt(then) * (1 - alpha) / (1 - now), math.sqrt(alpha) * (1 - then) / (1 - now)
        mean = of_clean * clean + of_sample * sample
        if then == 1:
            return mean, clean
        # drawn on the processor, so that a seed gives the same samples on every device
        noise = torch.randn(sample.shape, generator=generator).to(sample)
        factor = torch.as_tensor(self.variance_factor, dtype=sample.dtype, device=sample.device)
        factor = factor.reshape([-1] + [1] * (sample.dim() - 1)) if factor.dim() else factor
        variance = (1 - then) / (1 - now) * (1 - alpha) * factor
        return mean + variance.sqrt() * noise, clean
