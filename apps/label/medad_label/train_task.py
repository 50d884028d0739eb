"""A bundle's training as MONAI Label's task: on the scans whose final label is empty."""

from __future__ import annotations

import csv
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.bundle import ConfigParser
from monai.transforms import LoadImage
from monailabel.interfaces.datastore import Datastore
from monailabel.tasks.train.bundle import BundleTrainTask
from monailabel.utils.others.generic import device_list, name_to_device

from medad_label.request_values import plain_value, refusals
from medad_plugins.errors import InputError
from medad_plugins.files import atomic_path, output_folder

__all__ = ["NormalTrainTask"]

logger = logging.getLogger(__name__)

# how scans come to the network: a new model keeps to what the old one was trained with
_AS_BEFORE = ("spatial_dims", "image_size", "in_channels", "crop", "intensity")
_SET_HERE = {"bundle_root", "dataset_dir", "datalist", "where", "output_dir", "ckpt_path", "device"}


class NormalTrainTask(BundleTrainTask):
    """Trains the bundle as ``train.yaml`` does and replaces its ``models/model.pt``.

    Normal cases are the scans whose final label has no voxel marked; a part of them is held out to calibrate on, as
    always. Scans with something marked are left out, scans without a final label too. A request may set every plain
    key of ``train.yaml``; how the scans are read stays as in the present model. The list of scans goes to the bundle's
    ``output/monai_label``.

    Args:
        path: the bundle's folder.
        conf: the app's configuration.
    """

    def config(self) -> dict[str, Any]:
        """What a viewer offers: empty means as the bundle has it, or as the present model was trained."""
        return {"device": device_list(), **dict.fromkeys(("max_iterations", "weights", *_AS_BEFORE[:3]), "")}

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        with refusals():
            folder = output_folder(Path(self.bundle_path) / "output" / "monai_label")
            _write_list(folder / "datalist.csv", datastore.datalist())
            overrides = {
                **self._as_before(),
                **self._wishes(request),
                "bundle_root": self.bundle_path,
                "dataset_dir": str(folder),
                "output_dir": str(folder),
                "device": name_to_device(request.get("device", "cuda")),
            }
            self.run_single_gpu({}, overrides)
        return {}

    def _as_before(self) -> dict[str, Any]:
        inference = Path(self.bundle_path, "configs", "inference.yaml")
        if not Path(self.bundle_path, "models", self.const.model_pytorch()).is_file():
            return {}
        parser = ConfigParser()
        parser.read_config(str(inference))
        parser["bundle_root"] = self.bundle_path
        return {name: parser.get_parsed_content(name) for name in _AS_BEFORE}

    def _wishes(self, request: Mapping[str, Any]) -> dict[str, Any]:
        keys = ConfigParser.load_config_file(self.bundle_config_path)
        plain = {name for name, value in keys.items() if not isinstance(value, (dict, list))} - _SET_HERE
        return {k: plain_value(k, v) for k, v in request.items() if k in plain and v not in ("", None)}


def _write_list(path: Path, labelled: Sequence[Mapping[str, str]]) -> None:
    """Write the datalist that the training reads: image and label, 0 for an empty mask.

    Raises:
        InputError: fewer than two scans are normal, or a label cannot be read.
    """
    rows = [(entry["image"], int(_marks_something(entry["label"]))) for entry in labelled]
    normal = sum(label == 0 for _, label in rows)
    logger.info("%d scans with an empty final label to train on, %d with a marked one.", normal, len(rows) - normal)
    if normal < 2:
        raise InputError(
            "there are too few normal scans to train on",
            expected="at least two scans with an empty final label",
            found=f"{normal}, and {len(rows) - normal} with something marked",
            todo="submit an empty label for every scan that is normal",
        )
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("image", "label"), *rows])


def _marks_something(path: str) -> bool:
    try:
        return bool(np.any(np.asarray(LoadImage(image_only=True)(path))))
    except Exception as error:  # damaged bytes provoke whatever they happen to mean to the reader
        raise InputError("a label cannot be read", where=path, todo="submit it again") from error
