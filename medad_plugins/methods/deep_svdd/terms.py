"""Terms of Deep SVDD's second stage."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from medad_plugins.methods.deep_svdd.network import DeepSVDD

__all__ = ["DeepSVDDTerms"]

OBJECTIVES = ("one_class", "soft_boundary")


class DeepSVDDTerms:
    """The second stage, which brings normal scans to the centre.

    Args:
        objective: ``"one_class"``: ``distance``, the mean squared distance from the centre. ``"soft_boundary"``:
            ``ball``, the squared radius, and ``outside``, the mean of what squared distances exceed it by, which the
            paper weights by 1 / nu; afterwards the radius follows the batch.
        nu: share of normal scans outside the soft boundary.
        wait: batches that its radius stays 0 at first.

    Both also give ``spread``, the mean variance of the embeddings over the batch, which is to be looked at and is not
    lowered: near 0 everything has become one point.
    """

    def __init__(self, objective: str = "one_class", nu: float = 0.1, wait: int = 0) -> None:
        if objective not in OBJECTIVES:
            raise ValueError(f"objective must be one of {OBJECTIVES}, got {objective!r}.")
        if not 0 < nu < 1 or wait < 0:
            raise ValueError(f"nu must lie between 0 and 1 and wait not be negative, got {nu} and {wait}.")
        self.objective, self.nu, self.wait = objective, nu, wait

    @property
    def weights(self) -> dict[str, float]:
        """Factors of the terms."""
        return {"spread": 0.0, **({"outside": 1 / self.nu} if self.objective == "soft_boundary" else {})}

    def __call__(self, network: DeepSVDD, batch: dict[str, Any]) -> dict[str, Tensor]:
        embeddings = network.embed(batch["image"])
        distances = network.distances(embeddings)
        spread = embeddings.detach().float().var(0, correction=0).mean().to(distances)
        if self.objective == "one_class":
            return {"distance": distances.mean(), "spread": spread}
        ball = network.radius.square()
        outside = (distances - ball).clamp_min(0).mean()
        network.follow(distances, self.nu, self.wait)
        return {"ball": ball.to(distances), "outside": outside, "spread": spread}
