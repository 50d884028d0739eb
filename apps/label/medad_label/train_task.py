"""A bundle's training as MONAI Label's task: on the scans whose final label is empty."""

from __future__ import annotations

import csv
import logging
import shutil
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from monai.bundle import ConfigParser
from monai.transforms import LoadImage
from monailabel.interfaces.datastore import Datastore
from monailabel.tasks.train.bundle import BundleTrainTask
from monailabel.utils.others.generic import device_list, name_to_device

from medad_label.request_values import plain_value, refusals
from medad_plugins.bundle import method_of
from medad_plugins.engines import ModelFile, write_model
from medad_plugins.errors import InputError
from medad_plugins.files import atomic_path, output_folder
from medad_plugins.scorers import Calibration

__all__ = ["NormalTrainTask", "replace_model"]

logger = logging.getLogger(__name__)

# how scans come to the network: a new model keeps to what the old one was trained with
_AS_BEFORE = (
    *("spatial_dims", "image_size", "in_channels", "slice_axis", "paired"),
    *("roi_size", "spacing", "overlap", "crop", "intensity"),
)
_SET_HERE = {"bundle_root", "dataset_dir", "datalist", "where", "output_dir", "ckpt_path", "device"}


class NormalTrainTask(BundleTrainTask):
    """Trains the bundle as ``train.yaml`` does and replaces its ``models/model.pt``, of which a dated copy stays.

    A model that is calibrated on too few scans to flag any at ``alpha`` replaces none that can: it stays in the
    bundle's ``output/monai_label``, and the request fails with a sentence, unless it says ``replace_anyway``.

    Normal cases are the scans whose final label has no voxel marked; a part of them is held out to calibrate on, as
    always. Scans with something marked are labelled anomalies for a bundle that learns from some (`deep_sad`) and are
    left out by the others; scans without a final label are left out by all. A request may set every plain
    key of ``train.yaml``; how the scans are read stays as in the present model. The list of scans goes to the bundle's
    ``output/monai_label``.

    Args:
        path: the bundle's folder.
        conf: the app's configuration.
    """

    def config(self) -> dict[str, Any]:
        """What a viewer offers: empty means as the bundle has it, or as the present model was trained."""
        empty = dict.fromkeys(("alpha", "max_iterations", "weights", *_AS_BEFORE[:3]), "")
        return {"device": device_list(), "replace_anyway": False, **empty}

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        with refusals():
            folder = output_folder(Path(self.bundle_path) / "output" / "monai_label")
            alpha, anyway = self._alpha(request), str(request.get("replace_anyway", "")).lower() in ("true", "1")
            _write_list(folder / "datalist.csv", datastore.datalist())
            trained, model = folder / "model.pt", Path(self.bundle_path, "models", self.const.model_pytorch())
            overrides = {
                **self._as_before(),
                **self._wishes(request),
                "bundle_root": self.bundle_path,
                "dataset_dir": str(folder),
                "output_dir": str(folder),
                "ckpt_path": str(trained),
                "device": name_to_device(request.get("device", "cuda")),
            }
            self.run_single_gpu({}, overrides)
            replace_model(model, trained, method_of(self.bundle_path), alpha, anyway)
        return {}

    def _alpha(self, request: Mapping[str, Any]) -> float:
        """The level that the new model must be able to decide at: the request's, or the bundle's."""
        wish = request.get("alpha")
        if wish in ("", None):
            path = Path(self.bundle_path, "configs", "inference.yaml")
            return float(ConfigParser.load_config_file(path)["alpha"])
        alpha = plain_value("alpha", wish)
        if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not 0 < alpha < 1:
            raise InputError("alpha is out of range", expected="a number between 0 and 1", found=wish)
        return float(alpha)

    def _as_before(self) -> dict[str, Any]:
        inference = Path(self.bundle_path, "configs", "inference.yaml")
        if not Path(self.bundle_path, "models", self.const.model_pytorch()).is_file():
            return {}
        parser = ConfigParser()
        parser.read_config(str(inference))
        parser["bundle_root"] = self.bundle_path
        scan = parser.get_parsed_content("scan").upright()
        known = ConfigParser.load_config_file(self.bundle_config_path)
        return {name: getattr(scan, name) for name in _AS_BEFORE if name in known}

    def _wishes(self, request: Mapping[str, Any]) -> dict[str, Any]:
        keys = ConfigParser.load_config_file(self.bundle_config_path)
        plain = {name for name, value in keys.items() if not isinstance(value, (dict, list))} - _SET_HERE
        return {k: plain_value(k, v) for k, v in request.items() if k in plain and v not in ("", None)}


def replace_model(model: Path, trained: Path, bundle: str, alpha: float, anyway: bool = False) -> None:
    """Put a trained model in the place of another, of which a dated copy stays beside it.

    Args:
        model: the present model, which may be missing.
        trained: the new one; it is gone from there afterwards.
        bundle: the method's name.
        alpha: level at which the new one must be able to decide.
        anyway: take it even if it cannot where the present one can.

    Raises:
        InputError: the present model can flag scans at alpha, and the new one cannot.
    """
    new = ModelFile(trained, bundle)
    present, calibration = _present_calibration(model, bundle), _calibration(new)
    cases = calibration.reference_scores.numel()
    if not anyway and present.can_flag(alpha) and not calibration.can_flag(alpha):
        raise InputError(
            "the new model does not replace the present one: it could flag nothing",
            where=trained,
            expected=f"at least {calibration.cases_needed(alpha)} held-out normal scans for alpha {alpha:g}",
            found=f"{cases}; the present one has {present.reference_scores.numel()}",
            todo="submit more normal scans, or send replace_anyway true",
        )
    if model.is_file():
        shutil.copy2(model, _free_name(model.with_name(f"{model.stem}_until_{datetime.now():%Y-%m-%d}.pt")))
    output_folder(model.parent)
    write_model(model, new.content)
    trained.unlink()
    few = "" if calibration.can_flag(alpha) else f": too few to flag anything at alpha {alpha:g}"
    logger.info("the new model is calibrated on %d normal scans%s.", cases, few)


def _calibration(file: ModelFile) -> Calibration:
    calibration = Calibration()
    calibration.reference_scores = file.content["model"]["calibration.reference_scores"]
    return calibration


def _present_calibration(model: Path, bundle: str) -> Calibration:
    try:
        return _calibration(ModelFile(model, bundle))
    except InputError:  # there is none, or none that is of use
        return Calibration()


def _free_name(path: Path) -> Path:
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.stem}_{number}{path.suffix}")
    return free


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
