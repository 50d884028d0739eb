"""Loss terms of SQUID."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from medad_plugins.losses.adversarial import discriminator_loss, generator_loss
from medad_plugins.losses.latent import latent_distance

if TYPE_CHECKING:
    from medad_plugins.methods.squid.network import SQUID

__all__ = ["squid_discriminator_terms", "squid_generator_terms"]


def squid_generator_terms(network: SQUID, batch: dict[str, Any]) -> dict[str, Tensor]:
    """What everything but the discriminator lowers; for a phase of `medad_plugins.engines.PhasedTrainer`.

    The paper's weights are 10 for ``student``, 0.01 for ``teacher``, 0.001 for ``distillation``, 0.005 for ``fooled``.

    Returns:
        ``student`` and ``teacher``: mean squared error of what they rebuild. ``distillation``: that between their maps,
        summed over the levels, both of which learn from it. ``fooled``: cross-entropy of the student's scans being
        taken for real.
    """
    image = batch["image"]
    rebuilt = network.training_output(image)
    levels = [latent_distance(*maps) for maps in zip(rebuilt.student_maps, rebuilt.teacher_maps, strict=True)]
    return {
        "student": latent_distance(rebuilt.student, image),
        "teacher": latent_distance(rebuilt.teacher, image),
        "distillation": torch.stack(levels).sum(),
        "fooled": generator_loss(network.discriminator(rebuilt.student)[0]),
    }


def squid_discriminator_terms(network: SQUID, batch: dict[str, Any]) -> dict[str, Tensor]:
    """Discriminator loss: cross-entropies of ``real`` scans and of those ``generated`` by the student.

    The paper's weights are 0.005 for both.
    """
    image = batch["image"]
    with torch.no_grad():
        generated = network.reconstruct(image)
    real, fake = discriminator_loss(network.discriminator(image)[0], network.discriminator(generated)[0])
    return {"real": real, "generated": fake}
