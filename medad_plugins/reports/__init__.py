"""Pictures of cases and charts of evaluations."""

from __future__ import annotations

from medad_plugins.reports.charts import contact_sheet, roc_chart, score_chart
from medad_plugins.reports.figures import Plane, case_caption, colour_range, overlay_picture, scan_planes

__all__ = [
    "Plane",
    "case_caption",
    "colour_range",
    "contact_sheet",
    "overlay_picture",
    "roc_chart",
    "scan_planes",
    "score_chart",
]
