"""The worst pairs of copies as a picture, to judge them by eye."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from medad_plugins.audit.audit import Audit
from medad_plugins.audit.copy_shares import Pair, part_of
from medad_plugins.audit.thumbnails import Grid, grey, resize, to_unit_range, upright
from medad_plugins.data import read_scan
from medad_plugins.files import atomic_path

__all__ = ["draw_pairs", "worst_pairs"]

_COLUMNS = 3
_PIXELS = 192


def worst_pairs(audit: Audit, count: int = 12) -> list[Pair]:
    """The pairs to look at: across splits before within one, one of each group.

    Half of them are the most similar ones, half the least similar ones that still count, by which to judge the rule.
    """
    across = [pair for pair in audit.pairs if _splits(audit, pair) > 1]
    within = [pair for pair in audit.pairs if _splits(audit, pair) == 1]
    chosen: list[Pair] = []
    for pairs in (across, within):
        taken = {int(audit.groups[pair.first]) for pair in chosen}
        half = (count - len(chosen) + 1) // 2
        best = _one_a_group(audit, pairs, taken)[:half]
        taken |= {int(audit.groups[pair.first]) for pair in best}
        least = _one_a_group(audit, pairs[::-1], taken)[: count - len(chosen) - len(best)]
        chosen += best + least[::-1]
    return chosen


def draw_pairs(audit: Audit, path: str | Path, count: int = 12) -> None:
    """Write the picture (PNG): each pair side by side with split, label, similarity and how the second is turned."""
    pairs = worst_pairs(audit, count)
    if not pairs:
        return
    rows = -(-len(pairs) // _COLUMNS)
    figure = Figure(figsize=(4.6 * _COLUMNS, 2.95 * rows), layout=ConstrainedLayoutEngine(hspace=0.06))
    FigureCanvasAgg(figure)
    axes = np.atleast_1d(figure.subplots(rows, _COLUMNS, squeeze=False)).ravel()
    for ax in axes:
        ax.set_axis_off()
    for ax, pair in zip(axes, pairs):
        gap = np.ones((_PIXELS, 6), dtype=np.float32)
        pictures = [_picture(Path(str(audit.cases[i]["image"]))) for i in (pair.first, pair.second)]
        ax.imshow(np.concatenate([pictures[0], gap, pictures[1]], axis=1), cmap="gray", vmin=0, vmax=1)
        parts = " | ".join(" ".join(part_of(audit.cases[i])) for i in (pair.first, pair.second))
        ax.set_title(f"{parts}\n{_describe(pair)}", fontsize=9)
        names = " | ".join(_short(str(audit.cases[i].get("case_id", ""))) for i in (pair.first, pair.second))
        ax.text(0.5, -0.03, names, transform=ax.transAxes, ha="center", va="top", fontsize=7, color="0.35")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def _splits(audit: Audit, pair: Pair) -> int:
    return len({part_of(audit.cases[i])[0] for i in (pair.first, pair.second)})


def _one_a_group(audit: Audit, pairs: Sequence[Pair], taken: set[int]) -> list[Pair]:
    first: dict[int, Pair] = {}
    for pair in pairs:
        group = int(audit.groups[pair.first])
        if group not in taken:
            first.setdefault(group, pair)
    return list(first.values())


def _describe(pair: Pair) -> str:
    if pair.exact:
        return "equal pixels"
    return f"similarity {pair.similarity:.3f}" + (f", {pair.orientation}" if pair.turned else "")


def _short(name: str, length: int = 34) -> str:
    return name if len(name) <= length else f"...{name[3 - length :]}"


def _picture(path: Path) -> Grid:
    """A scan as ``(rows, columns)``, 0..1: a picture, or the middle axial slice of a volume, nose up."""
    scan = read_scan(path)
    unit = to_unit_range(upright(grey(scan), scan.affine), scan.stored_bits)
    if unit.ndim == 3:
        return resize(unit[:, ::-1, unit.shape[2] // 2], _PIXELS).T
    return resize(unit, _PIXELS).T
