"""One command from a folder of scans to a decision."""

from __future__ import annotations

import hashlib
import json
import logging
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medad_plugins.archive.ranking import network_affine
from medad_plugins.audit.pictures import draw_pairs
from medad_plugins.audit.report import write_audit
from medad_plugins.benchmark.cells import finished_row, run_cell
from medad_plugins.benchmark.plan import Cell
from medad_plugins.claims import claimed_folder
from medad_plugins.data import Case, case_group
from medad_plugins.errors import InputError
from medad_plugins.files import home_path, output_folder, write_csv, write_json
from medad_plugins.reports import colour_range, scan_card
from medad_plugins.start.detectors import OF_THE_WHOLE_SCAN, Detector, usual_detectors
from medad_plugins.start.first_data import FirstData, read_first_data
from medad_plugins.start.judging_set import JudgingSet, write_judging_set
from medad_plugins.start.page import Outcome, candidates, summary_line, verdict, write_start_page
from medad_plugins.start.ranking import Ranked, Trial, rank_trials
from medad_plugins.start.trials import FittedDetector, reason_of, trivial_trials, try_detector

__all__ = ["start"]

logger = logging.getLogger(__name__)

_LEAST_SECONDS = 20.0  # left for a fit to be begun
_SHARE = 0.7  # of the time left, for one fit
_MEMBERS = 3  # of the ensemble
_SHOWN = 2  # detectors with example maps


def start(
    data: str,
    output_dir: str,
    bundles_dir: Path,
    bundles: Sequence[str] = (),
    minutes: float = 15.0,
    datalist: str = "",
    where: str = "",
    weights: str = "auto",
    seed: int = 0,
) -> Outcome:
    """Read a folder, audit it, fit cheap detectors, rank them and write ``start.html``.

    Besides: ``fits/`` with models and logs, ``judging/`` with the scans that the detectors were compared on,
    ``audit/`` and ``ranking.csv``. The same command goes on where it was stopped.

    Args:
        data: a folder or a list.
        output_dir: where to write.
        bundles_dir: where the bundles are.
        bundles: names of those to try; the usual cheap ones where none are given.
        minutes: after which nothing more is fitted.
        datalist: file name in the folder, or a path.
        where: ``column=value`` limits the cases of the splits val and test.
        weights: ``"auto"`` or ``"none"``.
        seed: of what is drawn.

    Raises:
        InputError: the data cannot be used, or the folder holds a start of other data.
    """
    if not minutes > 0:
        raise InputError("a value cannot be used", where="--minutes", expected="more than 0", found=minutes)
    began = time.monotonic()
    first = read_first_data(data, datalist, where, seed)
    detectors, notes = usual_detectors(first, bundles_dir, bundles, weights)
    with claimed_folder(output_folder(output_dir)) as folder:
        folder = folder.resolve()
        _settle(folder, first, where, seed)
        return _Start(
            first, folder, bundles_dir, began + 60 * minutes, seed, notes, _options(data, datalist, where)
        ).run(detectors, began)


def _options(data: str, datalist: str, where: str) -> str:
    """The data for a command that may be run from another folder."""
    path = Path(home_path(data)).resolve()
    is_list = path.is_file()
    given = {"--dataset_dir": str(path.parent if is_list else path), "--datalist": path.name if is_list else datalist}
    return shlex.join([part for key, value in {**given, "--where": where}.items() if value for part in (key, value)])


def _settle(folder: Path, first: FirstData, where: str, seed: int) -> None:
    """Refuse a folder in which other data were looked at; else write down what is."""
    names = [str(case["image"]) for part in (first.train, first.held_out, first.labelled) for case in part]
    digests = [item.digest.hex() for item in first.audit.signatures.items]
    digest = hashlib.sha256("\n".join([*names, *digests, where, str(seed)]).encode("utf-8", "surrogateescape"))
    path, settings = folder / "start.json", {"data": digest.hexdigest()}
    if path.is_file():
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            known = None
        if known != settings:
            todo = "give another --output_dir, or remove this folder"
            raise InputError("this folder holds a start of other data or settings", where=folder, todo=todo)
    write_json(path, settings)


class _Start:
    """A start in its folder, once the data are known."""

    def __init__(
        self,
        first: FirstData,
        folder: Path,
        bundles_dir: Path,
        deadline: float,
        seed: int,
        notes: list[str],
        options: str,
    ) -> None:
        self.first, self.folder, self.bundles_dir, self.deadline = first, folder, bundles_dir, deadline
        self.seed, self.notes, self.options = seed, notes, options
        self.rows: dict[str, dict[str, Any]] = {}
        self.detectors: dict[str, Detector] = {}
        self.models: dict[str, Path] = {}
        self.trials: list[Trial] = []
        self.failures: list[tuple[str, str]] = []

    def run(self, detectors: Sequence[Detector], began: float) -> Outcome:
        first = self.first
        for note in [*first.notes, *self.notes]:
            logger.info("%s", note)
        audit = output_folder(self.folder / "audit")
        draw_pairs(first.audit, audit / "pairs.png")
        write_audit(audit, first.audit, first.name)
        self._write_list()
        logger.info("Putting synthetic anomalies into held-out normal scans.")
        judging = write_judging_set(first.held_out, self.folder / "judging", first.spatial_dims, self.seed)
        trivial = trivial_trials(first.train, judging, first.labelled)
        for number, detector in enumerate(detectors, start=1):
            self._try(detector, judging, f"[{number}/{len(detectors)}]")
            self._page(trivial, judging, began)
        if members := self._members(trivial, judging):
            self._try(members, judging, "[ensemble]")
        outcome = self._page(trivial, judging, began, with_cards=True)
        self._write_table(outcome.ranking)
        for ranked in outcome.ranking:
            logger.info("%s", summary_line(ranked))
        logger.info("%s", verdict(outcome))
        logger.info("see %s", self.folder / "start.html")
        return outcome

    def _write_list(self) -> None:
        rows: list[tuple[Any, ...]] = [("image", "label", "split", "cluster")]
        for split, cases in (("train", self.first.train), ("val", self.first.held_out)):
            rows += [(case["image"], 0, split, case.get("cluster", "")) for case in cases]
        write_csv(self.folder / "fitting.csv", rows)

    def _try(self, detector: Detector, judging: JudgingSet, place: str) -> None:
        """Fit a detector in a process of its own and let it judge; what fails is a line."""
        keys = {"dataset_dir": str(self.folder), "datalist": "fitting.csv", **detector.keys}
        cell = Cell(detector.form, detector.bundle, self.seed, keys)
        fits = self.folder / "fits"
        model = cell.folder(fits) / "model.pt"
        try:
            row = finished_row(cell, fits) if model.is_file() else None
            left = self.deadline - time.monotonic()
            if row is None and left < _LEAST_SECONDS:
                self.failures.append((detector.name, "not fitted: the time was used up (--minutes)"))
                logger.info("%s %s: not fitted, the time was used up.", place, detector.name)
                return
            if row is None:
                log = cell.folder(fits) / "log.txt"
                logger.info("%s %s, %.1f min of time left; log in %s", place, detector.name, left / 60, log)
                row = run_cell(cell, self.bundles_dir, fits, tested=False, seconds=max(_LEAST_SECONDS, _SHARE * left))
            if row["status"] != "done":
                raise InputError(f"it could not be fitted: {str(row['error']).rstrip('.')}")
            root, kept = self.bundles_dir / detector.bundle, cell.folder(fits) / "scores.json"
            trial = try_detector(detector.name, root, model, judging, self.first.labelled, float(row["seconds"]), kept)
        except Exception as error:  # one detector must not cost the page
            reason = reason_of(error)
            logger.error("%s %s: %s", place, detector.name, reason)
            self.failures.append((detector.name, reason))
            return
        self.rows[detector.name], self.detectors[detector.name], self.models[detector.name] = row, detector, model
        self.trials.append(trial)
        mean = np.mean([ranked.synthetic for ranked in rank_trials([trial], judging.groups, seed=self.seed)])
        logger.info(
            "%s %s: AUROC %.3f on synthetic anomalies, fitted in %.0f s", place, detector.name, mean, row["seconds"]
        )

    def _ranking(self, trivial: Sequence[Trial], judging: JudgingSet) -> list[Ranked]:
        labelled = self.first.labelled
        return rank_trials(
            [*self.trials, *trivial],
            judging.groups,
            [case["label"] for case in labelled],
            [case_group(case) for case in labelled],
            self.seed,
        )

    def _members(self, trivial: Sequence[Trial], judging: JudgingSet) -> Detector | None:
        """The ensemble of detectors that see scans alike; None where there are not two.

        The best usable ones, and one that looks at the scan as a whole, usable or not: synthetic anomalies are spots,
        and do not ask for what it sees of diffuse disease.
        """
        usable = [ranked.trial.name for ranked in self._ranking(trivial, judging) if ranked.is_usable]
        usable = [name for name in usable if name in self.detectors]
        if not (self.bundles_dir / "ensemble").is_dir() or not usable:
            return None
        form = self.detectors[usable[0]].form
        alike = {name: detector.bundle for name, detector in self.detectors.items() if detector.form == form}
        local = [name for name in usable if name in alike and alike[name] not in OF_THE_WHOLE_SCAN]
        whole = [name for bundle in OF_THE_WHOLE_SCAN for name in alike if alike[name] == bundle][:1]
        names = [*local[: _MEMBERS - len(whole)], *whole]
        if len(names) < 2:
            return None
        keys = {"spatial_dims", "in_channels", "slice_axis", "batch_size"}
        shared = {key: value for key, value in self.detectors[names[0]].keys.items() if key in keys}
        shared["members"] = [str(self.models[name]) for name in names]
        bundles = [self.detectors[name].bundle for name in names]
        # a folder for each choice of members: another run may have others
        return Detector(f"ensemble of {', '.join(bundles)}", "ensemble", shared, f"{form}_of_{'_'.join(bundles)}")

    def _page(self, trivial: Sequence[Trial], judging: JudgingSet, began: float, with_cards: bool = False) -> Outcome:
        ranking = self._ranking(trivial, judging)
        outcome = Outcome(
            self.first,
            ranking,
            self.detectors,
            self.models,
            {name: str(row["command"]) for name, row in self.rows.items()},
            self.failures,
            self.notes,
            self._cards(ranking, judging) if with_cards else {},
            (time.monotonic() - began) / 60,
            self.options,
        )
        write_start_page(self.folder / "start.html", outcome)
        return outcome

    def _cards(self, ranking: Sequence[Ranked], judging: JudgingSet) -> dict[str, list[str]]:
        """Example maps of the one to take and of the next: all kinds of anomaly, the oddest normal scan, labelled."""
        names = [ranked.trial.name for ranked in candidates(ranking, self.detectors)][:_SHOWN]
        cards = {}
        for name in names:
            trial = next(trial for trial in self.trials if trial.name == name)
            chosen: list[tuple[str, Case]] = []
            for place, (recipe, cases) in enumerate(judging.synthetic.items()):
                made = [case for case in cases if case is not None]
                chosen.append((f"synthetic: {recipe}", made[place % len(made)]))
            chosen.append(("normal, the highest score of these", judging.clean[int(trial.clean.argmax())]))
            abnormal = [i for i, case in enumerate(self.first.labelled) if case["label"]]
            for i in (
                sorted(abnormal, key=lambda i: -trial.labelled[i])[:1]
                + sorted(abnormal, key=lambda i: trial.labelled[i])[:1]
            ):
                chosen.append(("abnormal, of the split val", self.first.labelled[i]))
            try:
                cards[name] = self._drawn(name, chosen)
            except Exception as error:  # pictures must not cost the page
                logger.error("no pictures of %s: %s", name, reason_of(error))
        return cards

    def _drawn(self, name: str, chosen: Sequence[tuple[str, Case]]) -> list[str]:
        detector = FittedDetector(self.bundles_dir / self.detectors[name].bundle, self.models[name])
        limits = colour_range(detector.network.calibration)
        masks = {case["case_id"]: detector.mask(case) for _, case in chosen if case.get("mask") and case["label"]}
        titles = {case["case_id"]: title for title, case in chosen}
        cards = []
        for scored in detector.scored([case for _, case in chosen]):
            image, anomaly_map = scored.image.float().numpy(), scored.anomaly_map[0].float().numpy()
            truth = masks.get(scored.case_id)
            if anomaly_map.ndim == 2:  # upright: rows first, which pictures have last
                image, anomaly_map = image.swapaxes(1, 2), anomaly_map.swapaxes(0, 1)
                truth = None if truth is None else truth.swapaxes(0, 1)
            p_value = detector.network.calibration.p_value(scored.score)
            note = f"score {scored.score:.3g}, p {p_value:.3g}"
            affine = network_affine(detector.scan)
            cards.append(scan_card(titles[scored.case_id], note, image, anomaly_map, affine, limits, truth))
        return cards

    def _write_table(self, ranking: Sequence[Ranked]) -> None:
        recipes = list(dict.fromkeys(recipe for ranked in ranking for recipe in ranked.by_recipe))
        columns = ["detector", "trivial", "value", "low", "high", "synthetic", "synthetic_low", "synthetic_high"]
        columns += [
            "labelled",
            "first",
            "seconds",
            "usable",
            "reason",
            *recipes,
            *(f"pixel_{name}" for name in recipes),
        ]
        rows: list[list[Any]] = [columns]
        for ranked in ranking:
            row = [ranked.trial.name, int(ranked.trial.is_trivial), ranked.value, *ranked.interval]
            row += [ranked.synthetic, *ranked.synthetic_interval, "" if ranked.labelled is None else ranked.labelled]
            row += [ranked.first, ranked.trial.seconds, int(ranked.is_usable), ranked.reason]
            row += [ranked.by_recipe.get(recipe, "") for recipe in recipes]
            row += [ranked.trial.pixel_precision.get(recipe, "") for recipe in recipes]
            rows.append(row)
        write_csv(self.folder / "ranking.csv", rows)
