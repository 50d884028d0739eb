"""Loss terms after PMSACL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from medad_plugins.losses.contrastive import supervised_contrast
from medad_plugins.losses.full_precision import full_precision
from medad_plugins.losses.rank_gather import of_all_ranks

if TYPE_CHECKING:
    from medad_plugins.methods.pmsacl.network import PMSACL

__all__ = ["PMSACLTerms"]


class PMSACLTerms:
    """Terms of a phase of `medad_plugins.engines.PhasedTrainer`; its target are classes, 0 for normal scans.

    Args:
        temperature: of normal scans, see `supervised_contrast`.
        pseudo_temperature: of scans with synthetic anomalies; a higher one lets them lie more loosely.
    """

    def __init__(self, temperature: float = 0.2, pseudo_temperature: float = 0.5) -> None:
        if temperature <= 0 or pseudo_temperature <= 0:
            raise ValueError(f"temperatures must be positive, got {temperature} and {pseudo_temperature}.")
        self.temperature, self.pseudo_temperature = temperature, pseudo_temperature

    def __call__(self, network: PMSACL, batch: dict[str, Any]) -> dict[str, Tensor]:
        """What the network lowers.

        Returns:
            ``contrast``: each scan is to find those of its class, its other view among them. ``centre``: squared
            distances from the centres of the classes, which follow slowly. ``classes``: cross-entropy of the number of
            patches.
        """
        output = network.training_output(batch["image"])
        vectors, classes = of_all_ranks(full_precision(output.vectors)), of_all_ranks(batch["target"])
        network.to_follow = vectors.detach(), classes
        ones = torch.ones_like(classes, dtype=vectors.dtype)
        temperatures = torch.where(classes == 0, self.temperature * ones, self.pseudo_temperature * ones)
        return {
            "contrast": supervised_contrast(vectors, classes, temperatures),
            "centre": network.centres.spread(vectors, classes),
            "classes": functional.cross_entropy(full_precision(output.logits), batch["target"]),
        }
