"""What every training has, whatever is trained: one value that its handlers take their parts from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from monai.inferers import Inferer
from monai.transforms import Compose

from medad_plugins.data import Cohort, FaultTolerantLoader, ScanFormat
from medad_plugins.networks import AnomalyNetwork

__all__ = ["TrainingSetup", "model_settings"]


def model_settings(network: Mapping[str, Any], scan: ScanFormat) -> dict[str, Any]:
    """What a model file records of its training: see `medad_plugins.engines.ModelFile`.

    Args:
        network: keyword arguments that the network was made with.
        scan: how scans came to it.
    """
    return {"network": dict(network), **asdict(scan)}


@dataclass(frozen=True)
class TrainingSetup:
    """The cases, how they come to the network, the network, and where results go.

    Args:
        bundle: the bundle's name, written into the model.
        network: what is trained, on its device.
        settings: keyword arguments to rebuild the network from.
        scan: how scans come to the network.
        cohort: the cases.
        preprocessing: of a case.
        inferer: how the network is called.
        ckpt_path: the model file.
        output_dir: folder for report and pictures.
        device: where the network is.
        batch_size: cases a batch, also of held-out and test cases.
        num_workers: loading processes.
        resume: go on from where a training was stopped.
        select_by: which weights are kept, see `medad_plugins.handlers.KeepBest`.
        tensorboard: write what `medad_plugins.handlers.TensorBoardLog` writes.
        group: column of the list whose values get reference scores of their own.

    Example:
        >>> from medad_plugins.data import Cohort, ScanFormat
        >>> from medad_plugins.inferers import scan_inferer
        >>> from medad_plugins.networks import AnomalyNetwork
        >>> from medad_plugins.transforms import ScanPreprocessing
        >>> scan = ScanFormat(image_size=64)
        >>> parts = AnomalyNetwork(), {}, scan, Cohort(), ScanPreprocessing(scan), scan_inferer(scan)
        >>> TrainingSetup("mine", *parts, "models/model.pt", "output").model_settings["image_size"]
        64
    """

    bundle: str
    network: AnomalyNetwork
    settings: Mapping[str, Any]
    scan: ScanFormat
    cohort: Cohort
    preprocessing: Compose
    inferer: Inferer
    ckpt_path: str | Path
    output_dir: str | Path
    device: str | torch.device = "cpu"
    batch_size: int = 8
    num_workers: int = 0
    resume: bool = False
    select_by: Any = "last"
    tensorboard: bool = False
    group: str = ""

    @property
    def model_settings(self) -> dict[str, Any]:
        """What the model file records of the training."""
        return model_settings(self.settings, self.scan)

    def beside_model(self, suffix: str) -> Path:
        """A file beside the model that is gone once the training has ended, e.g. ``model.pt.stopped``."""
        return Path(f"{self.ckpt_path}{suffix}")

    def held_out(self) -> FaultTolerantLoader:
        """Batches of the held-out normal cases."""
        return FaultTolerantLoader(self.cohort.validation, self.preprocessing, self.batch_size, self.num_workers)
