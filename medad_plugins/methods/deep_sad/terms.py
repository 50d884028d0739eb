"""Terms of Deep SAD's second stage."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from medad_plugins.networks.families.one_centre import OneCentre

__all__ = ["DeepSADTerms"]


class DeepSADTerms:
    """Brings normal scans to the centre and keeps labelled anomalies away from it.

    Of a batch with labels y, 0 or 1, and squared distances d: ``distance``, the sum of d over the normal scans, and
    ``inverse``, that of 1 / (d + epsilon) over the anomalies, both over the size of the batch; the paper's loss is
    ``distance + eta * inverse``. With no anomaly it is Deep SVDD's.

    Args:
        eta: weight of a labelled anomaly, 0 or more.
        epsilon: keeps the inverse of an anomaly at the centre finite.

    Also gives what is looked at and not lowered: ``spread``, the mean variance of the embeddings over the batch, near 0
    where everything has become one point; ``labelled``, the share of anomalies.

    Raises:
        ValueError: eta is negative or epsilon not positive.
    """

    def __init__(self, eta: float = 1.0, epsilon: float = 1e-6) -> None:
        if eta < 0 or epsilon <= 0:
            raise ValueError(f"eta must not be negative and epsilon be positive, got {eta} and {epsilon}.")
        self.eta, self.epsilon = eta, epsilon

    @property
    def weights(self) -> dict[str, float]:
        """Factors of the terms."""
        return {"inverse": self.eta, "spread": 0.0, "labelled": 0.0}

    def __call__(self, network: OneCentre, batch: dict[str, Any]) -> dict[str, Tensor]:
        embeddings = network.embed(batch["image"])
        distances = network.distances(embeddings)
        labels = torch.as_tensor(batch["target"]).to(distances).flatten()
        # slices of a volume have its label, which is 0: a volume's label says nothing of its slices
        labels = labels.repeat_interleave(len(distances) // len(labels))
        spread = embeddings.detach().float().var(0, correction=0).mean()
        return {
            "distance": (distances * (1 - labels)).mean(),
            "inverse": (labels / (distances + self.epsilon)).mean(),
            "spread": spread.to(distances),
            "labelled": labels.mean(),
        }
