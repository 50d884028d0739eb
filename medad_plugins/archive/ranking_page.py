"""The page of a ranking: the most suspicious scans of a folder with their maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medad_plugins.files import atomic_path
from medad_plugins.reports import html_page, scan_card
from medad_plugins.reports.page_skeleton import number_text

__all__ = ["RankedScan", "write_ranking_page"]


@dataclass(frozen=True)
class RankedScan:
    """A scan ``(C, *spatial)``, 0 to 1, an image with columns first, its map, score and rank, and a volume's affine."""

    rank: int
    case_id: str
    score: float
    scan: NDArray[np.float32]
    anomaly_map: NDArray[np.float32]
    affine: NDArray[np.float64]


def write_ranking_page(
    path: str | Path,
    scans: Sequence[RankedScan],
    scores: NDArray[np.float64],
    limits: tuple[float, float],
    unreadable: int = 0,
) -> None:
    """Write one HTML file that loads nothing outside itself.

    Args:
        path: of the file.
        scans: those that are shown, the first in rank first.
        scores: of all scans of the folder.
        limits: map values at the ends of the colour scale, one for all scans.
        unreadable: how many scans could not be read.
    """
    middle, high = (float(value) for value in np.quantile(scores, [0.5, 0.95]))
    read = f" Scans that could not be read: {unreadable}, see <code>ranking.csv</code>." if unreadable else ""
    body = (
        f"<h1>The {len(scans)} most suspicious of {len(scores)} scans</h1>\n"
        f'<p class="soft">Each scan is compared with the others of its folder; no labels are used. Half of all scores '
        f"lie below {number_text(middle)}, 95 % below {number_text(high)}. What is first is rare in this folder, which "
        f"does not make it sick. For research only.{read}</p>\n"
        f'<div class="cards">\n{"".join(_card(scan, limits) for scan in scans)}</div>\n'
    )
    with atomic_path(path) as temporary:
        temporary.write_text(html_page("Ranking of a folder", body), encoding="utf-8")


def _card(scan: RankedScan, limits: tuple[float, float]) -> str:
    note = f"score {number_text(scan.score)}"
    return scan_card(f"{scan.rank}. {scan.case_id}", note, scan.scan, scan.anomaly_map, scan.affine, limits)
