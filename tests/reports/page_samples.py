"""Cases, figures and examples for report pages."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np

from medad_plugins.reports import Example, Gallery, RenderedCase

__all__ = ["FIGURES", "SampleCase", "sample_cases", "sample_examples", "volume"]

SHAPE = (20, 24, 18)
FIGURES: dict[str, Any] = {
    "auroc": 0.8123,
    "auroc_95ci": [0.71, 0.9045],
    "average_precision": 0.77,
    "sensitivity": 0.5,
    "sensitivity_95ci": [0.25, 0.75],
    "specificity": 0.875,
    "false_positive_rate": 0.125,
    "false_positive_rate_95ci": [0.0155, 0.3835],
    "precision": None,
    "f1_max": 0.9871,
    "f1_max_threshold": 3.25,
    "validation_f1_threshold": 2.5,
    "validation_f1_accuracy": 0.6543,
    "n_normal": 16,
    "n_abnormal": 16,
    "n_masked": 11,
    "n_lesions": 19,
    "dice_case_mean": 0.3456,
    "best_dice_pooled": 0.9653,
    "aupro": 0.41,
    "aupro_limit": 0.3,
    "lesion_sensitivity": 0.6,
    "false_positives_per_case": 1.75,
    "froc": {"thresholds": [1, 2], "lesion_sensitivity": [0.9, 0.6], "false_positives_per_case": [4.0, 1.75]},
    "by_lesion_size": [
        {
            "from": 1,
            "to": 71,
            "n_lesions": 4,
            "aupro": 0.2222,
            "aupro_95ci": [0.1111, 0.3333],
            "best_dice_pooled": 0.4321,
        },
        {"from": 71, "to": None, "n_lesions": 15, "aupro": None},
    ],
}


@dataclass(frozen=True)
class SampleCase:
    """A scored case."""

    case_id: str
    label: int
    score: float
    p_value: float
    flagged: bool
    class_name: str = ""


def sample_cases(n: int = 32, seed: int = 0) -> list[SampleCase]:
    """Half of them abnormal, scores that overlap, p-values that fall with the score."""
    random = np.random.RandomState(seed)
    labels = np.arange(n) % 2
    scores = random.rand(n) * 2 + labels
    cases = []
    for index, (label, score) in enumerate(zip(labels.tolist(), scores.tolist(), strict=True)):
        p_value = float(np.clip(1 - score / 2.2, 0.01, 1))
        name = ("blob" if index % 4 == 1 else "ring") if label else "normal"
        cases.append(SampleCase(f"case_{index:03d}", label, score, p_value, p_value <= 0.05, name))
    return cases


def volume(peak: int = 11, lesion: tuple[int, int] = (3, 6)) -> RenderedCase:
    """A volume whose map is highest in the axial slice ``peak`` and whose lesion lies in the slices of ``lesion``."""
    random = np.random.RandomState(peak)
    anomaly_map = random.rand(*SHAPE).astype(np.float32) * 0.5
    anomaly_map[4:9, 4:9, peak] = 2.0
    truth = np.zeros(SHAPE, dtype=bool)
    truth[10:15, 12:17, lesion[0] : lesion[1]] = True
    scan = random.rand(1, *SHAPE).astype(np.float32)
    return RenderedCase(scan, anomaly_map, anomaly_map > 1, np.diag([1.0, 1.0, 2.0, 1.0]), truth)


def _same(rendered: RenderedCase) -> RenderedCase:
    return rendered


@cache
def sample_examples(spatial_dims: int = 3, suffix: str = "") -> tuple[Example, ...]:
    """Examples of every kind, as volumes or as their middle slices; ``suffix`` ends the names of the cases."""
    gallery = Gallery((0.0, 2.0), 1.0, per_kind=2)
    cases = sample_cases()
    for index, case in enumerate(cases):
        rendered = volume(peak=2 + index % 14)
        if spatial_dims == 2:
            rendered = RenderedCase(
                rendered.scan[..., 4], rendered.anomaly_map[..., 4], rendered.mask[..., 4], np.eye(3), None
            )
        gallery.offer(
            case_id=case.case_id + suffix,
            label=case.label,
            score=case.score,
            p_value=case.p_value,
            flagged=case.flagged,
            render=partial(_same, rendered),
        )
    return tuple(gallery.examples())
