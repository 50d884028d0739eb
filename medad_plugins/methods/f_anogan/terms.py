"""Terms of f-AnoGAN's phases."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from medad_plugins.losses.adversarial import discriminator_loss, generator_loss
from medad_plugins.losses.gradient_penalty import gradient_penalty
from medad_plugins.losses.latent import feature_matching, latent_distance
from medad_plugins.methods.f_anogan.network import FAnoGAN
from medad_plugins.networks.batch_noise import batch_normal

__all__ = ["FAnoGANEncoderTerms", "f_anogan_critic", "f_anogan_generator"]

MODES = ("ziz", "izi", "izif")


def _latents(network: FAnoGAN, image: Tensor) -> Tensor:
    return batch_normal((len(image), network.latent_size), image)


def f_anogan_critic(network: FAnoGAN, batch: dict[str, Any]) -> dict[str, Tensor]:
    """Terms ``real`` and ``generated``, Wasserstein's ratings with their signs, and ``penalty``, whose weight is 10."""
    scan = batch["image"] * 2 - 1
    with torch.no_grad():
        generated = network.generator(_latents(network, scan))
    ratings = network.critic(scan)[0], network.critic(generated)[0]
    real, fake = discriminator_loss(*ratings, kind="wasserstein")
    penalty = gradient_penalty(lambda points: network.critic(points)[0], scan, generated)
    return {"real": real, "generated": fake, "penalty": penalty}


def f_anogan_generator(network: FAnoGAN, batch: dict[str, Any]) -> dict[str, Tensor]:
    """Term ``adversarial``: what is generated from random latents is to be rated high."""
    generated = network.generator(_latents(network, batch["image"]))
    return {"adversarial": generator_loss(network.critic(generated)[0], "wasserstein")}


class FAnoGANEncoderTerms:
    """Terms of the encoder's stage, with generator and critic frozen and in eval mode; all of them means.

    Args:
        mode: ``"ziz"``, the term ``latent``: random latents found again from what they generate, without any scan;
            ``"izi"``, the term ``image``: the squared residual of scans; ``"izif"``, the paper's choice, with it the
            term ``feature``: the squared difference of the critic's features, whose weight is kappa.
    """

    def __init__(self, mode: str = "izif") -> None:
        if mode not in MODES:
            raise ValueError(f"mode must be one of {MODES}, got {mode!r}.")
        self.mode = mode

    def __call__(self, network: FAnoGAN, batch: dict[str, Any]) -> dict[str, Tensor]:
        if self.mode == "ziz":
            latents = _latents(network, batch["image"])
            return {"latent": latent_distance(network.encoder(network.generator(latents)), latents)}
        scan = batch["image"] * 2 - 1
        again = network.generator(network.encoder(scan))
        terms = {"image": latent_distance(again, scan)}
        if self.mode == "izif":
            terms["feature"] = feature_matching(network.critic(scan)[1], network.critic(again)[1])
        return terms
