"""How well `tools/start.py` chooses: its ranking beside what the detectors find in test cases that it never looks at.

    python tools/benchmark_start.py --plan tools/plans/start.yaml --output_dir benchmark/start

Lets it choose on each data set of a plan, and scores the test cases with every detector that it fitted. Prints a table
a data set, with how much lower the AUROC on test cases of what it takes is than the best single detector's; and one of
the rules that it could rank by: the rank correlation (Spearman) with that AUROC, and what the first single detector
loses. Stopped, the same command goes on where it was.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata, spearmanr
from sklearn.metrics import roc_auc_score

from medad_plugins.benchmark import read_plan
from medad_plugins.benchmark.plan import DataSet
from medad_plugins.benchmark.table import markdown_lines
from medad_plugins.command_line import run_tool
from medad_plugins.data import Case, find_cases
from medad_plugins.files import home_path, output_folder, write_json, write_text
from medad_plugins.start import start
from medad_plugins.start.page import Outcome
from medad_plugins.start.trials import FittedDetector

logger = logging.getLogger("medad_plugins.tools.benchmark_start")

_BUNDLES = Path(__file__).resolve().parents[1] / "bundles"
Row = Mapping[str, Any]


def main(
    plan: str = "",
    output_dir: str = "benchmark/start",
    datasets: str | Iterable[str] = (),
    minutes: float = 15.0,
    bundles_dir: str = str(_BUNDLES),
) -> None:
    """Measure what the start of data sets is worth.

    Args:
        plan: YAML file with data sets, see ``tools/plans/start.yaml``.
        output_dir: for what each start writes, and for ``agreement.md``.
        datasets: names, for these only.
        minutes: of each start.
        bundles_dir: where the bundles are.
    """
    names = [datasets] if isinstance(datasets, str) and datasets else list(datasets)
    chosen = read_plan(Path(plan), Path(bundles_dir)).only(datasets=names)
    folder = output_folder(output_dir)
    measured = {data.name: _measure(data, folder / data.name, Path(bundles_dir), minutes) for data in chosen.datasets}
    text = "\n".join([*(_table(name, rows) for name, rows in measured.items()), _rule_table(measured)])
    write_text(folder / "agreement.md", text)
    logger.info("%s", text)


def _measure(data: DataSet, folder: Path, bundles_dir: Path, minutes: float) -> list[Row]:
    """A row a detector: what start says of it, and its AUROC on the test cases."""
    keys = {key: str(data.keys.get(key, "")) for key in ("dataset_dir", "datalist", "where")}
    spatial_dims = int(data.keys.get("spatial_dims", 2))
    outcome = start(keys["dataset_dir"], str(folder), bundles_dir, (), minutes, keys["datalist"], keys["where"])
    cases = find_cases(home_path(keys["dataset_dir"]), keys["datalist"], "test", spatial_dims, keys["where"])
    rows: list[Row] = []
    for ranked in outcome.ranking:
        trial = ranked.trial
        if trial.is_trivial:
            continue
        scores = _test_scores(trial.name, outcome, cases, folder, bundles_dir)
        labels = np.array([case["label"] for case in cases])
        rows.append(
            {
                "detector": trial.name,
                "test": float(roc_auc_score(labels, scores)),
                "synthetic": ranked.synthetic,
                "lowest": ranked.synthetic_interval[0],
                "recipes": dict(ranked.by_recipe),
                "pixels": dict(trial.pixel_precision),
                "labelled": ranked.labelled,
                "first": ranked.first,
                "usable": ranked.is_usable,
                "taken": ranked is outcome.best,
                "minutes": outcome.minutes,
            }
        )
    write_json(folder / "agreement.json", rows)
    return rows


def _test_scores(name: str, outcome: Outcome, cases: Sequence[Case], folder: Path, bundles_dir: Path) -> Any:
    model = outcome.models[name]
    kept = output_folder(folder / "test_scores") / f"{model.parent.parent.name}_{model.parent.parent.parent.name}.json"
    if not kept.is_file():
        logger.info("%s scores %d test cases.", name, len(cases))
        detector = FittedDetector(bundles_dir / outcome.detectors[name].bundle, model)
        scores = {scored.case_id: scored.score for scored in detector.scored(cases)}
        write_json(kept, scores)
    scores = json.loads(kept.read_text(encoding="utf-8"))
    return np.array([scores[case["case_id"]] for case in cases])


def _table(name: str, rows: Sequence[Row]) -> str:
    ordered = sorted(rows, key=lambda row: -row["test"])
    lines: list[list[str]] = [["detector", "by synthetic anomalies", "by labelled cases of val", "first", "test AUROC"]]
    lines.append(["---"] * len(lines[0]))
    for row in ordered:
        labelled = "" if row["labelled"] is None else f"{row['labelled']:.3f}"
        usable = " (taken)" if row.get("taken") else "" if row["usable"] else " (not usable)"
        lines.append(
            [
                f"{row['detector']}{usable}",
                f"{row['synthetic']:.3f}",
                labelled,
                f"{row['first']:.2f}",
                f"{row['test']:.3f}",
            ]
        )
    best = max(row["test"] for row in rows if not _is_ensemble(row))
    regret = next((f"; what is taken loses {best - row['test']:.3f}" for row in rows if row.get("taken")), "")
    return f"**{name}** ({rows[0]['minutes']:.1f} minutes{regret})\n\n{markdown_lines(lines)}"


def _is_ensemble(row: Row) -> bool:
    return str(row["detector"]).startswith("ensemble")


def _mean(values: Mapping[str, float]) -> float:
    return float(np.mean(list(values.values()))) if values else float("nan")


def _mean_rank(rows: Sequence[Row], key: str) -> list[float]:
    names = sorted({name for row in rows for name in row[key]})
    ranks = [rankdata([row[key].get(name, 0.0) for row in rows]) for name in names]
    return list(np.mean(ranks, 0)) if ranks else [float("nan")] * len(rows)


# the other way round than in docs/results.md, on Br35H and PneumoniaMNIST
_USUAL_ORDER = {
    name: place for place, name in enumerate(("ae", "classic", "knn", "padim", "patchcore", "anomaly_dino"), start=1)
}
_RULES: dict[str, Callable[[Sequence[Row]], list[float]]] = {
    "mean AUROC over kinds of anomaly": lambda rows: [row["synthetic"] for row in rows],
    "its lower bound": lambda rows: [row["lowest"] for row in rows],
    "mean rank over kinds": lambda rows: _mean_rank(rows, "recipes"),
    "best kind": lambda rows: [max(row["recipes"].values()) for row in rows],
    "mean pixel AP": lambda rows: [_mean(row["pixels"]) for row in rows],
    "mean rank of pixel AP": lambda rows: _mean_rank(rows, "pixels"),
    "the same order everywhere": lambda rows: [_USUAL_ORDER.get(row["detector"].split(",")[0], 0) for row in rows],
    "labelled cases of val": lambda rows: [row["labelled"] if row["labelled"] is not None else np.nan for row in rows],
}


def _rule_table(measured: Mapping[str, Sequence[Row]]) -> str:
    lines = [["rule", *(f"{name}: rho, regret" for name in measured)], ["---"] * (len(measured) + 1)]
    for rule, values in _RULES.items():
        cells = [_agreement(rows, values) for rows in measured.values()]
        lines.append([rule, *cells])
    return markdown_lines(lines)


def _agreement(rows: Sequence[Row], rule: Callable[[Sequence[Row]], list[float]]) -> str:
    """Rank correlation and regret over the single detectors; empty where the rule says nothing."""
    single = [row for row in rows if not _is_ensemble(row)]
    found, truth = np.array(rule(single), dtype=float), np.array([row["test"] for row in single])
    if not np.isfinite(found).any():
        return ""
    found = np.where(np.isfinite(found), found, -1.0)  # what has no figure, e.g. no map, comes last
    rho = spearmanr(found, truth).statistic if len(set(found)) > 1 else float("nan")
    return f"{rho:.2f}, {truth.max() - truth[found.argmax()]:.3f}"


if __name__ == "__main__":
    run_tool(main)
