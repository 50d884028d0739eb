"""Detection and localization as Ignite handlers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ignite.engine import Engine

from medad_plugins.handlers.metrics import Detection, Localization
from medad_plugins.metrics import LocalizationMetric, detection_summary


def _batches() -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    batches = []
    for index in range(3):
        mask = torch.zeros(4, 1, 16, 16)
        mask[1::2, :, 3:9, 2:5] = 1
        maps = torch.rand(4, 1, 16, 16, generator=generator) + 0.3 * mask
        patients = [f"patient {index}-{case // 2}" for case in range(4)]
        batches.append({"map": maps, "mask": mask, "label": mask.amax((1, 2, 3)), "patient": patients})
    return batches


def test_figures_of_an_epoch_are_those_of_one_call() -> None:
    engine = Engine(lambda _, batch: batch)
    Localization(
        lambda batch: (batch["map"], batch["mask"], batch["patient"]), pixel_threshold=0.9, resamples=50
    ).attach(engine, "localization")
    Detection(lambda batch: (batch["map"].amax((1, 2, 3)), batch["label"]), alpha=0.1, resamples=50, seed=1).attach(
        engine, "detection"
    )
    batches = _batches()
    for _ in range(2):  # a second run starts afresh
        state = engine.run(batches)
    maps, masks, labels = (torch.cat([batch[key] for batch in batches]) for key in ("map", "mask", "label"))
    patients = [name for batch in batches for name in batch["patient"]]
    metric = LocalizationMetric(pixel_threshold=0.9, resamples=50)
    metric(maps, masks, patients)
    expected = metric.aggregate()
    assert state.metrics["localization"] == expected
    assert state.metrics["pixel_ap"] == expected["pixel_ap"] > 0
    scores = maps.amax((1, 2, 3)).double().tolist()
    summary = detection_summary(scores, labels.int().tolist(), None, 0.1, resamples=50, seed=1)
    assert state.metrics["detection"] == summary
    assert state.metrics["auroc"] is not None
    assert state.metrics["accuracy"] is None  # no p-values, no decision


def test_p_values_and_patients_reach_the_figures() -> None:
    engine = Engine(lambda _, batch: batch)
    Detection(resamples=50).attach(engine, "detection")
    scores = torch.tensor([[0.1, 0.9], [0.2, 0.8], [0.3, 0.04], [0.9, 0.01], [0.8, 0.3], [0.7, 0.02]])
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    patients = ["a", "a", "b", "c", "d", "d"]
    figures = engine.run([(scores, labels, patients)]).metrics["detection"]
    expected = detection_summary(
        scores[:, 0].double().tolist(),
        labels.tolist(),
        scores[:, 1].double().tolist(),
        0.05,
        groups=patients,
        resamples=50,
    )
    assert figures == expected
    assert figures["sensitivity"] == pytest.approx(2 / 3)


def test_outputs_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="y_pred, y"):
        Detection().update([torch.zeros(1)])
