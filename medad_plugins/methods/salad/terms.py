"""Terms of the method after SALAD."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from medad_plugins.losses.full_precision import full_precision
from medad_plugins.losses.gaussian_ssim import gaussian_ssim
from medad_plugins.losses.latent import latent_distance
from medad_plugins.methods.salad.network import SALAD

__all__ = ["SALADTerms"]


class SALADTerms:
    """What encoder and decoder lower, of scans joined with damaged copies, see `SALAD.training_output`.

    Args:
        latents: whether those are compared, too. Before images are learnt their terms are met by coding all scans
            alike.

    Returns of a call:
        ``structure``, one minus the structural similarity of scans and what was restored of their copies, on 0..1;
        ``residual``, the mean absolute difference of the two. With latents also ``cycle``, the mean squared difference
        of a scan's latent and that of its reconstruction; ``centre``, that of latents and the network's centre; and
        ``spread``, the mean variance of the latents over the batch, which is to be looked at and is not lowered: near 0
        all scans have become one.
    """

    def __init__(self, latents: bool = True) -> None:
        self.latents = latents

    def __call__(self, network: SALAD, batch: dict[str, Any]) -> dict[str, Tensor]:
        joined = batch["image"]
        scan, damaged = joined.chunk(2, 1)
        if not self.latents:
            return self.image_terms(network.reconstruct(damaged), scan)
        restored, latent, second = network.training_output(joined)
        return {
            **self.image_terms(restored, scan),
            "cycle": latent_distance(second, latent),
            "centre": latent_distance(latent, network.centre.expand_as(latent)),
            "spread": full_precision(latent.detach()).var(0, correction=0).mean(),
        }

    @staticmethod
    def image_terms(restored: Tensor, scan: Tensor) -> dict[str, Tensor]:
        """``structure`` and ``residual``."""
        restored, scan = full_precision(restored), full_precision(scan)
        # variances as differences of squares are nothing in half precision
        with torch.autocast(scan.device.type, enabled=False):
            similarity = gaussian_ssim(restored, scan).mean()
        return {"structure": 1 - similarity, "residual": latent_distance(restored, scan, "l1")}
