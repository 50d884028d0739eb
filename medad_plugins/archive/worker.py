"""One process's part in an archive: a bundle's inference, loaded once, applied to whatever cases come."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.bundle import ConfigWorkflow

from medad_plugins.archive.case_files import CaseFiles
from medad_plugins.data import Case, FaultTolerantLoader
from medad_plugins.engines import CaseEvaluator
from medad_plugins.errors import InputError
from medad_plugins.handlers.results import case_row, merged_cases
from medad_plugins.key_values import as_written, names_as_written
from medad_plugins.manifest import sha256
from medad_plugins.transforms import remove_case_files

__all__ = ["ArchiveWorker"]

logger = logging.getLogger(__name__)

_MOST_ATTEMPTS = 3


class ArchiveWorker:
    """Runs a bundle's ``inference.yaml`` on cases given one batch after another.

    Preprocessing, network, inferer and postprocessing are the configuration's, so maps, masks and rows are those that
    ``monai.bundle run`` writes. A case at which a process died is tried alone afterwards, and given up after three
    attempts, so that a scan too large for the memory does not stop the others.

    Args:
        bundle_root: the bundle's folder.
        output_dir: folder for all results.
        keys: values of ``inference.yaml`` by name.

    Raises:
        InputError: a key is unknown, or the model cannot be used.
    """

    def __init__(self, bundle_root: str | Path, output_dir: str | Path, keys: Mapping[str, Any]) -> None:
        path = Path(bundle_root) / "configs" / "inference.yaml"
        if not path.is_file():
            raise InputError("this is not a bundle", where=bundle_root, expected="configs/inference.yaml in it")
        workflow = ConfigWorkflow(
            config_file=str(path),
            workflow_type="infer",
            logging_file=False,
            bundle_root=as_written(str(bundle_root)),
            output_dir=as_written(str(output_dir)),
            **names_as_written(keys),
        )
        workflow.initialize()
        self._parsed = workflow.parser.get_parsed_content
        self.files = CaseFiles(output_dir)
        self.fdr: float | None = self._parsed("fdr")
        self.postprocessing, self.batch_size = self._parsed("postprocessing"), self._parsed("batch_size")

    def settings(self) -> dict[str, Any]:
        """What the results depend on, as plain values: the model's hash, the level, what is written."""
        model = Path(self._parsed("ckpt_path"))
        names = ("alpha", "save", "masks", "pixel_alpha", "image_size", "crop", "intensity", "spatial_dims")
        return {
            "network": type(self._parsed("network_def")).__name__,
            "model": sha256(model),
            **{name: self._parsed(name) for name in names},
        }

    def __call__(self, cases: Sequence[Case]) -> list[dict[str, Any]]:
        """Compute those of the cases that have no result yet, and return the rows of all."""
        waiting = [case for case in cases if not self.files.is_done(case)]
        fresh = [case for case in waiting if self.files.attempts(case) == 0]
        self._compute(fresh)
        for case in waiting:
            if case not in fresh:
                self._compute_alone(case)
        return [row for case in cases if (row := self.files.read(case)) is not None]

    def _compute_alone(self, case: Case) -> None:
        attempts = self.files.attempts(case)
        if attempts < _MOST_ATTEMPTS:
            self._compute([case])
            return
        sentence = str(
            InputError(
                f"a process ended at this scan {attempts} times",
                where=case["image"],
                todo="give the workers more memory, or run inference on it alone",
            )
        )
        self.files.write(case, case_row(case, sentence))

    def _compute(self, cases: Sequence[Case]) -> None:
        if not cases:
            return
        # of an earlier run: where this one fails, it must not pass for this one's
        remove_case_files(self.files.output_dir, [case["case_id"] for case in cases])
        for case in cases:
            self.files.begin(case)
        loader = FaultTolerantLoader(cases, self._parsed("preprocessing"), self.batch_size)
        listed = {case["case_id"]: case for case in cases}

        def write(engine: Engine) -> None:
            for case in merged_cases(engine):
                self.files.write(listed[case["case_id"]], case_row(case, case.get("error") or None))

        evaluator = CaseEvaluator(
            device=torch.device(self._parsed("device")),
            val_data_loader=loader,
            network=self._parsed("network_def"),
            inferer=self._parsed("inferer"),
            postprocessing=self.postprocessing,
        )
        evaluator.add_event_handler(Events.ITERATION_COMPLETED, write)
        evaluator.run()
        for case, reason in loader.failures:
            self.files.write(case, case_row(case, reason))
        self.files.forget_attempts(cases)
