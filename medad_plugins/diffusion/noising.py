"""Teaching a network what noise was added to a scan."""

from __future__ import annotations

from typing import Any

import torch
from monai.engines.utils import DiffusionPrepareBatch, default_prepare_batch
from monai.inferers import DiffusionInferer
from monai.networks.schedulers import DDPMScheduler
from torch import Tensor

from medad_plugins.inferers import PrecisionInferer

__all__ = ["NoisingBatch", "NoisingInferer"]


class NoisingBatch(DiffusionPrepareBatch):
    """``prepare_batch`` for MONAI's engines: scans at -1..1, the noise that is to be told, and how much of it.

    All that is drawn comes from the processor's generator, so that it is the same on every device.

    Args:
        num_train_timesteps: times of the diffusion.

    Shape:
        a batch with ``image`` ``(B, C, *spatial)``, 0..1, to the image and the noise of that shape, and the noise and
        the times ``(B,)`` by name, for `NoisingInferer`.
    """

    def __init__(self, num_train_timesteps: int = 1000) -> None:
        super().__init__(num_train_timesteps)

    def __call__(
        self, batchdata: Any, device: str | torch.device | None = None, non_blocking: bool = False, **kwargs: Any
    ) -> tuple[Tensor, Tensor, tuple[()], dict[str, Tensor]]:
        image = default_prepare_batch(batchdata, device, non_blocking, **kwargs)[0]
        image = image.as_tensor() if hasattr(image, "as_tensor") else image
        image = image * 2 - 1
        noise = self.get_noise(torch.empty(image.shape, dtype=image.dtype)).to(image)
        times = self.get_timesteps(torch.empty(len(image))).to(image.device)
        return image, self.get_target(image, noise, times), (), {"noise": noise, "timesteps": times}


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
        self, inputs: Tensor, diffusion_model: Any, noise: Tensor, timesteps: Tensor, **kwargs: Any
    ) -> Tensor:
        noisy: Tensor = self.scheduler.add_noise(inputs, noise, timesteps)
        # the loss is taken in full precision
        prediction: Tensor = self.call(noisy, diffusion_model, timesteps, **kwargs).to(noisy.dtype)
        return prediction
