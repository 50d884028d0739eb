"""Ignite handlers of the figures of detection and localization, for evaluators of any kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ignite.metrics.metric import reinit__is_reduced
from monai.handlers import IgniteMetricHandler

from medad_plugins.metrics import DetectionMetric, LocalizationMetric

__all__ = ["Detection", "Localization"]


class _Figures(IgniteMetricHandler):
    """Puts a metric's figures into ``engine.state.metrics`` when an epoch ends: under their names, and all together."""

    def __init__(self, metric: DetectionMetric | LocalizationMetric, output_transform: Callable) -> None:
        super().__init__(metric_fn=metric, output_transform=output_transform, save_details=False)

    @reinit__is_reduced
    def update(self, output: Sequence[Any]) -> None:
        """Add a batch ``(y_pred, y)`` or ``(y_pred, y, groups)``."""
        if len(output) not in (2, 3):
            raise ValueError(f"the output has to be (y_pred, y) or (y_pred, y, groups), got {len(output)} items")
        self.metric_fn(*output)


class Detection(_Figures):
    """Image-level figures of an evaluator's cases, see `detection_summary`.

    Args:
        output_transform: from the engine's output to ``(y_pred, y)`` or ``(y_pred, y, groups)``: scores ``(B, 1)`` or
            scores and p-values ``(B, 2)``, labels ``(B,)``, and the patients' names.
        settings: of `DetectionMetric`.
    """

    def __init__(self, output_transform: Callable = lambda output: output, **settings: Any) -> None:
        super().__init__(DetectionMetric(**settings), output_transform)


class Localization(_Figures):
    """Pixel-wise and lesion-wise figures of an evaluator's maps, see `LocalizationMetric`.

    Args:
        output_transform: from the engine's output to ``(y_pred, y)`` or ``(y_pred, y, groups)``: maps and masks
            ``(B, 1, *spatial)`` or lists of ``(1, *spatial)``, and the patients' names.
        settings: of `LocalizationMetric`.
    """

    def __init__(self, output_transform: Callable = lambda output: output, **settings: Any) -> None:
        super().__init__(LocalizationMetric(**settings), output_transform)
