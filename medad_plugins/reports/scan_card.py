"""A card of a page: a scan, its map, and both."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medad_plugins.reports.figures import plane_pictures, scan_planes

__all__ = ["scan_card"]

_PANELS = ("scan", "map", "both")
_SIDE = 224


def scan_card(
    title: str,
    note: str,
    scan: NDArray[np.float32],
    anomaly_map: NDArray[np.float32],
    affine: NDArray[np.float64],
    limits: tuple[float, float],
    truth: NDArray[np.bool_] | None = None,
) -> str:
    """Markup of a card, for a ``<div class="cards">``; of a volume the axial slice through the map's highest value.

    Args:
        title: plain text.
        note: plain text beside it.
        scan: ``(C, *spatial)``, 0..1, an image with columns first.
        anomaly_map: ``(*spatial)``.
        affine: voxel to world.
        limits: map values at the ends of the colour scale.
        truth: ``(*spatial)``, what is to be found, outlined in an image; None for nothing.
    """
    nothing = np.zeros(anomaly_map.shape, dtype=bool)
    plane = scan_planes(scan, anomaly_map, nothing, affine)[0]
    if truth is not None and anomaly_map.ndim == 2:
        # turned as the scan is
        plane = replace(plane, truth=scan_planes(scan, anomaly_map, truth, affine)[0].mask)
    figures = "".join(
        f'<figure><img src="data:image/jpeg;base64,{_jpeg(picture)}" alt="{escape(title, quote=True)}, {what}">'
        f"<figcaption>{what}</figcaption></figure>"
        for picture, what in zip(plane_pictures(plane, limits, _SIDE), _PANELS, strict=True)
    )
    return (
        f'<article class="card"><header><b>{escape(title)}</b> <span class="soft">{escape(note)}</span></header>'
        f'<div class="panels">{figures}</div></article>'
    )


def _jpeg(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=80, subsampling=0)
    return base64.b64encode(buffer.getvalue()).decode()
