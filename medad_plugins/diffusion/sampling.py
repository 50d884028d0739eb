"""Samples of a trained diffusion model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medad_plugins.diffusion.respaced_scheduler import RespacedDDPMScheduler

__all__ = ["draw_samples"]


@torch.no_grad()
def draw_samples(
    network: nn.Module,
    scheduler: RespacedDDPMScheduler,
    shape: Sequence[int],
    generator: torch.Generator,
    call: Callable[..., Any] | None = None,
    device: str | torch.device = "cpu",
) -> Tensor:
    """Draw images from noise, step by step.

    Args:
        network: takes noisy images and times ``(B,)`` and gives what the scheduler takes for its prediction.
        scheduler: of the steps.
        shape: ``(B, C, *spatial)``.
        generator: on the processor, so that a seed gives the same samples on every device.
        call: calls the network, e.g. a `medad_plugins.inferers.PrecisionInferer`; None calls it plainly.
        device: where the network is.

    Returns:
        ``(B, C, *spatial)``, intensities 0..1.
    """
    was_training = network.training
    network.eval()
    sample = torch.randn(*shape, generator=generator).to(device)
    for time in scheduler.timesteps.tolist():
        times = torch.full((len(sample),), time, device=sample.device)
        output = network(sample, times) if call is None else call(sample, network, times)
        sample, _ = scheduler.step(output.to(sample.dtype), time, sample, generator)
    network.train(was_training)
    return (sample.clamp(-1, 1) + 1) / 2
