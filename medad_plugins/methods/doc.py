"""DOC: pretrained features that are drawn together for normal scans and go on telling other pictures apart."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.errors import InputError
from medad_plugins.losses.full_precision import full_precision
from medad_plugins.losses.rank_gather import of_all_ranks
from medad_plugins.networks.blocks.geometric_transforms import GeometricTransforms
from medad_plugins.networks.families.fine_tuned_neighbours import FineTunedNeighbours

__all__ = ["DOC", "DOCTerms", "compactness"]


def compactness(features: Tensor) -> Tensor:
    """Mean squared difference of each feature vector ``(N, D)`` from the mean of the others, over N and D.

    It is the variance within the batch times ``(N / (N - 1)) ** 2``.

    Raises:
        InputError: there is a single scan.
    """
    number = len(features)
    if number < 2:
        raise InputError(
            "compactness is of several scans", where="batch_size", found=number, todo="give --batch_size 2 or more"
        )
    values = full_precision(features)
    return (values - values.mean(0)).square().mean() * (number / (number - 1)) ** 2


class DOC(FineTunedNeighbours):
    """Deep one-class classification: one encoder draws normal scans together and tells the classes of others apart.

    The second keeps what the first would undo: that features differ where pictures do. Two stages: a training on
    `DOCTerms`, then the nearest features of normal scans. It says whether a scan is abnormal and not where: its map is
    constant.

    Args:
        spatial_dims, in_channels, backbone, weights, stages, frozen, neighbours, most_scans, encoder_norm,
            norm_momentum, reduction: see `FineTunedNeighbours`, whose centre stays where it is, at 0.
        classes: that the head tells apart.

    Reference:
        Perera and Patel, "Learning deep features for one-class classification", IEEE TIP 28, 2019.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        backbone: str = "resnet18",
        weights: str = "imagenet",
        stages: int = 4,
        frozen: int = 3,
        neighbours: int = 1,
        most_scans: int = 5000,
        encoder_norm: str = "eval",
        norm_momentum: float = 0.1,
        reduction: str | float = "max",
        classes: int = 4,
    ) -> None:
        super().__init__(
            spatial_dims,
            in_channels,
            backbone,
            weights,
            stages,
            frozen,
            neighbours,
            most_scans,
            encoder_norm,
            norm_momentum,
            reduction,
        )
        if classes < 2:
            raise ValueError(f"classes must be at least 2, got {classes}.")
        self.classifier = nn.Linear(self.encoder.channels[-1], classes)

    def training_output(self, image: Tensor) -> Tensor:
        """Averaged features ``(B, D)``."""
        return self.embed(image)


class DOCTerms:
    """Terms of a phase of `medad_plugins.engines.PhasedTrainer`.

    The target of a batch is ``(pictures, kinds)``, labelled pictures ``(B, C, *spatial)`` and their classes ``(B,)``;
    anything else is no reference set, and what is told apart is by how much normal scans were turned.

    Args:
        turns: what takes the place of labels, of as many scans as all turns of which make a batch.
    """

    def __init__(self, turns: GeometricTransforms) -> None:
        self.turns = turns

    def __call__(self, network: DOC, batch: dict[str, Any]) -> dict[str, Tensor]:
        """What the network lowers.

        Returns:
            ``compactness`` of the normal scans' features; ``descriptiveness``, the cross-entropy of the pictures'
            classes; ``wrong``, the share of pictures that are taken for another class, to be looked at with a weight of
            0.
        """
        normal, target = batch["image"], batch["target"]
        pictures, kinds = target if isinstance(target, (tuple, list)) else self._turned(normal)
        features = network.training_output(torch.cat([normal, pictures.to(normal)]))
        logits = full_precision(network.classifier(features[len(normal) :]))
        return {
            "compactness": compactness(of_all_ranks(features[: len(normal)])),
            "descriptiveness": functional.cross_entropy(logits, kinds),
            "wrong": (logits.detach().argmax(1) != kinds).float().mean(),
        }

    def _turned(self, normal: Tensor) -> tuple[Tensor, Tensor]:
        """Scans in all turns, and by which each was turned."""
        number = len(self.turns.specs)
        turned: Tensor = self.turns(normal[: -(-len(normal) // number)])
        return turned.flatten(0, 1), torch.arange(number, device=normal.device).repeat(len(turned))
