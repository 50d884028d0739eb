"""Compares bundles on data sets: trains and tests each with each seed, and makes the table and the pages of it.

    python tools/benchmark.py --quick                                  every bundle on the built-in sample cohort
    python tools/benchmark.py --plan tools/plans/br35h.yaml            what a plan says
    python tools/benchmark.py --plan ... --bundles edc,ae --seeds 0    a part of it
    python tools/benchmark.py --smoke                                  every bundle for seconds, beside its last figures

Each run is the bundle's own training, in its own process. Stopped or failed, the same command continues where it was.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from medad_plugins.benchmark import (
    Plan,
    card_table,
    insert_table,
    markdown_table,
    quick_plan,
    read_plan,
    run_benchmark,
)
from medad_plugins.benchmark.kept_figures import join_figures, kept_file, read_kept, write_kept
from medad_plugins.benchmark.overview import list_figures, overview_table, read_overview
from medad_plugins.benchmark.smoke import code_state, fallen, read_figures, smoke_table, write_figures
from medad_plugins.command_line import run_tool
from medad_plugins.errors import InputError
from medad_plugins.files import write_text

logger = logging.getLogger("medad_plugins.tools.benchmark")

_PROJECT = Path(__file__).resolve().parents[1]
_BUNDLES = _PROJECT / "bundles"
_SMOKE = _PROJECT / "tools" / "plans" / "smoke.yaml"


def benchmark(
    plan: str = "",
    quick: bool = False,
    smoke: bool = False,
    output_dir: str = "",
    bundles: str | Iterable[str] = (),
    datasets: str | Iterable[str] = (),
    seeds: int | Iterable[int] = (),
    bundles_dir: str = str(_BUNDLES),
    write_into: str = "",
    write_cards: bool = False,
    list_into: str = "",
    finished_only: bool = False,
    keep_figures: bool = False,
) -> None:
    """Run a benchmark, or what is left of it.

    Args:
        plan: YAML file, see the plans beside this tool; its values may hold environment variables.
        quick: take the built-in plan instead: every bundle, as it comes, on the sample cohort.
        smoke: take ``plans/smoke.yaml``: every bundle for seconds on one real set. Its table, ``smoke.md``, has the
            last figures beside it, and what finds less than before is named: for changes of a part that many share.
        output_dir: for results, models and logs; by default ``benchmark/<plan>``, with ``smoke`` a folder in it for
            each state of the code, so that a change is measured anew and what a stop left is not.
        bundles: names, to run these only.
        datasets: names, to run on these only.
        seeds: numbers, instead of the plan's.
        bundles_dir: where the bundles are.
        write_into: a Markdown document in which to replace the table between the marks
            ``<!-- benchmark: <plan> -->`` and ``<!-- end of benchmark -->``; and one line a bundle with the figures of
            all data sets between ``<!-- benchmark: <plan>, overview -->`` and the same end, where it has these.
        write_cards: replace each bundle's own lines, between the same marks, in its model card.
        list_into: a Markdown document whose list of bundles gets the figures of the plan's first data set.
        finished_only: run nothing, and write tables and pages of what is finished.
        keep_figures: put the figures into a file beside the plan, in place of those of the same cells: with ``smoke``
            for later runs to be compared with, else for all documents, which are then written from all that is kept.
    """
    folder = Path(bundles_dir)
    if quick + smoke + bool(plan) != 1:
        expected = "one of --plan FILE, --quick and --smoke"
        raise InputError("it is not clear what to run", expected=expected, todo="give one of them")
    if keep_figures and quick:
        raise InputError("the quick benchmark keeps no figures", where="--keep_figures", todo="give --plan or --smoke")
    whole = quick_plan(folder) if quick else read_plan(_SMOKE if smoke else Path(plan), folder)
    chosen = whole.only(_names(bundles), _names(datasets), [seeds] if isinstance(seeds, int) else tuple(seeds))
    state = code_state(_PROJECT / "medad_plugins", folder) if smoke else ""
    output = Path(output_dir) if output_dir else Path("benchmark", chosen.name, state)
    found = run_benchmark(chosen, folder, output, finished_only)
    rows, remarks = found.rows, found.remarks
    if smoke:
        _compare(rows, output, keep_figures)
    if keep_figures and not smoke:
        kept = join_figures(whole, read_kept(kept_file(Path(plan))), rows, remarks)
        write_kept(kept_file(Path(plan)), kept)
        chosen, rows, remarks = whole, kept.rows, kept.remarks
    if write_into:
        insert_table(Path(write_into), chosen.name, markdown_table(chosen, rows, remarks))
        _insert_overview(Path(write_into), chosen, rows)
    if list_into:
        list_figures(Path(list_into), read_overview(overview_table(chosen, rows), chosen.datasets[0].name))
    for bundle in chosen.bundles if write_cards else ():
        card = folder / bundle / "docs" / "README.md"
        insert_table(card, chosen.name, card_table(chosen, rows, bundle) or "Not measured yet.")


def _insert_overview(document: Path, plan: Plan, rows: Sequence[Mapping[str, Any]]) -> None:
    name = f"{plan.name}, overview"
    if f"<!-- benchmark: {name} -->" in document.read_text(encoding="utf-8"):
        insert_table(document, name, overview_table(plan, rows))


def _compare(rows: Sequence[Mapping[str, Any]], output: Path, keep: bool) -> None:
    stored = _SMOKE.with_suffix(".csv")
    before = read_figures(stored) if stored.is_file() else {}
    write_text(output / "smoke.md", smoke_table(rows, before))
    for sentence in fallen(rows, before):
        logger.warning(sentence)
    if keep:
        write_figures(stored, rows)
    logger.info("figures beside those before: %s", output / "smoke.md")


def _names(values: str | Iterable[str]) -> tuple[str, ...]:
    return (values,) if isinstance(values, str) and values else tuple(values)


if __name__ == "__main__":
    run_tool(benchmark)
