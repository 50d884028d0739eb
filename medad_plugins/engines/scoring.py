"""Scores of cases as the calibration sees them: on the network's own grid."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from monai.inferers import Inferer, SimpleInferer
from torch import Tensor

from medad_plugins.networks import AnomalyNetwork

__all__ = ["ScoredCase", "score_cases"]


@dataclass(frozen=True)
class ScoredCase:
    """A case's image ``(C, *spatial)``, anomaly map ``(1, *spatial)``, score, and label (-1: unknown)."""

    case_id: str
    image: Tensor
    anomaly_map: Tensor
    score: float
    label: int


@torch.no_grad()
def score_cases(
    network: AnomalyNetwork, batches: Iterable[dict[str, Any]], inferer: Inferer | None = None
) -> Iterator[ScoredCase]:
    """Score the cases of collated batches one by one, in eval mode; the network's mode is put back at the end.

    Args:
        network: fitted network.
        batches: collated cases with ``image`` ``(B, C, *spatial)`` and ``case_id``.
        inferer: how the network is called; None calls it plainly.

    Example:
        >>> from monai.data import MetaTensor
        >>> from medad_plugins.methods.edc import EDC
        >>> network = EDC(backbone="resnet10", weights="none")
        >>> batch = {"image": MetaTensor(torch.rand(2, 1, 32, 32)), "case_id": ["a", "b"]}
        >>> [(case.case_id, case.anomaly_map.shape) for case in score_cases(network, [batch])]
        [('a', torch.Size([1, 32, 32])), ('b', torch.Size([1, 32, 32]))]
    """
    device = network.calibration.reference_scores.device  # a network may have no parameters
    inferer = SimpleInferer() if inferer is None else inferer
    was_training = network.training
    network.eval()
    try:
        for batch in batches:
            image = batch["image"].as_tensor().to(device)
            anomaly_map = inferer(image, network)
            scores = network.pool(anomaly_map).tolist()
            labels = batch["label"].tolist() if "label" in batch else [-1] * len(scores)
            for i, case_id in enumerate(batch["case_id"]):
                yield ScoredCase(case_id, image[i], anomaly_map[i], scores[i], labels[i])
    finally:
        network.train(was_training)
