"""Scores of cases as the calibration sees them: on the network's own grid."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from monai.inferers import Inferer, SimpleInferer
from torch import Tensor

from medad_plugins.engines.distributed import gather_list
from medad_plugins.errors import InputError
from medad_plugins.networks import AnomalyNetwork
from medad_plugins.plain_tensor import plain_tensor
from medad_plugins.transforms.describe_input import input_figures

__all__ = ["NormalScores", "ScoredCase", "score_cases", "score_normals"]

logger = logging.getLogger(__name__)

_ODD_SHARE = 0.1


@dataclass(frozen=True)
class ScoredCase:
    """A case's image ``(C, *spatial)``, anomaly map ``(1, *spatial)``, score, label (-1: unknown) and group."""

    case_id: str
    image: Tensor
    anomaly_map: Tensor
    score: float
    label: int
    group: str = ""


@torch.no_grad()
def score_cases(
    network: AnomalyNetwork, batches: Iterable[dict[str, Any]], inferer: Inferer | None = None, group: str = ""
) -> Iterator[ScoredCase]:
    """Score the cases of collated batches one by one, in eval mode; the network's mode is put back at the end.

    Args:
        network: fitted network.
        batches: collated cases with ``image`` ``(B, C, *spatial)`` and ``case_id``.
        inferer: how the network is called; None calls it plainly.
        group: column of the list that says each case's group.

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
            groups = [str(value) for value in batch[group]] if group in batch else [""] * len(scores)
            for i, case_id in enumerate(batch["case_id"]):
                yield ScoredCase(case_id, image[i], anomaly_map[i], scores[i], labels[i], groups[i])
    finally:
        network.train(was_training)


@dataclass
class NormalScores:
    """What a set of normal cases gives a calibration."""

    scores: list[float] = field(default_factory=list)
    pixels: list[Any] = field(default_factory=list)
    inputs: list[tuple[float, float]] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)

    def add(self, case: ScoredCase) -> None:
        """Take a case in; one whose map is not finite is left out and named."""
        if not (math.isfinite(case.score) and bool(torch.isfinite(case.anomaly_map).all())):
            logger.warning("left out %s: its anomaly map is not finite.", case.case_id)
            self.odd.append(case.case_id)
            return
        self.scores.append(case.score)
        self.pixels.append(_spread(case.anomaly_map.flatten()).cpu().numpy())
        self.inputs.append(input_figures(plain_tensor(case.image)))
        self.groups.append(case.group)

    def over_ranks(self) -> NormalScores:
        """Those of all ranks."""
        own = (self.scores, self.pixels, self.inputs, self.groups, self.odd)
        return NormalScores(*(gather_list(values) for values in own))

    def columns(self) -> tuple[Tensor, Tensor, Tensor, list[str]]:
        """Scores ``(n,)``, pixels ``(m,)``, inputs ``(n, 2)`` and groups, as `Calibration.fit` takes them."""
        groups = self.groups if any(self.groups) else []
        pixels = torch.from_numpy(np.concatenate(self.pixels))
        return torch.tensor(self.scores), pixels, torch.tensor(self.inputs), groups


def score_normals(
    network: AnomalyNetwork, batches: Iterable[dict[str, Any]], inferer: Inferer | None = None, group: str = ""
) -> NormalScores:
    """Score normal cases for a calibration; arguments as in `score_cases`, the result is of all ranks.

    Raises:
        InputError: no case can be scored, or the maps of several are not finite.
    """
    own = NormalScores()
    for case in score_cases(network, batches, inferer, group):
        own.add(case)
    found = own.over_ranks()
    require_finite(found)
    return found


def require_finite(found: NormalScores) -> None:
    """Refuse to calibrate where no case was scored, or the maps of several are not finite."""
    # one scan may be odd; where several are, it is the network
    if len(found.odd) > max(1, _ODD_SHARE * (len(found.scores) + len(found.odd))) or (found.odd and not found.scores):
        raise InputError(
            "the network cannot be calibrated, so it was not saved",
            found=f"{len(found.odd)} of {len(found.scores) + len(found.odd)} anomaly maps that are not finite, the "
            f"first of {found.odd[0]}",
            todo="lower the learning rate or use --precision float32",
        )
    if not found.scores:
        raise InputError("no held-out normal case could be read, so there is nothing to calibrate on")


def _spread(values: Tensor, most: int = 20_000) -> Tensor:
    """At most so many of the values, from everywhere: quantiles of many maps need no more, and fit into memory."""
    if values.numel() <= most:
        return values
    # drawn, for a fixed step may follow the map's rows and see only their first pixels
    generator = torch.Generator().manual_seed(0)
    return values[torch.randint(values.numel(), (most,), generator=generator).to(values.device)]
