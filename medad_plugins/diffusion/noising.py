"""Training a network to predict the noise that was added to a scan."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from monai.engines.utils import DiffusionPrepareBatch, default_prepare_batch
from monai.inferers import DiffusionInferer
from monai.networks.schedulers import DDPMScheduler
from monai.networks.schedulers.ddpm import DDPMPredictionType
from torch import Tensor

from medad_plugins.diffusion.box_grid import box_grid
from medad_plugins.diffusion.noise_kinds import NOISES, draw_noise
from medad_plugins.inferers import PrecisionInferer
from medad_plugins.networks.batch_noise import batch_drawn
from medad_plugins.plain_tensor import plain_tensor

__all__ = ["PREDICTIONS", "NoisingBatch", "NoisingInferer"]

PREDICTIONS = (DDPMPredictionType.EPSILON.value, DDPMPredictionType.SAMPLE.value)


class NoisingBatch(DiffusionPrepareBatch):
    """``prepare_batch`` for MONAI's engines: scans at -1..1, the target, and how much noise they get.

    All that is drawn comes from the processor's generator, so that it is the same on every device.

    Args:
        num_train_timesteps: times of the diffusion, or how many of its first ones are trained.
        noise: its kind, see `draw_noise`.
        predicts: the target, ``"epsilon"``, the noise, or ``"sample"``, the scan without it.
        boxes: with 2 or more, only one box of a grid of so many along every axis is to get noise, drawn for each case.
        period: of simplex noise, see `draw_noise`.
        settings: further arguments of the noise, see `draw_noise`.

    Shape:
        a batch with ``image`` ``(B, C, *spatial)``, 0..1, to the image and the target of that shape, and the noise, the
        times ``(B,)`` and, where only a box is noised, which pixels are ``(B, 1, *spatial)``, by name, for
        `NoisingInferer`.
    """

    def __init__(
        self,
        num_train_timesteps: int = 1000,
        noise: str = "gaussian",
        predicts: str = "epsilon",
        boxes: int = 1,
        period: float = 64.0,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(num_train_timesteps)
        if noise not in NOISES or predicts not in PREDICTIONS:
            raise ValueError(
                f"noise must be one of {NOISES} and predicts one of {PREDICTIONS}, got {noise!r}, {predicts!r}."
            )
        self.predicts, self.boxes = predicts, boxes
        self.draw: Callable[..., Tensor] = partial(draw_noise, noise, period=period, **(settings or {}))

    def get_noise(self, images: Tensor) -> Tensor:
        """Noise for every case."""
        return batch_drawn(self.draw, images.shape, images)

    def get_timesteps(self, images: Tensor) -> Tensor:
        """A time for every case, each equally likely."""
        like = torch.empty(0, dtype=torch.long, device=images.device)
        return batch_drawn(partial(torch.randint, 0, self.num_train_timesteps), [len(images)], like)

    def get_target(self, images: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """The target of the network."""
        return noise if self.predicts == DDPMPredictionType.EPSILON else images

    def get_noised(self, images: Tensor) -> Tensor:
        """Which pixels get noise, ``(B, 1, *spatial)``, booleans: one box of the grid in every case."""
        grid = box_grid(images.shape[2:], self.boxes).to(images.device)
        like = torch.empty(0, dtype=torch.long, device=images.device)
        return grid[batch_drawn(partial(torch.randint, 0, len(grid)), [len(images)], like)][:, None]

    def __call__(
        self, batchdata: Any, device: str | torch.device | None = None, non_blocking: bool = False, **kwargs: Any
    ) -> tuple[Tensor, Tensor, tuple[()], dict[str, Tensor]]:
        image = plain_tensor(default_prepare_batch(batchdata, device, non_blocking, **kwargs)[0])
        image = image * 2 - 1
        drawn = {"noise": self.get_noise(image), "timesteps": self.get_timesteps(image)}
        if self.boxes > 1:
            drawn["noised"] = self.get_noised(image)
        return image, self.get_target(image, drawn["noise"], drawn["timesteps"]), (), drawn


class NoisingInferer(DiffusionInferer):
    """Adds noise and calls the network with the time, in a chosen precision.

    Args:
        scheduler: knows how much noise belongs to a time.
        precision: see `medad_plugins.inferers.PrecisionInferer`.
    """

    def __init__(self, scheduler: DDPMScheduler, precision: str = "float32") -> None:
        super().__init__(scheduler)
        self.call = PrecisionInferer(precision)

    def __call__(  # type: ignore[override]
        self,
        inputs: Tensor,
        diffusion_model: Any,
        noise: Tensor,
        timesteps: Tensor,
        noised: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        noisy: Tensor = self.scheduler.add_noise(inputs, noise, timesteps)
        if noised is not None:
            noisy = torch.where(noised, noisy, inputs)
        # the loss is taken in full precision
        prediction: Tensor = self.call(noisy, diffusion_model, timesteps, **kwargs).to(noisy.dtype)
        if noised is None:
            return prediction
        # where there is no noise, nothing is to be learnt: there the answer is given
        is_noise = self.scheduler.prediction_type == DDPMPredictionType.EPSILON
        return torch.where(noised, prediction, noise if is_noise else inputs)
