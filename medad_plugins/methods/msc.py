"""MSC: pretrained features that go on learning by contrast about the centre of the normal scans."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from medad_plugins.losses.contrastive import supervised_contrast
from medad_plugins.losses.full_precision import full_precision
from medad_plugins.losses.rank_gather import of_all_ranks
from medad_plugins.networks.families.fine_tuned_neighbours import FineTunedNeighbours

__all__ = ["MSC", "MSCTerms", "Shifted"]


class Shifted(NamedTuple):
    """Unit vectors ``(N, D)`` as seen from the centre, and squared distances ``(N,)`` from it."""

    vectors: Tensor
    distances: Tensor


class MSC(FineTunedNeighbours):
    """Mean-shifted contrast: views of a scan are drawn together and scans apart, by their angles at the normal centre.

    Contrast about the origin would spread normal scans, which lie in a narrow cone there, over the whole sphere, and so
    undo what makes pretrained features tell them from others; about their centre it leaves the cone alone. Two stages:
    a short training on `MSCTerms`, then the nearest features of normal scans. All features have length
    one. It says whether a scan is abnormal and not where: its map is constant.

    Args: see `FineTunedNeighbours`.

    Buffers:
        centre ``(D,)``: mean of the normal scans' unit vectors as the encoder was, itself of length one.

    Reference:
        Reiss and Hoshen, "Mean-shifted contrastive loss for anomaly detection", AAAI 2023.
    """

    def embed(self, image: Tensor) -> Tensor:
        """Averaged features ``(B, D)`` of scans ``(B, C, *spatial)``, brought to length one."""
        features: Tensor = self.encoder(image)[-1]
        return functional.normalize(features.flatten(2).mean(2).float(), dim=1)

    def set_centre(self, mean: Tensor) -> None:
        """Take the mean unit vector ``(D,)`` of normal scans, brought to length one, for the centre."""
        super().set_centre(functional.normalize(mean, dim=0))

    def training_output(self, image: Tensor) -> Shifted:  # type: ignore[override]
        """Directions from the centre and squared distances of ``(N, C, *spatial)``."""
        shifted = full_precision(self.embed(image)) - self.centre
        return Shifted(functional.normalize(shifted, dim=1), shifted.square().sum(1))


class MSCTerms:
    """Terms of a phase of `medad_plugins.engines.PhasedTrainer`, of batches in which a scan's two views are neighbours.

    Args:
        temperature: the cosines are divided by it.
    """

    def __init__(self, temperature: float = 0.25) -> None:
        if temperature <= 0:
            raise ValueError(f"temperature must be positive, got {temperature}.")
        self.temperature = temperature

    def __call__(self, network: MSC, batch: dict[str, Any]) -> dict[str, Tensor]:
        """What the network lowers.

        Returns:
            ``contrast``: each view is to find the other one of its scan among all, by the angle at the centre.
            ``centre``: squared distances from it, their means over both views added (the paper's angular loss).
        """
        output = network.training_output(batch["image"])
        vectors = of_all_ranks(output.vectors)
        scans = torch.arange(len(vectors) // 2, device=vectors.device).repeat_interleave(2)
        return {
            "contrast": supervised_contrast(vectors, scans, self.temperature),
            "centre": 2 * output.distances.mean(),
        }
