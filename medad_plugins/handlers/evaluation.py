"""What the scores, decisions and maps of a labelled test set are worth."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events
from monai.transforms import EnsureChannelFirst
from numpy.typing import NDArray

from medad_plugins.errors import InputError
from medad_plugins.files import output_folder, write_json
from medad_plugins.handlers.results import case_label, merged_cases
from medad_plugins.metrics import PixelCounts, describe_detection, detection_summary, dice
from medad_plugins.reports.charts import contact_sheet, roc_chart, score_chart
from medad_plugins.transforms.load_image import LoadImageScan

__all__ = ["EvaluationReport", "read_mask"]

logger = logging.getLogger(__name__)

_EXAMPLES = 3  # per column of the contact sheet


@dataclass(frozen=True)
class _Scored:
    """What is kept of a case: a few numbers, not its map."""

    label: int
    score: float
    p_value: float
    flagged: bool
    overlay: str


def read_mask(path: str | os.PathLike[str], shape: tuple[int, ...], case_id: str = "") -> NDArray[np.bool_]:
    """The binary lesion mask of a case on its scan's own grid, ``(*spatial)`` in MONAI's axis order.

    Whatever is not 0 is lesion; in a JPEG, whose edges ring, what is above half of its highest value.

    Raises:
        InputError: the file cannot be read as a mask, or its shape is not ``shape``.
    """
    values = _spatial_array(path, len(shape))
    if values.shape != shape:
        raise InputError(
            "the mask does not lie on the scan's grid",
            where=f"{path} of case {case_id}" if case_id else path,
            expected=" x ".join(str(size) for size in shape),
            found=" x ".join(str(size) for size in values.shape),
            todo="list a mask of the scan's own size",
        )
    floor = float(values.max()) / 2 if Path(path).suffix.lower() in (".jpg", ".jpeg") else 0.0
    return values > floor


def _spatial_array(path: str | os.PathLike[str], spatial_dims: int) -> NDArray:
    """The highest value over the colour channels of an image file, ``(*spatial)``; transparency is no value."""
    channels = np.asarray(EnsureChannelFirst()(LoadImageScan(spatial_dims)(Path(path))))
    if channels.shape[0] in (2, 4):
        channels = channels[:-1]
    return np.asarray(channels.max(axis=0))


class EvaluationReport:
    """Compares decisions, scores and maps with the labels and masks of the cases, at the end of an evaluator's run.

    Writes ``evaluation.json``, ``roc.png`` (with both classes), ``scores.png`` and, where overlays were written,
    ``examples.png``; logs one line; puts the figures into ``engine.state.metrics``. The figures are those of
    `detection_summary` and, where abnormal cases have masks:

    - ``pixel_ap``: average precision over all pixels of the normal cases and of the abnormal cases with a mask,
    - ``dice_case_mean``: Dice at the calibrated pixel threshold, averaged over the abnormal cases with a mask,
    - ``best_dice_pooled``: the highest Dice of any threshold over the same pixels as ``pixel_ap``, chosen on the truth,
      hence an upper bound and not a result,
    - ``n_masked``: how many abnormal cases have a mask.

    Cases without a label are left out. Memory does not grow with the size of the scans.

    Args:
        output_dir: folder to write to.
        name: what is evaluated, for the log line.

    Raises:
        InputError: the folder cannot be written; a mask cannot be read or is not of its scan's size; no case has a
            label.
    """

    def __init__(self, output_dir: str | os.PathLike[str], name: str = "test") -> None:
        self.output_dir, self.name = Path(output_dir), name
        self._reset()

    def _reset(self) -> None:
        self.cases: list[_Scored] = []
        self.pixels = PixelCounts()
        self.dices: list[float] = []
        self.alpha = float("nan")

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator whose postprocessing is an `AnomalyPostprocessing`."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.update)
        engine.add_event_handler(Events.COMPLETED, self.finish)

    def start(self, engine: Engine) -> None:
        """Forget earlier runs."""
        output_folder(self.output_dir)
        self._reset()

    def update(self, engine: Engine) -> None:
        """Take in the cases of an iteration."""
        for case in merged_cases(engine):
            label = case_label(case)
            if label is None:
                continue
            self.alpha = case["alpha"]
            overlay = case.get("overlay_file", "")
            self.cases.append(_Scored(label, case["anomaly_score"], case["p_value"], case["is_anomalous"], overlay))
            self._update_pixels(case, label)

    def _update_pixels(self, case: dict[str, Any], label: int) -> None:
        anomaly_map = case["anomaly_map"][0].numpy()
        if label == 0:
            self.pixels.update(anomaly_map, None)
            return
        if not case.get("mask"):
            return
        truth = read_mask(case["mask"], anomaly_map.shape, case["case_id"])
        if truth.any():  # an abnormal case with nothing outlined says nothing about where its lesion is
            self.pixels.update(anomaly_map, truth)
            self.dices.append(dice(case["anomaly_mask"][0].numpy(), truth))

    def summary(self) -> dict[str, Any]:
        """The figures of the cases so far, None for what they cannot give."""
        figures = detection_summary(
            [case.score for case in self.cases],
            [case.label for case in self.cases],
            [case.p_value for case in self.cases],
            self.alpha,
        )
        figures.update(
            n_masked=len(self.dices),
            pixel_ap=self.pixels.average_precision(),
            dice_case_mean=float(np.mean(self.dices)) if self.dices else None,
            best_dice_pooled=self.pixels.best_dice(),
        )
        return figures

    def finish(self, engine: Engine) -> None:
        """Write the figures and charts, log the line."""
        if not self.cases:
            todo = "give a list with a column label, or run inference instead"
            raise InputError("there is nothing to evaluate", expected="cases with a label", found="none", todo=todo)
        figures = self.summary()
        write_json(self.output_dir / "evaluation.json", figures)
        self._draw(figures)
        engine.state.metrics.update({key: value for key, value in figures.items() if isinstance(value, (int, float))})
        logger.info("%s", self._line(figures))

    def _line(self, figures: dict[str, Any]) -> str:
        parts = [describe_detection(figures)]
        if figures["pixel_ap"] is not None:
            parts.append(f"pixel AP {figures['pixel_ap']:.2f}, Dice {figures['dice_case_mean']:.2f}")
        counts = f"n = {figures['n_normal']} normal, {figures['n_abnormal']} abnormal"
        return f"{self.name}: {', '.join(parts)} ({counts})"

    def _draw(self, figures: dict[str, Any]) -> None:
        scores, labels = [case.score for case in self.cases], [case.label for case in self.cases]
        for name in ("roc.png", "examples.png"):  # an earlier run's must not pass for this one's
            (self.output_dir / name).unlink(missing_ok=True)
        if figures["auroc"] is not None:
            decision = (figures["false_positive_rate"], figures["sensitivity"], self.alpha)
            roc_chart(self.output_dir / "roc.png", scores, labels, decision)
        score_chart(self.output_dir / "scores.png", scores, labels, self.alpha, self._decision_score())
        contact_sheet(self.output_dir / "examples.png", self._examples())

    def _decision_score(self) -> float | None:
        """Score at which the decision changes; None where all cases were decided alike."""
        flagged = [case.score for case in self.cases if case.flagged]
        passed = [case.score for case in self.cases if not case.flagged]
        return (min(flagged) + max(passed)) / 2 if flagged and passed else None

    def _examples(self) -> dict[str, list[Path]]:
        """Overlays of the clearest case of each kind: a report on failures shows the worst ones."""
        groups = {}
        for title, label, flagged in (
            ("abnormal, flagged", 1, True),
            ("normal, flagged (false positives)", 0, True),
            ("abnormal, not flagged (false negatives)", 1, False),
        ):
            drawn = [case for case in self.cases if case.label == label and case.flagged == flagged and case.overlay]
            drawn.sort(key=lambda case: case.score, reverse=flagged)
            groups[title] = [Path(case.overlay) for case in drawn[:_EXAMPLES]]
        return groups
