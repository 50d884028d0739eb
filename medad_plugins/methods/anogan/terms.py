"""Terms of AnoGAN's phases."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from medad_plugins.losses.adversarial import discriminator_loss, generator_loss
from medad_plugins.methods.anogan.network import AnoGAN
from medad_plugins.networks.batch_noise import batch_uniform

__all__ = ["anogan_discriminator", "anogan_generator"]


def _made(network: AnoGAN, image: Tensor) -> Tensor:
    """Scans of -1..1 made of latents from the prior, as many as are given."""
    made: Tensor = network.generator(2 * batch_uniform((len(image), network.latent_size), image) - 1)
    return made


def anogan_discriminator(network: AnoGAN, batch: dict[str, Any]) -> dict[str, Tensor]:
    """Terms ``real`` and ``made``: cross-entropy of scans, which are to be taken for real, and of made ones, not."""
    scan = batch["image"] * 2 - 1
    with torch.no_grad():
        made = _made(network, scan)
    real, fake = discriminator_loss(network.discriminator(scan)[0], network.discriminator(made)[0])
    return {"real": real, "made": fake}


def anogan_generator(network: AnoGAN, batch: dict[str, Any]) -> dict[str, Tensor]:
    """Term ``adversarial``: what is made of new latents is to be taken for real."""
    return {"adversarial": generator_loss(network.discriminator(_made(network, batch["image"]))[0])}
