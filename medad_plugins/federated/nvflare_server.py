"""The server as NVFlare runs it; named by the job, imported by NVFlare alone."""

from __future__ import annotations

from typing import Any

from nvflare.app_common.abstract.fl_model import FLModel
from nvflare.app_common.workflows.model_controller import ModelController

from medad_plugins.errors import InputError, find_input_error
from medad_plugins.federated.federation import Federation
from medad_plugins.federated.messages import Reply, Request
from medad_plugins.federated.nvflare_arrays import to_arrays, to_tensors

__all__ = ["FederationController"]


class FederationController(ModelController):
    """Runs a `Federation` over NVFlare's sites, all of which must answer.

    Args:
        bundle_root: the bundle's folder on the server.
        sites: their names.
        rounds: see `Federation`.
        keys: values of the bundle's ``train.yaml``, plain ones.
    """

    def __init__(self, bundle_root: str, sites: list[str], rounds: int = 5, keys: dict[str, Any] | None = None) -> None:
        super().__init__(persistor_id="")  # the federation keeps its model itself
        self.bundle_root, self.sites, self.rounds, self.keys = bundle_root, sites, rounds, keys or {}

    def run(self) -> None:
        """Run all steps; what goes wrong ends the job with a sentence."""
        try:
            Federation(self.bundle_root, self.rounds, **self.keys).run(self._ask)
        except Exception as error:
            found = find_input_error(error)
            if found is None:
                raise
            self.panic(str(found))

    def _ask(self, request: Request) -> list[Reply]:
        model = FLModel(
            params=to_arrays(request.state),
            current_round=request.number,
            total_rounds=request.rounds,
            meta={"model": request.model},
        )
        answers = self.send_model_and_wait(task_name=request.step, data=model, targets=self.sites)
        replies = {
            answer.meta["client_name"]: Reply(
                answer.meta["client_name"], answer.meta["cases"], to_tensors(answer.params)
            )
            for answer in answers
        }
        if not all(site in replies for site in self.sites):
            expected, found = ", ".join(self.sites), ", ".join(replies) or "none"
            todo = "see the log of the others"
            raise InputError(f"not every site could {request.step}", expected=expected, found=found, todo=todo)
        # in the order of the list, so that the same sites always give the same model
        return [replies[site] for site in self.sites]
