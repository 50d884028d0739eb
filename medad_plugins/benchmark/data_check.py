"""What must be known of a data set before figures on it mean anything: leaks, and what trivial detectors reach."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medad_plugins.audit import audit_cases, find_results, read_signatures, trivial_baselines
from medad_plugins.audit.pictures import draw_pairs
from medad_plugins.audit.report import write_audit
from medad_plugins.benchmark.cells import flat_figures
from medad_plugins.benchmark.plan import DataSet
from medad_plugins.data import find_cases
from medad_plugins.errors import find_input_error
from medad_plugins.files import output_folder, write_json

__all__ = ["DataCheck", "check_data"]

logger = logging.getLogger(__name__)

_FILE = "data_check.json"


@dataclass(frozen=True)
class DataCheck:
    """What was found of a data set.

    Attributes:
        settings: what it was checked with, as text.
        remarks: sentences for the table.
        rows: of ``results.csv``, one a trivial baseline.
    """

    settings: str
    remarks: list[str]
    rows: list[dict[str, Any]]


def check_data(data: DataSet, baselines: Mapping[str, Any], folder: Path) -> DataCheck:
    """Audit a data set and apply the trivial baselines to it, or reuse what an earlier run found.

    What fails is a remark, for the bundles may do without it.

    Args:
        data: what to check.
        baselines: further arguments of `trivial_baselines`.
        folder: where to keep it; the audit's report is written to its ``audit``.
    """
    settings = repr(sorted({**data.keys, **baselines}.items()))
    path = output_folder(folder) / _FILE
    try:
        known = DataCheck(**json.loads(path.read_text(encoding="utf-8")))
        if known.settings == settings:
            return known
    except (OSError, ValueError, TypeError):
        pass  # none yet, or not to be used: made anew
    logger.info("%s: audit and trivial baselines", data.name)
    try:
        check = _check(data, baselines, folder, settings)
    except Exception as error:
        reason = str(find_input_error(error) or repr(error))
        logger.error("%s could not be audited: %s", data.name, reason)
        return DataCheck(settings, [f"Not audited: {reason}"], [])
    write_json(path, asdict(check))
    return check


def _check(data: DataSet, baselines: Mapping[str, Any], folder: Path, settings: str) -> DataCheck:
    keys = (data.keys.get("dataset_dir", ""), data.keys.get("datalist", ""))
    spatial_dims = data.keys.get("spatial_dims", 2)
    cases = find_cases(*keys, "all", spatial_dims)
    tested = {case["case_id"] for case in find_cases(*keys, "test", spatial_dims, data.keys.get("where", ""))}
    signatures = read_signatures(cases)
    audit = audit_cases(cases, signatures=signatures)
    # the same pass over the files serves both: test cases that the condition leaves out lose their split
    limited = [case if case["case_id"] in tested else case | {"split": _without_test(case)} for case in cases]
    found = trivial_baselines(limited, signatures=signatures, **baselines)
    report = output_folder(folder / "audit")
    draw_pairs(audit, report / "pairs.png")
    write_audit(report, audit, data.name, found)
    rows = [
        {
            "dataset": data.name,
            "bundle": baseline.name,
            "seed": None,
            "status": "done",
            "error": "",
            "auroc": baseline.auroc,
            "auroc_low": baseline.auroc_95ci[0],
            "auroc_high": baseline.auroc_95ci[1],
            "average_precision": baseline.average_precision,
            "n_normal": int((baseline.labels == 0).sum()),
            "n_abnormal": int((baseline.labels == 1).sum()),
            **flat_figures(baseline.localization),
        }
        for baseline in found
    ]
    return DataCheck(settings, [" ".join(["Audit:", *find_results(audit)])], rows)


def _without_test(case: Mapping[str, Any]) -> str:
    return "" if case.get("split") == "test" else str(case.get("split", ""))
