"""Pictures of cases, charts and the report page of evaluations."""

from __future__ import annotations

from medad_plugins.reports.charts import contact_sheet, roc_chart, score_chart
from medad_plugins.reports.figures import (
    Plane,
    case_caption,
    colour_range,
    decision_words,
    overlay_picture,
    scan_planes,
)
from medad_plugins.reports.gallery import Example, Gallery, RenderedCase
from medad_plugins.reports.page import write_evaluation_page
from medad_plugins.reports.page_skeleton import html_page, table_html
from medad_plugins.reports.scan_card import scan_card

__all__ = [
    "Example",
    "Gallery",
    "Plane",
    "RenderedCase",
    "case_caption",
    "colour_range",
    "contact_sheet",
    "decision_words",
    "html_page",
    "overlay_picture",
    "roc_chart",
    "scan_card",
    "scan_planes",
    "score_chart",
    "table_html",
    "write_evaluation_page",
]
