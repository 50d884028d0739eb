"""From a folder of scans to a decision: is there a detector that works here, which, and what to type next.

    python tools/start.py DATA                                    a folder of scans, with or without a list, or a list
    python tools/start.py DATA --output_dir start --minutes 15 --bundles padim,knn,ae

Reads and audits the scans, fits cheap detectors, ranks them without any abnormal scan (and by labelled ones where the
split val has enough), and writes one page, start.html. Stopped, the same command goes on. See docs/start.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from medad_plugins.command_line import run_tool
from medad_plugins.start import start

_BUNDLES = Path(__file__).resolve().parents[1] / "bundles"


def main(
    data: str = "",
    output_dir: str = "start",
    bundles: str | Iterable[str] = (),
    minutes: float = 15.0,
    datalist: str = "",
    where: str = "",
    weights: str = "auto",
    seed: int = 0,
    bundles_dir: str = str(_BUNDLES),
) -> None:
    """Say which detector works on these scans.

    Args:
        data: a folder with a datalist, class folders or nothing but normal scans, or a list.
        output_dir: where start.html and what belongs to it go.
        bundles: names of the bundles to try, instead of the usual cheap ones.
        minutes: after which nothing more is fitted.
        datalist: file name in the folder, if not the usual one.
        where: column=value limits the cases of the splits val and test, e.g. rep=1.
        weights: auto takes those that are installed or in the folder of MEDAD_WEIGHTS; none takes random ones.
        seed: of what is drawn.
        bundles_dir: where the bundles are.
    """
    names = [bundles] if isinstance(bundles, str) and bundles else list(bundles)
    start(data, output_dir, Path(bundles_dir), names, minutes, datalist, where, weights, seed)


if __name__ == "__main__":
    run_tool(main)
