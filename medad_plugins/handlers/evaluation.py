"""What the scores, decisions and maps of a labelled test set are worth."""

from __future__ import annotations

import logging
import math
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
from ignite.engine import Engine, Events
from numpy.typing import NDArray

from medad_plugins.claims import claim_folder, release_folder
from medad_plugins.data import Case, FaultTolerantLoader, case_group
from medad_plugins.data.contradictions import warn_of_contradictions
from medad_plugins.engines import gather_list, score_cases
from medad_plugins.errors import InputError
from medad_plugins.files import output_folder, remove_file, write_json
from medad_plugins.handlers.results import case_label, in_list_order, merged_cases
from medad_plugins.handlers.run_facts import run_facts
from medad_plugins.metrics import LocalizationMetric, describe_detection, detection_summary
from medad_plugins.reports import (
    Gallery,
    RenderedCase,
    colour_range,
    contact_sheet,
    roc_chart,
    score_chart,
    write_evaluation_page,
)
from medad_plugins.reports.page import decision_score
from medad_plugins.transforms import (
    AnomalyPostprocessing,
    RestoreScanGridd,
    fitted_calibration,
    read_mask_of,
    remove_case_files,
)

__all__ = ["EvaluatedCase", "EvaluationReport"]

logger = logging.getLogger(__name__)

FILES = ("evaluation.json", "report.html", "roc.png", "scores.png", "examples.png")
_EXAMPLES = 3  # per column of the contact sheet
# Shares of the normal pixels whose thresholds make up the FROC curve.
_FROC_ALPHAS = np.logspace(-1, -4, 13).tolist()


@dataclass(frozen=True)
class EvaluatedCase:
    """What is kept of a case: a few numbers, not its map."""

    case_id: str
    label: int
    score: float
    p_value: float
    flagged: bool
    group: str
    class_name: str = ""
    overlay: str = ""


class EvaluationReport:
    """Compares decisions, scores and maps with the labels and masks of the cases, at the end of an evaluator's run.

    Writes ``report.html`` (one self-contained page), ``evaluation.json``, ``roc.png`` (with both classes),
    ``scores.png`` and, where overlays were written, ``examples.png``; logs one line; puts the figures into
    ``engine.state.metrics``. The figures are those of `detection_summary`, those of `LocalizationMetric` where
    abnormal cases have masks, and under ``run`` those of `run_facts`. Cases without a label are left out of all of
    them, abnormal cases without a mask of those on pixels and lesions; so are those whose mask cannot be read or is not
    of the scan's size, with a warning, and ``masks_left_out`` counts them. What an earlier run has left of the report
    and of the cases is removed at the start. Memory does not grow with the size of the scans. With several ranks, each
    adds its own cases; the figures are of all cases, and the first rank writes.

    Args:
        output_dir: folder to write to.
        postprocessing: of the evaluator: knows the network, its calibration and the preprocessing.
        name: what is evaluated, for the log line and the page's title; of a path, the last part.
        validation: normal and abnormal cases to choose an F1 threshold on, as the survey does; none is fine.

    Raises:
        InputError: the folder cannot be written, or another run writes there; no case has a label.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        postprocessing: AnomalyPostprocessing,
        name: str | os.PathLike[str] = "test",
        validation: Sequence[Case] = (),
    ) -> None:
        self.output_dir, self.postprocessing, self.validation = Path(output_dir), postprocessing, list(validation)
        self.name = Path(name).resolve().name if os.path.exists(name) else str(name) or "sample cohort"
        self._restore = RestoreScanGridd("image", postprocessing.preprocessing, output_keys="scan")
        self.cases: list[EvaluatedCase] = []

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator whose postprocessing is this one's."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.update)
        engine.add_event_handler(Events.COMPLETED, self.finish)

    def watch(self, evaluator: Engine) -> Engine:
        """Register with an evaluator and return it, for hosts that run a bundle's evaluator themselves."""
        self.attach(evaluator)
        return evaluator

    def start(self, engine: Engine) -> None:
        """Forget earlier runs, read the calibrated thresholds."""
        folder = output_folder(self.output_dir)
        if idist.get_rank() == 0:
            claim_folder(folder)
            for name in FILES:  # an earlier run's must not pass for this one's
                remove_file(folder / name)
        own = getattr(getattr(engine.state, "dataloader", None), "data", ())
        remove_case_files(folder, [case["case_id"] for case in own if isinstance(case, dict) and "case_id" in case])
        calibration = fitted_calibration(self.postprocessing.network)
        threshold = self.postprocessing.lowest_mask_value  # each case has its own
        curve = sorted({calibration.pixel_threshold(alpha) for alpha in _FROC_ALPHAS})
        self.cases, self.masks_left_out = [], 0
        self.contradictory: dict[int, list[str]] = {0: [], 1: []}  # by label
        self.localization = LocalizationMetric(threshold, froc_thresholds=curve)
        self.gallery = Gallery(colour_range(calibration), threshold)

    def update(self, engine: Engine) -> None:
        """Take in the cases of an iteration."""
        for case in merged_cases(engine):
            label = case_label(case)
            if label is None:
                continue
            evaluated = EvaluatedCase(
                case["case_id"],
                label,
                case["anomaly_score"],
                case["p_value"],
                case["is_anomalous"],
                case_group(case),
                case.get("class", ""),
                case.get("overlay_file", ""),
            )
            self.cases.append(evaluated)
            truth = self._known_truth(case) if label else None
            if label == 0:
                self._look_at_mask_of_normal(case)
            # an abnormal case with nothing outlined says nothing about where its lesion is
            if label == 0 or truth is not None:
                anomaly_map, begins = case["anomaly_map"][0].numpy(), case["pixel_threshold"]
                self.localization.update(anomaly_map, truth, evaluated.group, begins)
            self._offer(evaluated, case, truth)

    def _known_truth(self, case: dict[str, Any]) -> NDArray[np.bool_] | None:
        try:
            return self._truth(case)
        except InputError as error:
            # one mask must not cost the figures of all others
            logger.warning("the mask of %s is left out: %s", case["case_id"], error)
            self.masks_left_out += 1
            return None

    def _truth(self, case: dict[str, Any]) -> NDArray[np.bool_] | None:
        if not case.get("mask"):
            return None
        truth = read_mask_of(case)
        label, marks = case_label(case) or 0, bool(truth.any())
        if marks != bool(label):
            self.contradictory[label].append(case["case_id"])
        return truth if marks else None

    def _look_at_mask_of_normal(self, case: dict[str, Any]) -> None:
        """It is for nothing but to contradict the label."""
        try:
            self._truth(case)
        except InputError as error:
            logger.warning("the mask of %s, a normal case, cannot be read: %s", case["case_id"], error)

    def _offer(self, evaluated: EvaluatedCase, case: dict[str, Any], truth: NDArray[np.bool_] | None) -> None:
        def render() -> RenderedCase:
            scan = self._restore({"image": case["image"]})["scan"]
            return RenderedCase(
                scan.numpy(),
                case["anomaly_map"][0].numpy(),
                case["anomaly_mask"][0].numpy(),
                scan.affine.numpy(),
                truth,
            )

        self.gallery.offer(
            case_id=evaluated.case_id,
            label=evaluated.label,
            score=evaluated.score,
            p_value=evaluated.p_value,
            flagged=evaluated.flagged,
            render=render,
        )

    def summary(self, validation: tuple[Sequence[float], Sequence[int]] | None = None) -> dict[str, Any]:
        """The figures of the cases so far, None for what they cannot give.

        Args:
            validation: scores and labels of the validation cases.
        """
        figures = detection_summary(
            [case.score for case in self.cases],
            [case.label for case in self.cases],
            [case.p_value for case in self.cases],
            self.postprocessing.alpha,
            groups=[case.group for case in self.cases],
            validation=validation,
        )
        return figures | self.localization.aggregate()

    def finish(self, engine: Engine) -> None:
        """Write the figures, the page and the charts, log the line."""
        self._gather(engine)
        if not self.cases:
            todo = "give a list with a column label, or run inference instead"
            raise InputError("there is nothing to evaluate", expected="cases with a label", found="none", todo=todo)
        figures = self.summary(self._validation_scores(engine))
        engine.state.metrics.update({key: value for key, value in figures.items() if isinstance(value, (int, float))})
        gathered = gather_list([self.masks_left_out])
        if idist.get_rank() > 0:
            return
        calibration = fitted_calibration(self.postprocessing.network)
        figures["calibrated_on"] = calibration.reference_scores.numel()
        figures["can_flag"] = calibration.can_flag(self.postprocessing.alpha)
        figures["run"] = run_facts(self.postprocessing.network)
        figures["masks_left_out"] = sum(gathered)
        warn_of_contradictions(self.contradictory[0], self.contradictory[1])
        logger.info("%s", self._line(figures))
        self._write(figures)
        release_folder(self.output_dir)

    def _write(self, figures: dict[str, Any]) -> None:
        """All files that can be written, and the reason of the first that cannot."""
        errors: list[InputError] = []
        for write in (
            lambda: write_json(self.output_dir / "evaluation.json", figures),
            lambda: self._draw(figures),
            lambda: self._write_page(figures),
        ):
            try:
                write()
            except InputError as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def _gather(self, engine: Any) -> None:
        """Take in the cases and pictures of the other ranks; the pixels are added up by their metric."""
        cases = gather_list(self.cases)
        self.cases = in_list_order(cases, [case.case_id for case in cases], engine.state.dataloader)
        for label, ids in self.contradictory.items():
            self.contradictory[label] = gather_list(ids)
        for rank, gallery in enumerate(gather_list([self.gallery])):
            if rank != idist.get_rank():
                self.gallery.absorb(gallery)

    def _validation_scores(self, engine: Any) -> tuple[list[float], list[int]] | None:
        if not self.validation:
            return None
        loader = FaultTolerantLoader(self.validation, self.postprocessing.preprocessing, batch_size=8)
        scored_cases = score_cases(engine.network, loader, engine.inferer)
        own = [(case.score, case.label) for case in scored_cases if math.isfinite(case.score)]
        scored = gather_list(own)
        labels = [label for _, label in scored]
        return ([score for score, _ in scored], labels) if {0, 1} <= set(labels) else None

    def _line(self, figures: dict[str, Any]) -> str:
        parts = [describe_detection(figures)]
        if figures["pixel_ap"] is not None:
            parts.append(f"pixel AP {figures['pixel_ap']:.2f}, Dice {figures['dice_case_mean']:.2f}")
        counts = f"n = {figures['n_normal']} normal, {figures['n_abnormal']} abnormal"
        masks = f", {figures['masks_left_out']} masks left out" if figures["masks_left_out"] else ""
        return f"{self.name}: {', '.join(parts)} ({counts}{masks})"

    def _draw(self, figures: dict[str, Any]) -> None:
        scores, labels = [case.score for case in self.cases], [case.label for case in self.cases]
        alpha = self.postprocessing.alpha
        if figures["auroc"] is not None:
            decision = (figures["false_positive_rate"], figures["sensitivity"], alpha)
            roc_chart(self.output_dir / "roc.png", scores, labels, decision)
        score_chart(self.output_dir / "scores.png", scores, labels, alpha, decision_score(self.cases))
        contact_sheet(self.output_dir / "examples.png", self._examples())

    def _write_page(self, figures: dict[str, Any]) -> None:
        facts = figures["run"]
        write_evaluation_page(
            self.output_dir / "report.html",
            title=f"{facts['network']} on {self.name}",
            figures=figures,
            cases=self.cases,
            alpha=self.postprocessing.alpha,
            examples=self.gallery.examples(),
            details={
                "network": f"{facts['network']}, {facts['parameters']:,} parameters",
                "calibrated on": f"{figures['calibrated_on']} held-out normal cases",
                "versions": ", ".join(f"{name} {facts[name]}" for name in ("medad", "monai", "torch", "python")),
                "computed on": f"{facts['device']}, {facts['threads']} threads, {facts['peak_memory_mib']} MiB at most",
                **_command(),
            },
        )

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


def _command() -> dict[str, str]:
    """How this was run, where that was on the command line."""
    run_by_monai = Path(sys.argv[0]).parts[-3:-1] == ("monai", "bundle")
    return {"command": shlex.join(["python", "-m", "monai.bundle", *sys.argv[1:]])} if run_by_monai else {}
