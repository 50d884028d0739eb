"""Contrast of a distribution that is enlarged: what turns or exchanged halves make of a scan are scans of their own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.losses.contrastive import info_nce, supervised_contrast
from medad_plugins.losses.full_precision import full_precision
from medad_plugins.losses.rank_gather import of_all_ranks
from medad_plugins.methods.pretrain.objectives import Objective, head, pooled
from medad_plugins.networks.blocks.geometric_transforms import GeometricTransforms

__all__ = ["CCD", "DROC", "exchanged_halves"]


class DROC(Objective):
    """Distribution-augmented contrast: quarter turns of a scan are other scans, from which its views are to be told.

    Normal scans alone would be spread over the whole sphere; with turned ones beside them they stay together on a part
    of it. Each first view is to find its second one among all second ones. The head is deep, so that what spreads the
    vectors is in the head and not in the features.

    Args:
        spatial_dims: 2 or 3; volumes are turned in the plane of their first two axes.
        width: of the encoder's features.
        hidden, dimensions, layers: widths and hidden layers of the head.
        temperature: divides the cosines.

    Reference:
        Sohn et al., "Learning and evaluating representations for deep one-class classification", ICLR 2021.
    """

    def __init__(
        self,
        spatial_dims: int,
        width: int,
        hidden: int = 512,
        dimensions: int = 128,
        temperature: float = 0.2,
        layers: int = 8,
    ) -> None:
        super().__init__()
        self.turned = GeometricTransforms(spatial_dims, shift=0.0, turns=4)
        self.head, self.temperature = head(width, hidden, dimensions, layers=layers), temperature

    def terms(self, encoder: Any, image: Tensor) -> dict[str, Tensor]:
        # (2 B, 4, ...) as scans one after the other, each in two views
        scans = self.turned(image).unflatten(0, (-1, 2)).transpose(1, 2).flatten(0, 2)
        vectors = of_all_ranks(full_precision(self.head(pooled(encoder, scans))))
        return {"contrast": info_nce(vectors[0::2], vectors[1::2], self.temperature)}


def exchanged_halves(image: Tensor) -> Tensor:
    """``(B, 2 ** dims, C, *spatial)``: the halves along none, one or several axes exchanged; the scan itself first."""
    found = image.unsqueeze(1)
    for axis in range(3, 1 + image.dim()):
        found = torch.cat([found, found.roll(found.shape[axis] // 2, axis)], 1)
    return found


class CCD(Objective):
    """Constrained contrastive distribution learning: exchanged halves are scans of their own, and are to be named too.

    Args:
        spatial_dims: 2 or 3: four or eight classes.
        width: of the encoder's features.
        hidden, dimensions: widths of the contrasted head.
        temperature: divides the cosines.

    Reference:
        Tian et al., "Constrained contrastive distribution learning for unsupervised anomaly detection and localisation
        in medical images", MICCAI 2021.
    """

    def __init__(
        self, spatial_dims: int, width: int, hidden: int = 512, dimensions: int = 128, temperature: float = 0.2
    ) -> None:
        super().__init__()
        self.classes = 2**spatial_dims
        self.head, self.temperature = head(width, hidden, dimensions, norm=False), temperature
        self.classifier = nn.Linear(width, self.classes)

    def terms(self, encoder: Any, image: Tensor) -> dict[str, Tensor]:
        scans = exchanged_halves(image).unflatten(0, (-1, 2)).transpose(1, 2).flatten(0, 2)
        features = pooled(encoder, scans)
        vectors = of_all_ranks(full_precision(self.head(features)))
        numbers = torch.arange(len(vectors) // 2, device=vectors.device).repeat_interleave(2)
        classes = torch.arange(self.classes, device=features.device).repeat_interleave(2).repeat(len(image) // 2)
        return {
            "contrast": supervised_contrast(vectors, numbers, self.temperature),
            "classes": functional.cross_entropy(full_precision(self.classifier(features)), classes),
        }
