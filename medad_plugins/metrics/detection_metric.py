"""Image-level figures as a cumulative metric of MONAI's kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.metrics import CumulativeIterationMetric
from numpy.typing import ArrayLike

from medad_plugins.metrics.detection import detection_summary
from medad_plugins.metrics.poisson_bootstrap import group_number

__all__ = ["DetectionMetric"]

_ALONE = -1


class DetectionMetric(CumulativeIterationMetric):
    """Collects scores and labels of cases, over batches and ranks, for `detection_summary`.

    Args:
        alpha: level of the conformal decision, 0..1.
        validation: scores and labels of labelled validation cases of both classes, see `detection_summary`.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Example:
        >>> metric = DetectionMetric(resamples=0)
        >>> metric(torch.tensor([0.1, 0.4]), torch.tensor([0, 0]))
        >>> metric(torch.tensor([0.3, 0.9]), torch.tensor([1, 1]), groups=["patient 1", "patient 2"])
        >>> metric.aggregate()["auroc"]
        0.75
    """

    def __init__(
        self,
        alpha: float = 0.05,
        *,
        validation: tuple[ArrayLike, ArrayLike] | None = None,
        resamples: int = 1000,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.alpha, self.validation, self.resamples, self.seed = alpha, validation, resamples, seed

    def __call__(  # type: ignore[override]
        self, y_pred: Any, y: Any = None, groups: Sequence[str] | None = None
    ) -> None:
        """Add a batch.

        Args:
            y_pred: scores ``(B,)`` or ``(B, 1)``, or scores and p-values ``(B, 2)``; a list of such cases.
            y: labels ``(B,)`` or ``(B, 1)``, 0 normal, 1 abnormal.
            groups: patient (or cluster) per case; None makes every case its own.
        """
        values, labels = _rows(y_pred), _rows(y)[:, 0]
        if values.shape[1] == 1:
            values = torch.cat([values, torch.full_like(values, float("nan"))], dim=1)
        if len(labels) != len(values) or (groups is not None and len(groups) != len(values)):
            raise ValueError(f"as many scores, labels and groups: got {len(values)}, {len(labels)}, {groups}")
        numbers = [_ALONE] * len(values) if groups is None else [group_number(group) for group in groups]
        self.extend(values, labels, torch.tensor(numbers, dtype=torch.int64))

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor | None = None, **kwargs: Any) -> torch.Tensor:
        self(y_pred, y, **kwargs)
        return y_pred

    def aggregate(self) -> dict[str, Any]:
        """The figures of all cases so far, over all ranks where there are several.

        Raises:
            ValueError: only some of the cases have a p-value, or what `detection_summary` raises.
        """
        buffer = self.get_buffer()
        values, labels, numbers = buffer if buffer is not None else (torch.zeros(0, 2), torch.zeros(0), torch.zeros(0))
        missing = values[:, 1].isnan()
        if missing.any() and not missing.all():
            raise ValueError("either all cases have a p-value or none has")
        groups = [(number, index if number == _ALONE else 0) for index, number in enumerate(numbers.tolist())]
        return detection_summary(
            values[:, 0].tolist(),
            labels.int().tolist(),
            None if missing.any() else values[:, 1].tolist(),
            self.alpha,
            groups=groups,
            validation=self.validation,
            resamples=self.resamples,
            seed=self.seed,
        )


def _rows(cases: Any) -> torch.Tensor:
    """Numbers of cases, ``(B, n)`` float64."""
    if not isinstance(cases, torch.Tensor):
        cases = torch.stack([torch.as_tensor(case) for case in cases])
    return cases.detach().to("cpu", torch.float64).reshape(len(cases), -1)
