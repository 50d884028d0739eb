"""Terms of AnoGAN's phases."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from medad_plugins.losses.adversarial import discriminator_loss, generator_loss
from medad_plugins.methods.anogan.network import AnoGAN
from medad_plugins.networks.batch_noise import batch_uniform

__all__ = ["anogan_discriminator", "anogan_generator"]


def _generated(network: AnoGAN, image: Tensor) -> Tensor:
    """Scans of -1..1 generated from latents of the prior, as many as are given."""
    generated: Tensor = network.generator(2 * batch_uniform((len(image), network.latent_size), image) - 1)
    return generated


def anogan_discriminator(network: AnoGAN, batch: dict[str, Any]) -> dict[str, Tensor]:
    """Terms ``real`` and ``generated``: cross-entropy of real scans, labelled 1, and of generated ones, labelled 0."""
    scan = batch["image"] * 2 - 1
    with torch.no_grad():
        generated = _generated(network, scan)
    real, fake = discriminator_loss(network.discriminator(scan)[0], network.discriminator(generated)[0])
    return {"real": real, "generated": fake}


def anogan_generator(network: AnoGAN, batch: dict[str, Any]) -> dict[str, Tensor]:
    """Term ``adversarial``: what is generated from new latents is to be taken for real."""
    return {"adversarial": generator_loss(network.discriminator(_generated(network, batch["image"]))[0])}
