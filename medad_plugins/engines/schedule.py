"""Schedules in iterations, as papers give them, and what a batch's target is."""

from __future__ import annotations

from typing import Any

import torch
from monai.engines.utils import default_prepare_batch
from torch import Tensor

from medad_plugins.plain_tensor import plain_tensor

__all__ = ["epoch_length", "image_as_target"]


def epoch_length(max_iterations: int, longest: int = 50) -> int:
    """Iterations of one engine epoch: the largest divisor of ``max_iterations`` up to ``longest``.

    Checkpoints are taken between epochs, so ``max_iterations // epoch_length`` epochs are exactly the schedule.

    Raises:
        ValueError: if ``max_iterations`` is not positive.
    """
    if max_iterations < 1:
        raise ValueError(f"max_iterations must be at least 1, got {max_iterations}.")
    return next(length for length in range(min(longest, max_iterations), 0, -1) if max_iterations % length == 0)


def image_as_target(
    batchdata: Any, device: str | torch.device | None = None, non_blocking: bool = False, **kwargs: Any
) -> tuple[Tensor, Tensor]:
    """Batch of an autoencoder for MONAI's engines: the scan ``(B, C, *spatial)`` is input and target."""
    image = plain_tensor(default_prepare_batch(batchdata, device, non_blocking, **kwargs)[0])
    return image, image
