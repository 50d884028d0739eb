"""Compares bundles on data sets: trains and tests each with each seed, and makes the table and the pages of it.

    python tools/benchmark.py --quick                                  every bundle on the built-in sample cohort
    python tools/benchmark.py --plan tools/plans/br35h.yaml            what a plan says
    python tools/benchmark.py --plan ... --bundles edc,ae --seeds 0    a part of it

Each run is the bundle's own training, in its own process. Stopped or failed, the same command continues where it was.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from medad_plugins.benchmark import card_table, insert_table, quick_plan, read_plan, run_benchmark
from medad_plugins.command_line import run_tool
from medad_plugins.errors import InputError

_BUNDLES = Path(__file__).resolve().parents[1] / "bundles"


def benchmark(
    plan: str = "",
    quick: bool = False,
    output_dir: str = "",
    bundles: str | Iterable[str] = (),
    datasets: str | Iterable[str] = (),
    seeds: int | Iterable[int] = (),
    bundles_dir: str = str(_BUNDLES),
    write_into: str = "",
    write_cards: bool = False,
    finished_only: bool = False,
) -> None:
    """Run a benchmark, or what is left of it.

    Args:
        plan: YAML file, see the plans beside this tool; its values may hold environment variables.
        quick: take the built-in plan instead: every bundle, as it comes, on the sample cohort.
        output_dir: for results, models and logs; by default ``benchmark/<plan>``.
        bundles: names, to run these only.
        datasets: names, to run on these only.
        seeds: numbers, instead of the plan's.
        bundles_dir: where the bundles are.
        write_into: a Markdown document in which to replace the table between the marks
            ``<!-- benchmark: <plan> -->`` and ``<!-- end of benchmark -->``.
        write_cards: replace each bundle's own lines, between the same marks, in its model card.
        finished_only: run nothing, and write tables and pages of what is finished.
    """
    folder = Path(bundles_dir)
    if quick == bool(plan):
        raise InputError("there is nothing to run", expected="one of --plan FILE and --quick", todo="give one of them")
    chosen = quick_plan(folder) if quick else read_plan(Path(plan), folder)
    chosen = chosen.only(_names(bundles), _names(datasets), [seeds] if isinstance(seeds, int) else tuple(seeds))
    output = Path(output_dir or f"benchmark/{chosen.name}")
    rows = run_benchmark(chosen, folder, output, finished_only)
    if write_into:
        table = (output / "results.md").read_text(encoding="utf-8")
        insert_table(Path(write_into), chosen.name, table)
    for bundle in chosen.bundles if write_cards else ():
        if table := card_table(chosen, rows, bundle):
            insert_table(folder / bundle / "docs" / "README.md", chosen.name, table)


def _names(values: str | Iterable[str]) -> tuple[str, ...]:
    return (values,) if isinstance(values, str) and values else tuple(values)


if __name__ == "__main__":
    run_tool(benchmark)
