"""A page that shows what recipes make of normal scans."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medad_plugins.files import write_text
from medad_plugins.reports.figures import plane_pictures, scan_planes
from medad_plugins.reports.page_skeleton import html_page, table_html
from medad_plugins.synthesis import Recipe, SourcePool, SynthesizeAnomalyd

__all__ = ["write_synthesis_page"]

_PANELS = ("as it was", "as it was made", "target and changed region")
_SIDE = 256


@dataclass(frozen=True)
class _Shown:
    """Pictures (JPEG) of a made case and what its record says."""

    pictures: tuple[bytes, ...]
    caption: str


def _jpeg(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=80, subsampling=0)
    return buffer.getvalue()


def _affine(image: Any, dims: int) -> NDArray:
    if hasattr(image, "affine"):
        return np.asarray(image.affine)
    return np.array([[0, -1.0, 0], [-1, 0, 0], [0, 0, 1]]) if dims == 2 else np.eye(4)  # rows and columns as they are


def _shown(case: Mapping[Any, Any]) -> _Shown:
    mask, target = np.asarray(case["mask"])[0], np.asarray(case["target"])[0]
    affine = _affine(case["image"], mask.ndim)
    planes = [scan_planes(np.asarray(case[key]), target, mask, affine)[0] for key in ("clean", "image")]
    before = plane_pictures(planes[0], (0, 1), _SIDE)[0]
    after, _, over = plane_pictures(planes[1], (0, 1), _SIDE)
    where = f"{100 * mask.mean():.2g} % changed" if mask.any() else "left as it was"
    return _Shown(tuple(_jpeg(picture) for picture in (before, after, over)), where)


def _section(name: str, shown: Sequence[_Shown]) -> str:
    cards = []
    for one in shown:
        figures = "".join(
            f'<figure><img src="data:image/jpeg;base64,{base64.b64encode(picture).decode()}" '
            f'alt="{escape(name)}, {what}"><figcaption>{what}</figcaption></figure>'
            for picture, what in zip(one.pictures, _PANELS, strict=True)
        )
        cards.append(
            f'<article class="card"><header><b>{escape(one.caption)}</b></header>'
            f'<div class="panels">{figures}</div></article>'
        )
    return f'<section><h2>{escape(name)}</h2><div class="cards">{"".join(cards)}</div></section>\n'


def write_synthesis_page(
    path: str | Path,
    recipes: Sequence[Recipe],
    dataset: Any,
    body_key: str | None = None,
    examples: int = 4,
    timed: int = 12,
    seed: int = 0,
) -> None:
    """Write a page with examples of every recipe, how much of a scan it changes, and how long it takes.

    Args:
        path: HTML file.
        recipes: what to show.
        dataset: sequence of preprocessed normal cases with ``image`` and ``case_id``, at least two, of one shape.
        body_key: key of a mask to stay in, see `SynthesizeAnomalyd`.
        examples: pictures of each recipe.
        timed: cases made of each recipe for the table.
        seed: of all that is drawn.

    Raises:
        InputError: for too few or unequal cases.
    """
    pool = SourcePool(dataset)
    dims = len(np.asarray(dataset[0]["image"]).shape) - 1
    rows, sections = [], []
    for recipe in recipes:
        synthesizer = SynthesizeAnomalyd([recipe], "image", None, 1.0, pool, body_key, dims).set_random_state(seed)
        made, seconds = [], 0.0
        for index in range(max(examples, timed)):
            case = dataset[index % len(dataset)]
            start = time.perf_counter()
            made.append(synthesizer(case))
            seconds += time.perf_counter() - start
        shares = [float(np.asarray(case["mask"]).mean()) for case in made]
        changed = [share for share in shares if share > 0]
        rows.append(
            [
                recipe.name,
                len(changed) / len(shares),
                float(np.mean(changed)) if changed else 0.0,
                1000 * seconds / len(made),
            ]
        )
        sections.append(_section(recipe.name, [_shown(case) for case in made[:examples]]))
    columns = ("recipe", "share of scans changed", "share of the scan changed", "ms a scan")
    table = table_html(columns, rows, caption="Times are of this machine, with whatever else it did.", sortable=True)
    body = f"<h1>Synthetic anomalies</h1>{table}{''.join(sections)}"
    write_text(path, html_page("Synthetic anomalies", body))
