"""A threshold on plain intensities: what a map must beat before it has localized anything."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose, EnsureChannelFirstd
from numpy.typing import NDArray

from medad_plugins.data import Case, case_group
from medad_plugins.errors import InputError, find_input_error
from medad_plugins.metrics import LocalizationMetric
from medad_plugins.scorers import MapPool
from medad_plugins.transforms import LoadImageScand, ScaleScanIntensityd, read_mask_of

__all__ = ["IntensityThreshold"]

logger = logging.getLogger(__name__)

_ALPHA = 0.05  # share of the pixels of normal scans that is marked, as the bundles have it
_TOP = 0.05  # share of the highest intensities whose mean is a scan's score
_MOST_SCANS = 100  # that the threshold is taken from
_PIXELS = 20_000  # of each of them


class IntensityThreshold:
    """Bright is abnormal: the anomaly map is the scan itself, in the intensities 0..1 that networks see.

    A pixel is marked where it is brighter than 95 % of the pixels of normal training scans; the image score is the mean
    of the brightest 5 %. On FLAIR this outlines lesions better than many a trained method; where lesions are dark it
    finds nothing.

    Args:
        normal: normal training cases.
        spatial_dims: 2 or 3.

    Raises:
        InputError: none of the normal cases can be read.

    Reference:
        Meissen, Kaissis and Rueckert, "Challenging current semi-supervised anomaly segmentation methods for brain MRI",
        BrainLes 2021.
    """

    def __init__(self, normal: Sequence[Case], spatial_dims: int = 2) -> None:
        steps = [LoadImageScand("image", spatial_dims), EnsureChannelFirstd("image"), ScaleScanIntensityd("image")]
        self.read = Compose(steps)
        self.pool = MapPool(_TOP)
        rng = np.random.RandomState(0)
        places = np.linspace(0, len(normal) - 1, min(_MOST_SCANS, len(normal))).round().astype(int)
        drawn = [rng.choice(image.ravel(), _PIXELS) for _, image, _ in self._images([normal[i] for i in places])]
        if not drawn:
            raise InputError("none of the normal scans can be read, so there is no threshold")
        self.threshold = float(np.quantile(np.concatenate(drawn), 1 - _ALPHA))

    def apply(self, cases: Sequence[Case]) -> tuple[list[Case], NDArray[np.float64], dict[str, Any]]:
        """Scores of the cases that can be read, and the figures of `LocalizationMetric` where masks are listed.

        Returns:
            the cases, their scores ``(n,)``, and the figures; abnormal cases without a mask do not count in these.
        """
        metric = LocalizationMetric(self.threshold)
        read: list[Case] = []
        scores: list[float] = []
        for case, image, loaded in self._images(cases):
            truth = self._truth(case, loaded) if case["label"] else None
            if not case["label"] or truth is not None:
                metric.update(image, truth, case_group(case))
            read.append(case)
            scores.append(float(self.pool(torch.from_numpy(image)[None, None])))
        figures = metric.aggregate() if any(case.get("mask") for case in read) else {}
        return read, np.array(scores), figures

    def _images(self, cases: Sequence[Case]) -> Iterator[tuple[Case, NDArray[np.float32], Any]]:
        for case in cases:
            try:
                loaded = self.read({"image": case["image"]})["image"]
            except Exception as error:  # one odd file must not end it
                logger.info("%s was left out: %s", case["case_id"], find_input_error(error) or type(error).__name__)
                continue
            yield case, loaded.as_tensor().mean(0).numpy(), loaded

    @staticmethod
    def _truth(case: Case, loaded: Any) -> NDArray[np.bool_] | None:
        if not case.get("mask"):
            return None
        try:
            mask = read_mask_of({**case, "image": loaded, "anomaly_map": loaded})
        except InputError as error:
            logger.warning("the mask of %s is left out: %s", case["case_id"], error)
            return None
        return mask if mask.any() else None
