"""The audit of a data folder, from its list to a report."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from medad_plugins.audit.audit import Audit, audit_cases
from medad_plugins.audit.baselines import Baseline, trivial_baselines
from medad_plugins.audit.groups import write_grouped_list
from medad_plugins.audit.listing import read_leniently
from medad_plugins.audit.pictures import draw_pairs
from medad_plugins.audit.report import find_results, write_audit
from medad_plugins.audit.signatures import read_signatures
from medad_plugins.claims import claimed_folder
from medad_plugins.data import Case
from medad_plugins.errors import InputError
from medad_plugins.files import output_folder

__all__ = ["audit_dataset"]

logger = logging.getLogger(__name__)


def audit_dataset(
    dataset_dir: str | Path,
    output_dir: str | Path,
    datalist: str | Path = "",
    spatial_dims: int = 2,
    *,
    write_grouped: str | Path = "",
    weights: str = "none",
    workers: int | None = None,
) -> Audit:
    """Audit a data folder and write ``audit.json``, ``audit.md``, ``pairs.csv`` and ``pairs.png``.

    Args:
        dataset_dir: as for training; a patient or file in two splits is reported, not refused.
        output_dir: folder for the report, made where missing.
        datalist: file name in ``dataset_dir`` or path; empty looks for the usual names.
        spatial_dims: 2 or 3, which of the sample cohorts where ``dataset_dir`` is empty.
        write_grouped: path of a list to write that keeps copies and patients in one split; empty writes none.
        weights: of the ResNet-18 for the k-NN baseline, see `find_weights`.
        workers: processes that read; None takes one a core.

    Raises:
        InputError: the folder or list is missing or faulty, no scan can be read, or a folder cannot be written.
    """
    cases = read_leniently(dataset_dir, datalist, spatial_dims)
    with claimed_folder(output_folder(output_dir)) as folder:
        return _audit(cases, folder, dataset_dir, datalist, write_grouped, weights, workers)


def _audit(
    cases: Sequence[Case],
    folder: Path,
    dataset_dir: str | Path,
    datalist: str | Path,
    write_grouped: str | Path,
    weights: str,
    workers: int | None,
) -> Audit:
    signatures = read_signatures(cases, workers)
    if not signatures.items:
        _, reason = signatures.unreadable[0]
        raise InputError("none of the scans can be read", where=dataset_dir, found=f"{reason} (the first one)")
    audit = audit_cases(cases, signatures=signatures)
    baselines: list[Baseline] = []
    try:
        baselines = trivial_baselines(cases, weights, signatures=signatures)
    except InputError as error:
        logger.info("%s", error)
    name = Path(dataset_dir or "the sample cohort").resolve().name if dataset_dir else "the sample cohort"
    title = f"{name} ({Path(datalist).name})" if datalist else name
    draw_pairs(audit, folder / "pairs.png")
    write_audit(folder, audit, title, baselines)
    if write_grouped:
        write_grouped_list(write_grouped, cases, audit.groups)
    for sentence in find_results(audit):
        logger.info("%s", sentence)
    return audit
