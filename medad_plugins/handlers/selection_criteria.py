"""How good weights look on held-out normal scans, without any abnormal one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from monai.inferers import Inferer, SimpleInferer
from monai.transforms import Compose
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor

from medad_plugins.data import Case, FaultTolerantLoader
from medad_plugins.engines import gather_list
from medad_plugins.errors import InputError
from medad_plugins.networks import AnomalyNetwork
from medad_plugins.plain_tensor import plain_tensor
from medad_plugins.synthesis import FindBodyd, Recipe, SourcePool, SynthesizeAnomalyd
from medad_plugins.synthesis.published import held_out_recipes

__all__ = ["Criterion", "NormalMaps", "SyntheticAnomalies"]

_BATCH = 8


class Criterion(Protocol):
    """How good a network is; equal on all ranks, higher is better, NaN where it is undefined.

    ``wish`` ends the sentence "kept the weights of iteration 50, ...".
    """

    wish: str

    def prepare(self) -> None:
        """Read the held-out scans; called once, before the training."""

    def __call__(self, network: AnomalyNetwork, inferer: Inferer) -> float: ...


class NormalMaps:
    """Held-out normal scans should look normal: minus the mean of their anomaly maps.

    Args:
        cases: held-out normal cases.
        preprocessing: of a case.
    """

    wish = "to which held-out normal scans look most normal"

    def __init__(self, cases: Sequence[Case], preprocessing: Callable[..., Any]) -> None:
        self.cases, self.preprocessing = cases, preprocessing
        self.images: list[Tensor] = []

    def prepare(self) -> None:
        self.images = [item["image"] for item in _prepared(self.cases, self.preprocessing)]

    def __call__(self, network: AnomalyNetwork, inferer: Inferer) -> float:
        means = gather_list([float(one.mean()) for one, _ in _judged(network, inferer, self.images)])
        return -math.fsum(means) / len(means)


@dataclass(frozen=True)
class _SyntheticCase:
    """A held-out scan, the same with an anomaly, and where: each ``(1 or C, *spatial)``."""

    clean: Tensor
    image: Tensor
    mask: Tensor


class SyntheticAnomalies:
    """Synthetic anomalies should be found: mean of the AUROC of scans and the average precision of their pixels, 0..1.

    Each held-out normal scan is scored as it is and with one anomaly in its body. The recipes take turns, and the
    anomalies stay the same throughout. The AUROC is of scans with against scans without an anomaly, the precision the
    mean over scans with one.

    Args:
        cases: held-out normal cases.
        preprocessing: of a case.
        recipes: ways to make anomalies that are not trained with.
        most: use at most so many of the cases.

    Reference:
        Baugh et al., "Many tasks make light work", MICCAI 2023, who choose by tasks held out from training.
    """

    wish = "by which synthetic anomalies of held-out kinds are found best"

    def __init__(
        self, cases: Sequence[Case], preprocessing: Callable[..., Any], recipes: Sequence[Recipe], most: int = 48
    ) -> None:
        if not recipes:
            raise ValueError("every recipe is trained with, so there is none to choose by.")
        # evenly from the whole list, which may be sorted
        chosen = sorted({round(place) for place in np.linspace(0, len(cases) - 1, min(most, len(cases)))})
        self.cases = [cases[index] for index in chosen]
        self.preprocessing, self.recipes = preprocessing, list(recipes)
        self.anomalies: list[_SyntheticCase] = []

    def prepare(self) -> None:
        items = _prepared(self.cases, Compose([self.preprocessing, FindBodyd()]))
        pool = SourcePool(items) if len(items) > 1 else None
        recipes = [recipe for recipe in self.recipes if pool is not None or not recipe.takes_foreign]
        found = [self._make(number, item, recipes, pool) for number, item in enumerate(items)]
        self.anomalies = [one for one in found if one is not None]
        if not gather_list([True] * len(self.anomalies)):
            raise InputError(
                "no anomaly can be made in the held-out normal scans, so the weights cannot be chosen by them",
                where="select_by",
                expected="scans with a body brighter than their background",
                todo="use --select_by last",
            )

    @staticmethod
    def _make(
        number: int, item: dict[str, Any], recipes: Sequence[Recipe], pool: SourcePool | None
    ) -> _SyntheticCase | None:
        # a recipe that finds no place leaves its turn to the next
        for turn in range(len(recipes)):
            recipe = recipes[(number + turn) % len(recipes)]
            dims = item["image"].ndim - 1
            make = SynthesizeAnomalyd([recipe], prob=1, source_pool=pool, body_key="body", spatial_dims=dims)
            case = make.set_random_state(number)(item)
            if case["is_anomalous"]:
                return _SyntheticCase(item["image"], case["image"], case["mask"])
        return None

    def __call__(self, network: AnomalyNetwork, inferer: Inferer) -> float:
        clean = [score for _, score in _judged(network, inferer, [one.clean for one in self.anomalies])]
        anomalous, precisions = [], []
        for one, (anomaly_map, score) in zip(
            self.anomalies, _judged(network, inferer, [one.image for one in self.anomalies])
        ):
            anomalous.append(score)
            values = anomaly_map.flatten().double().cpu().numpy()
            finite = bool(np.isfinite(values).all())
            precisions.append(average_precision_score(one.mask.flatten().numpy(), values) if finite else math.nan)
        clean, anomalous, precisions = gather_list(clean), gather_list(anomalous), gather_list(precisions)
        scores = np.asarray(clean + anomalous)
        if not np.isfinite(scores).all():
            return math.nan
        auroc = roc_auc_score(np.repeat([0, 1], [len(clean), len(anomalous)]), scores)
        return float(auroc + math.fsum(precisions) / len(precisions)) / 2


def selection_criterion(
    by: str, cases: Sequence[Case], preprocessing: Callable[..., Any], training_recipes: Sequence[Recipe]
) -> Criterion | None:
    """The criterion of that name; None for ``"last"``, which chooses nothing.

    Raises:
        InputError: if the name is unknown.
    """
    if by == "last":
        return None
    if by == "normal":
        return NormalMaps(cases, preprocessing)
    if by == "synthetic":
        return SyntheticAnomalies(cases, preprocessing, held_out_recipes(training_recipes))
    raise InputError(
        "there is no such way to choose weights", where="select_by", expected="last, normal or synthetic", found=by
    )


def _prepared(cases: Sequence[Case], transform: Callable[..., Any]) -> list[dict[str, Any]]:
    """This rank's share of the cases, with plain tensors.

    Raises:
        InputError: if none of all can be read.
    """
    items = []
    for batch in FaultTolerantLoader(cases, transform):
        tensors = {key: batch[key][0] for key in ("image", "body") if key in batch}
        plain = {key: plain_tensor(value) for key, value in tensors.items()}
        items.append({**plain, "case_id": batch["case_id"][0]})
    if not gather_list([True] * len(items)):
        raise InputError("no held-out normal case could be read, so there is nothing to choose the weights by")
    return items


@torch.no_grad()
def _judged(
    network: AnomalyNetwork, inferer: Inferer | None, images: Sequence[Tensor]
) -> Iterable[tuple[Tensor, float]]:
    """Anomaly map ``(1, *spatial)`` and score of each scan, in eval mode."""
    device = network.calibration.reference_scores.device  # a network may have no parameters
    inferer = SimpleInferer() if inferer is None else inferer
    was_training = network.training
    network.eval()
    try:
        at_once = _BATCH if len({image.shape for image in images}) == 1 else 1
        for start in range(0, len(images), at_once):
            maps = inferer(torch.stack(list(images[start : start + at_once])).to(device), network)
            yield from zip(maps, network.pool(maps).tolist())
    finally:
        network.train(was_training)
