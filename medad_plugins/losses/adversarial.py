"""Losses of a discriminator and of its generator, in pairs."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from medad_plugins.losses.full_precision import full_precision

__all__ = ["ADVERSARIAL_LOSSES", "discriminator_loss", "generator_loss"]

ADVERSARIAL_LOSSES = ("bce", "saturating", "lsgan", "hinge", "wasserstein")


def _require_known(kind: str) -> None:
    if kind not in ADVERSARIAL_LOSSES:
        raise ValueError(f"the adversarial loss must be one of {ADVERSARIAL_LOSSES}, got {kind!r}.")


def discriminator_loss(real: Tensor, fake: Tensor, kind: str = "bce") -> tuple[Tensor, Tensor]:
    """What a discriminator minimises: the terms of real and of generated cases, means over the logits.

    Args:
        real, fake: logits without a sigmoid, of any shape; a discriminator rates real ones high. Generated cases come
            detached from their generator.
        kind: ``"bce"`` and ``"saturating"`` (cross-entropy), ``"lsgan"`` (squared distance from 1 and 0), ``"hinge"``
            (margins of 1) or ``"wasserstein"`` (their difference; with a gradient penalty).

    Returns:
        two scalars to be added up; halve both where the paper does.
    """
    _require_known(kind)
    real, fake = full_precision(real), full_precision(fake)
    if kind in ("bce", "saturating"):
        return functional.softplus(-real).mean(), functional.softplus(fake).mean()
    if kind == "lsgan":
        return (real - 1).square().mean(), fake.square().mean()
    if kind == "hinge":
        return functional.relu(1 - real).mean(), functional.relu(1 + fake).mean()
    return -real.mean(), fake.mean()


def generator_loss(fake: Tensor, kind: str = "bce") -> Tensor:
    """What a generator minimises, so that a discriminator rates its cases high.

    ``"bce"`` is the non-saturating form, ``-log D``; ``"saturating"`` is ``log(1 - D)`` as the first GANs' minimax game
    has it, whose gradient ends where the discriminator has won.

    Args:
        fake: logits of generated cases, with their gradient.
        kind: as in `discriminator_loss`.
    """
    _require_known(kind)
    fake = full_precision(fake)
    if kind == "bce":
        return functional.softplus(-fake).mean()
    if kind == "saturating":
        return -functional.softplus(fake).mean()
    if kind == "lsgan":
        return (fake - 1).square().mean()
    return -fake.mean()
