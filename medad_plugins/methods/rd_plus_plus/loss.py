"""Losses of the projection layers of RD++."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.losses.global_cosine import GlobalCosineLoss
from medad_plugins.losses.sinkhorn import sinkhorn_divergence

__all__ = ["RDPlusPlusLoss"]

REBUILD_WEIGHT, CONTRAST_WEIGHT = 0.01, 0.1
MARGIN = 0.5


def _rebuild(noisy: Tensor, clean: Tensor) -> Tensor:
    """One minus the cosine at every location: the projection takes the noise away."""
    return 1 - functional.cosine_similarity(noisy, clean, dim=1).mean()


def _contrast(noisy: Tensor, projected: Tensor) -> Tensor:
    """How far the cosine of whole maps exceeds the margin: a projection is unlike the teacher's features of noise."""
    cosine = functional.cosine_similarity(noisy.flatten(1), projected.flatten(1), dim=1)
    return (cosine - MARGIN).clamp_min(0).mean()


def _compactness(projected: Tensor, partners: Tensor, points: int) -> Tensor:
    """Sinkhorn divergence of some locations' softmaxed features from those of another case of the batch."""
    cloud = projected.flatten(2).transpose(1, 2).softmax(-1)
    chosen = torch.randperm(cloud.shape[1])[:points].to(cloud.device)
    cloud = cloud[:, chosen]
    return sinkhorn_divergence(cloud, cloud[partners]).mean()


class RDPlusPlusLoss(nn.Module):
    """Reverse distillation, plus what makes projections of noisy and clean scans alike.

    ``L_distil + projection_weight * (transport_weight * L_transport + 0.01 * L_rebuild + 0.1 * L_contrast) / 1.11``,
    each summed over three scales. In the paper L_transport pulls the cases of a batch together by optimal transport.
    Its public code computes it between the batch and the same batch in another order, as clouds whose points are whole
    cases: these are equal, so the term and its gradient are zero. Here a ``transport_weight`` compares the cloud of a
    case's locations with that of another case, our reading of the paper.

    Args:
        projection_weight: of the projections' losses beside the distillation.
        transport_weight: 0 does what the public code in effect does.
        points: locations of a case that the transport looks at, drawn anew each time.

    Shape:
        a dictionary of lists of ``(B, C_k, *grid_k)``: ``rebuilt`` by the student, ``clean`` and ``noisy`` by the
        teacher, ``projected`` and ``projected_noisy`` by the projections; to a scalar.

    Reference:
        Tien et al., "Revisiting Reverse Distillation for Anomaly Detection", CVPR 2023.
    """

    def __init__(self, projection_weight: float = 0.2, transport_weight: float = 0.0, points: int = 64) -> None:
        super().__init__()
        self.projection_weight, self.transport_weight, self.points = projection_weight, transport_weight, points
        self.distil = GlobalCosineLoss()

    def forward(self, features: dict[str, list[Tensor]], target: Tensor | None = None) -> Tensor:
        """Loss of the features; ``target`` is there for engines that pass one and is not used."""
        rebuilding = contrast = transport = features["clean"][0].new_zeros((), dtype=torch.float32)
        partners = torch.randperm(len(features["clean"][0])) if self.transport_weight else None
        for noisy, projected, projected_noisy in zip(
            features["noisy"], features["projected"], features["projected_noisy"]
        ):
            noisy, projected, projected_noisy = noisy.float(), projected.float(), projected_noisy.float()
            rebuilding = rebuilding + _rebuild(projected_noisy, projected)
            contrast = contrast + _contrast(noisy, projected)
            if partners is not None:
                transport = transport + _compactness(projected, partners.to(projected.device), self.points)
        projections = self.transport_weight * transport + REBUILD_WEIGHT * rebuilding + CONTRAST_WEIGHT * contrast
        distilled: Tensor = self.distil((features["rebuilt"], features["clean"]))
        return distilled + self.projection_weight * projections / (1 + REBUILD_WEIGHT + CONTRAST_WEIGHT)
