"""A site as NVFlare runs it; named by the job, imported by NVFlare alone."""

from __future__ import annotations

import logging
from typing import Any

from nvflare.apis.executor import Executor
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.signal import Signal
from nvflare.app_common.abstract.fl_model import FLModel
from nvflare.app_common.utils.fl_model_utils import FLModelUtils

from medad_plugins.errors import find_input_error
from medad_plugins.federated.messages import Request
from medad_plugins.federated.nvflare_arrays import to_arrays, to_tensors
from medad_plugins.federated.site import BundleSite

__all__ = ["SiteExecutor"]

logger = logging.getLogger(__name__)


class SiteExecutor(Executor):
    """Does a federation's steps with the bundle and the scans of this machine.

    Args:
        bundle_root: the bundle's folder on this machine.
        keys: values of its ``train.yaml``, plain ones.
        least_cases: see `BundleSite`.
    """

    def __init__(self, bundle_root: str, keys: dict[str, Any] | None = None, least_cases: int = 5) -> None:
        super().__init__()
        self.bundle_root, self.keys, self.least_cases = bundle_root, keys or {}, least_cases
        self._site: BundleSite | None = None

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        """Answer a request; what went wrong stands in this machine's log, and the answer says no more than that."""
        try:
            if self._site is None:
                name = fl_ctx.get_identity_name()
                self._site = BundleSite(name, self.bundle_root, self.least_cases, **self.keys)
            asked = FLModelUtils.from_shareable(shareable)
            rounds = (asked.current_round, asked.total_rounds)
            reply = self._site.answer(Request(task_name, asked.meta["model"], to_tensors(asked.params), *rounds))
        except Exception as error:
            found = find_input_error(error)
            if found is None:
                logger.exception("the step %s failed", task_name)
            else:
                logger.error("error: %s", found)
            return make_reply(ReturnCode.EXECUTION_EXCEPTION)
        return FLModelUtils.to_shareable(FLModel(params=to_arrays(reply.state), meta={"cases": reply.cases}))
