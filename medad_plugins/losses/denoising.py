"""Terms of the one phase in which a diffusion model learns."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from medad_plugins.losses.latent import latent_distance
from medad_plugins.networks.anomaly_network import AnomalyNetwork

__all__ = ["DenoisingTerms"]


class DenoisingTerms:
    """Term ``denoising``: mean distance of the network's prediction for noised scans from its target.

    Args:
        norm: ``"l2"``, squared differences, or ``"l1"``, absolute ones.
    """

    def __init__(self, norm: str = "l2") -> None:
        if norm not in ("l1", "l2"):
            raise ValueError(f"norm must be 'l1' or 'l2', got {norm!r}.")
        self.norm = norm

    def __call__(self, network: AnomalyNetwork, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Of a network whose ``training_output`` is a pair."""
        predicted, target = network.training_output(batch["image"])
        return {"denoising": latent_distance(predicted, target, self.norm)}
