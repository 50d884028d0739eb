"""What a fitted detector says of the judging set, in this process, and what it looks like."""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.bundle import ConfigParser
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from medad_plugins.audit import trivial_baselines
from medad_plugins.data import Case, FaultTolerantLoader
from medad_plugins.engines import score_cases
from medad_plugins.errors import InputError, find_input_error
from medad_plugins.files import write_json
from medad_plugins.start.judging_set import JudgingSet
from medad_plugins.start.ranking import Trial

__all__ = ["FittedDetector", "trivial_trials", "try_detector"]

logger = logging.getLogger(__name__)

_BATCH = 8


class FittedDetector:
    """A bundle's model as its ``inference.yaml`` applies it.

    Args:
        bundle_root: of the bundle.
        model: its model file.
    """

    def __init__(self, bundle_root: Path, model: Path) -> None:
        parser = ConfigParser()
        parser.read_config(str(bundle_root / "configs" / "inference.yaml"))
        parser.update({"bundle_root": str(bundle_root), "ckpt_path": str(model)})
        found = parser.get_parsed_content
        self.network, self.scan = found("network_def").eval(), found("scan")
        self.preprocessing, self.inferer = found("preprocessing"), found("inferer")

    def loader(self, cases: Sequence[Case]) -> FaultTolerantLoader:
        """Batches of cases as the network takes them."""
        plain = [{"image": case["image"], "case_id": case["case_id"], "label": case["label"]} for case in cases]
        return FaultTolerantLoader(plain, self.preprocessing, _BATCH if self.scan.spatial_dims == 2 else 1)

    def scored(self, cases: Sequence[Case]) -> Any:
        """A `medad_plugins.engines.ScoredCase` of each case that can be read."""
        return score_cases(self.network, self.loader(cases), self.inferer)

    def mask(self, case: Case) -> NDArray[np.bool_]:
        """The mask of a case on the network's grid, ``(*spatial)``."""
        image = self.preprocessing({"image": case["mask"]})["image"]
        return np.asarray(image.as_tensor()[0].numpy() > 0.25)


def try_detector(
    name: str, bundle_root: Path, model: Path, judging: JudgingSet, labelled: Sequence[Case], seconds: float, kept: Path
) -> Trial:
    """Score everything that a detector is judged by, or take what an earlier call has kept for this model.

    Args:
        name: of the detector.
        bundle_root: its bundle.
        model: its model file.
        judging: held-out scans with and without anomalies.
        labelled: labelled cases, or none.
        seconds: that it took to fit.
        kept: file for the scores.

    Raises:
        InputError: the model cannot be used, or scans that others read are not finite or not readable here.
    """
    stamp = f"{zlib.crc32(model.read_bytes()):08x} {len(judging.cases)} {len(labelled)}"
    known = _read(kept, stamp)
    if known is None:
        detector = FittedDetector(bundle_root, model)
        known = {"stamp": stamp, "scores": {}, "pixel_precision": {}}
        masked = {case["case_id"]: (recipe, case) for recipe, case in _masked(judging)}
        precision: dict[str, list[float]] = {}
        constant = True
        for scored in detector.scored(judging.cases):
            known["scores"][scored.case_id] = scored.score
            if scored.case_id in masked:
                values = scored.anomaly_map[0].double().cpu().numpy()
                constant = constant and bool(values.max() == values.min())
                recipe, case = masked[scored.case_id]
                truth = detector.mask(case)
                if truth.any() and np.isfinite(values).all():
                    precision.setdefault(recipe, []).append(average_precision_score(truth.ravel(), values.ravel()))
        if not constant:
            known["pixel_precision"] = {recipe: float(np.mean(values)) for recipe, values in precision.items()}
        for scored in detector.scored(labelled):
            known["scores"][f"labelled {scored.case_id}"] = scored.score
        write_json(kept, known)
    scores = known["scores"]
    everything = [case["case_id"] for case in judging.cases] + [f"labelled {case['case_id']}" for case in labelled]
    if missing := [case for case in everything if case not in scores or not np.isfinite(scores[case])]:
        found = f"{len(missing)} of {len(everything)} without a score, the first of {missing[0]}"
        raise InputError("the detector cannot score every scan that the others score", where=name, found=found)
    return Trial(
        name,
        np.array([scores[case["case_id"]] for case in judging.clean]),
        {
            recipe: np.array([np.nan if case is None else scores[case["case_id"]] for case in cases])
            for recipe, cases in judging.synthetic.items()
        },
        known["pixel_precision"],
        np.array([scores[f"labelled {case['case_id']}"] for case in labelled]),
        seconds=seconds,
    )


def _masked(judging: JudgingSet) -> list[tuple[str, Case]]:
    return [(recipe, case) for recipe, cases in judging.synthetic.items() for case in cases if case is not None]


def _read(path: Path, stamp: str) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if content.get("stamp") == stamp else None


def trivial_trials(train: Sequence[Case], judging: JudgingSet, labelled: Sequence[Case]) -> list[Trial]:
    """The audit's trivial detectors on the same scans; none, with a line in the log, where they cannot be computed."""
    tested = [*judging.cases, *labelled]
    cases = [{**case, "split": "train"} for case in train]
    cases += [{**case, "case_id": f"{place}", "split": "test"} for place, case in enumerate(tested)]
    # the same patients and masks do not matter here
    keys = ("image", "case_id", "label", "split", "mask")
    try:
        found = trivial_baselines([{key: case.get(key, "") for key in keys} for case in cases])
    except InputError as error:
        logger.warning("no trivial detectors to compare with: %s", error)
        return []
    places = {case["case_id"]: place for place, case in enumerate(judging.cases)}
    trials = []
    for baseline in found:
        if len(baseline.scores) != len(tested):
            logger.info("%s could not be computed for every scan and is left out.", baseline.name)
            continue
        scores = baseline.scores
        synthetic = {
            recipe: np.array([np.nan if case is None else scores[places[case["case_id"]]] for case in own])
            for recipe, own in judging.synthetic.items()
        }
        count = len(judging.clean)
        labels = scores[len(judging.cases) :]
        trials.append(Trial(baseline.name, scores[:count], synthetic, {}, labels, is_trivial=True))
    return trials


def reason_of(error: BaseException) -> str:
    """A sentence for the page; nothing of a file's content."""
    return str(find_input_error(error) or f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
