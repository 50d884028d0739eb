"""Loss terms of PatchCL-AE."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from medad_plugins.losses.adversarial import discriminator_loss, generator_loss
from medad_plugins.losses.contrastive import info_nce

if TYPE_CHECKING:
    from medad_plugins.methods.patchcl_ae.network import PatchCLAE

__all__ = ["PatchCLAETerms"]


class PatchCLAETerms:
    """Both sides of PatchCL-AE's game; its methods are losses of phases of `medad_plugins.engines.PhasedTrainer`.

    Args:
        noise: standard deviation of the noise on scans from -1 to 1.
        places: that are drawn of each depth's map, the same of scan and reconstruction; all where it has fewer.
        temperature: see `info_nce`.
        adversarial: see `generator_loss`; the paper's is ``"saturating"``.

    The contrastive loss is a mean over the places where the paper sums: beside it, the paper's weight of 1 for the
    discriminator is one over the number of places.
    """

    def __init__(
        self, noise: float = 0.05, places: int = 256, temperature: float = 0.07, adversarial: str = "bce"
    ) -> None:
        if noise < 0 or places < 2 or temperature <= 0:
            given = f"noise {noise}, places {places}, temperature {temperature}"
            raise ValueError(f"noise must not be negative, places at least 2, temperature positive; got {given}.")
        self.noise, self.places, self.temperature, self.adversarial = noise, places, temperature, adversarial

    def generator(self, network: PatchCLAE, batch: dict[str, Any]) -> dict[str, Tensor]:
        """What encoder, decoder and projections lower.

        Returns:
            ``patch``: the contrastive loss of the places, summed over the depths. ``fooled``: that of the
            discriminator taking the reconstruction for a scan.
        """
        scan = batch["image"] * 2 - 1
        rebuilt = network.rebuild_noisy(scan, self.noise)
        places = self.draw(network.grids(list(scan.shape[2:])), scan.device)
        pairs = zip(network.at_places(rebuilt, places), network.at_places(scan, places), strict=True)
        depths = [info_nce(query, key, self.temperature) for query, key in pairs]
        return {
            "patch": torch.stack(depths).sum(),
            "fooled": generator_loss(network.discriminator(rebuilt), self.adversarial),
        }

    def discriminator(self, network: PatchCLAE, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Discriminator loss: terms of ``real`` and of ``generated`` scans."""
        scan = batch["image"] * 2 - 1
        with torch.no_grad():
            generated = network.rebuild_noisy(scan, self.noise)
        logits = network.discriminator(scan), network.discriminator(generated)
        real, fake = discriminator_loss(*logits, self.adversarial)
        return {"real": real, "generated": fake}

    def draw(self, grids: list[list[int]], device: torch.device) -> list[Tensor]:
        """Places without repetition for each of the grids; by the processor's generator, alike on all processes."""
        return [torch.randperm(math.prod(grid))[: self.places].to(device) for grid in grids]
