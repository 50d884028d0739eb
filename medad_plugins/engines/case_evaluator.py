"""An evaluator that leaves out the cases that cannot be finished and goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from ignite.engine import Engine
from monai.engines.evaluator import SupervisedEvaluator
from monai.engines.utils import IterationEvents, engine_apply_transform

from medad_plugins.data.case_items import failure_sentence

__all__ = ["CaseEvaluator"]

logger = logging.getLogger(__name__)


class CaseEvaluator(SupervisedEvaluator):
    """MONAI's `SupervisedEvaluator` for which what one case provokes after loading is that case's own matter.

    A case whose map is not finite, or whose postprocessing fails in whatever way, is taken out of the batch and added
    to the ``failures`` of the loader with the reason, as if it could not have been read. With a loader that keeps no
    failures, the error is raised as MONAI does.

    Args:
        others: as in MONAI.
    """

    def _register_postprocessing(self, posttrans: Callable) -> None:
        failures: list[Any] | None = getattr(self.data_loader, "failures", None)
        if failures is None:
            super()._register_postprocessing(posttrans)
            return

        @self.on(IterationEvents.MODEL_COMPLETED)
        def _finish_cases(engine: Engine) -> None:
            state: Any = engine.state
            finished = []
            for batch, output in zip(state.batch, state.output, strict=True):
                try:
                    finished.append(engine_apply_transform(batch, output, posttrans))
                except Exception as error:  # whatever a scan provokes, the other cases go on
                    self._leave_out(batch["case_id"], error)
            state.batch, state.output = [case for case, _ in finished], [found for _, found in finished]

    def _leave_out(self, case_id: str, error: Exception) -> None:
        loader: Any = self.data_loader
        case = next(case for case in loader.data if case["case_id"] == case_id)
        sentence = failure_sentence(error, case, "the result of the scan cannot be made")
        logger.warning("left out %s: %s", case_id, sentence)
        loader.failures.append((case, sentence))
