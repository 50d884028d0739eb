"""Terms of the adversarial autoencoder, with and without the constraint on its latents."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from medad_plugins.losses.adversarial import ADVERSARIAL_LOSSES, discriminator_loss, generator_loss
from medad_plugins.losses.full_precision import full_precision
from medad_plugins.losses.gradient_penalty import gradient_penalty
from medad_plugins.losses.latent import latent_distance
from medad_plugins.methods.aae.network import AAE

__all__ = ["AAETerms"]


class AAETerms:
    """The losses of the three phases; each method is one of a `medad_plugins.engines.Phase`.

    The critic rates draws from the prior high and latents of scans low; Chen and Konukoglu's code has both signs the
    other way round, which is the same game.

    Args:
        adversarial: see `discriminator_loss`; ``"wasserstein"`` comes with a gradient penalty.
        constrained: whether latents of scans and of their reconstructions are to agree.
        errors: ``"sums"``, the residual's L2 norm of each scan and the summed squared difference of the latents, as
            Chen and Konukoglu have them, or ``"means"`` of squares, as Makhzani et al. and MedIAnomaly have them.
    """

    def __init__(self, adversarial: str = "wasserstein", constrained: bool = True, errors: str = "sums") -> None:
        if adversarial not in ADVERSARIAL_LOSSES:
            raise ValueError(f"adversarial must be one of {ADVERSARIAL_LOSSES}, got {adversarial!r}.")
        if errors not in ("sums", "means"):
            raise ValueError(f"errors must be 'sums' or 'means', got {errors!r}.")
        self.adversarial, self.constrained, self.sums = adversarial, constrained, errors == "sums"

    def reconstruction(self, network: AAE, batch: dict[str, Any]) -> dict[str, Tensor]:
        """What encoder and decoder lower.

        Returns:
            ``residual``, on -1..1, and where it is constrained ``consistency``, the distance of the latents of scans
            and reconstructions, which both codings and the decoder learn from.
        """
        image = batch["image"]
        again, latent = network.training_output(image)
        squares = (2 * full_precision(again - image)).square()
        # the small number keeps the root's gradient finite
        residual = (squares.flatten(1).sum(1) + 1e-8).sqrt().mean() if self.sums else squares.mean()
        if not self.constrained:
            return {"residual": residual}
        reduction = "sum" if self.sums else "mean"
        return {
            "residual": residual,
            "consistency": latent_distance(network.code_again(again), latent, reduction=reduction),
        }

    def discriminator(self, network: AAE, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Critic loss: ``real`` for the prior, ``generated`` for latents of scans, ``penalty`` with Wasserstein."""
        with torch.no_grad():
            generated = full_precision(network.encode(batch["image"]))
        real = network.prior(generated)
        terms = dict(
            zip(
                ("real", "generated"),
                discriminator_loss(network.critic(real), network.critic(generated), self.adversarial),
                strict=True,
            )
        )
        if self.adversarial == "wasserstein":
            terms["penalty"] = gradient_penalty(network.critic, real, generated)
        return terms

    def regularisation(self, network: AAE, batch: dict[str, Any]) -> dict[str, Tensor]:
        """What the encoder lowers: ``fooled``, that the critic takes its latents for draws from the prior."""
        logits = network.critic(network.encode(batch["image"]))
        return {"fooled": generator_loss(logits, self.adversarial)}
