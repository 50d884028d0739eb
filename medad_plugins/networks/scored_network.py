"""A network that also gives its score and p-value, for exports that must decide without this package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from medad_plugins.networks.anomaly_network import AnomalyNetwork

__all__ = ["ScoredNetwork"]


class ScoredNetwork(nn.Module):
    """A calibrated network with three outputs: anomaly map, anomaly score, conformal p-value.

    An exported network alone gives the map, and whoever reads it would have to know how its map becomes a score.

    Args:
        network: calibrated.

    Shape:
        ``(B, C, *spatial)`` to map ``(B, 1, *spatial)`` and scores ``(B,)``, float32, and p-values ``(B,)``, float64.

    Example:
        >>> from medad_plugins.networks import AnomalyNetwork
        >>> class Brightness(AnomalyNetwork):
        ...     def anomaly_map(self, image):
        ...         return image
        >>> network = Brightness(reduction="mean").eval()
        >>> network.calibration.fit(scores=torch.arange(19.0), pixels=torch.rand(10))
        >>> _, score, p_value = ScoredNetwork(network)(torch.full((1, 1, 4, 4), 18.5))
        >>> score, p_value
        (tensor([18.5000]), tensor([0.0500], dtype=torch.float64))
    """

    def __init__(self, network: AnomalyNetwork) -> None:
        super().__init__()
        self.network = network

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load a network's own state: MONAI's export commands read the model file into what they export."""
        return self.network.load_state_dict(state_dict, strict, assign)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        anomaly_map = self.network(image).float()
        score = self.network.pool(anomaly_map)
        reference = self.network.calibration.reference_scores
        # float64, for 1 / 20 as float32 is more than an alpha of 0.05
        not_lower = (reference[None] >= score[:, None]).to(torch.float64).sum(1)
        return anomaly_map, score, (1 + not_lower) / (reference.shape[0] + 1)
