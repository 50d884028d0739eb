"""Deep support vector data description."""

from __future__ import annotations

from typing import Any

import ignite.distributed as idist
import torch
from torch import Tensor, nn

from medad_plugins.networks.families.one_centre import OneCentre

__all__ = ["DeepSVDD"]


class DeepSVDD(OneCentre):
    """Deep SVDD: an encoder that brings normal scans near one point; a scan is abnormal that it takes elsewhere.

    Trained by `DeepSVDDTerms`, after the encoder has been trained as that of an autoencoder and the centre been set.

    Args:
        family: see `OneCentre`.

    Buffers:
        centre ``(latent_size,)``; radius: of the soft boundary, 0 without one; followed: batches that it has followed.

    Reference:
        Ruff et al., "Deep one-class classification", ICML 2018.
    """

    def __init__(self, *family: Any, **named: Any) -> None:
        super().__init__(*family, **named)
        self.radius: Tensor = nn.Buffer(torch.zeros(()))
        self.followed: Tensor = nn.Buffer(torch.zeros((), dtype=torch.long))

    def follow(self, distances: Tensor, nu: float, wait: int) -> None:
        """Let the radius be what a share ``1 - nu`` of a batch, of all processes, lies within.

        Args:
            distances: squared ones ``(B,)`` of this process.
            nu: share of normal scans outside.
            wait: how many batches it stays 0 at first.
        """
        self.followed = self.followed + 1
        if int(self.followed) <= wait:
            return
        found = distances.detach()
        if idist.get_world_size() > 1:
            gathered = idist.all_gather(found)
            assert isinstance(gathered, Tensor)
            found = gathered
        self.radius = torch.quantile(found.sqrt(), 1 - nu).to(self.radius)

    def anomaly_map(self, image: Tensor) -> Tensor:
        """Squared distance from the centre less the squared radius, everywhere, or as strong as the scan moves it."""
        return self.map_of_distance(image) - self.radius.square()
