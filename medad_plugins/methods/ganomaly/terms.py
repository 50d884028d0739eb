"""Terms of GANomaly's training."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from medad_plugins.losses.adversarial import discriminator_loss
from medad_plugins.losses.latent import feature_matching, latent_distance
from medad_plugins.methods.ganomaly.network import GANomaly

__all__ = ["ganomaly_terms"]


def ganomaly_terms(network: GANomaly, batch: dict[str, Any]) -> dict[str, Tensor]:
    """What encoders and decoder lower, and what the discriminator lowers, of one pass of the scans.

    Of the former: ``adversarial``, the mean squared distance of the discriminator's features and not its verdict,
    ``context``, the mean absolute residual, and ``encoding``, the mean squared distance of the two codes, from which
    the decoder learns too. Of the latter: ``real`` and ``generated``, cross-entropies of its verdicts.

    Each optimiser must take the gradients of its own terms alone, as a `Phase` with terms by optimiser does: then
    nothing of one's loss reaches the other, and reconstructions need not be detached.
    """
    scan = batch["image"] * 2 - 1
    again, code, second = network.rebuild(scan)
    real_logit, real_features = network.discriminator(scan)
    generated_logit, generated_features = network.discriminator(again)
    real, generated = discriminator_loss(real_logit, generated_logit)
    return {
        "adversarial": feature_matching(real_features, generated_features),
        "context": latent_distance(again, scan, "l1"),
        "encoding": latent_distance(second, code),
        "real": real,
        "generated": generated,
    }
