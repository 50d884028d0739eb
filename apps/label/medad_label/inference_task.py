"""A bundle's inference as MONAI Label's task: the bundle's own answer, whole."""

from __future__ import annotations

import json
import math
import os
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monailabel.interfaces.tasks.infer_v2 import InferType
from monailabel.tasks.infer.bundle import BundleInferTask
from torch import nn

from medad_label.request_values import plain_value, refusals
from medad_plugins.bundle import method_of
from medad_plugins.data.nifti_output import write_nifti
from medad_plugins.data.scan_files import NIFTI_SUFFIXES, PICTURE_SUFFIXES
from medad_plugins.errors import InputError
from medad_plugins.reports import decision_words

__all__ = ["AnomalyInferTask"]

_LABEL_SUFFIXES = (*NIFTI_SUFFIXES, ".nrrd")
_ANSWERS = ("anomaly_score", "p_value", "alpha", "is_anomalous", "calibrated_on", "can_flag", "pixel_threshold")
_KEPT = 3  # models in memory


class AnomalyInferTask(BundleInferTask):
    """Mask of a scan in the scan's geometry, and what the bundle decides about it.

    ``anomaly_score``, ``p_value``, ``alpha``, ``is_anomalous``, ``calibrated_on``, ``can_flag``, ``pixel_threshold``,
    ``bundle`` (the method's name) and ``bundle_version`` stand among the response's parameters; the label's name says
    the decision, for viewers show names only. Otherwise this is MONAI Label's task with these differences: network and
    calibration come from one file, that of the request's ``model_filename``; the last three that were asked for stay
    in memory, and alpha changes nothing of them; a request's options cannot carry code; user errors are reported in
    one sentence (status 422); a DICOM series needs no ``result_extension``; any affine is kept; the mask of a 2D scan
    is a picture or a volume of one slice.

    Args:
        path: the bundle's folder.
        conf: the app's configuration.
    """

    def __init__(self, path: str, conf: dict[str, str]) -> None:
        self.displayable_configs: dict[str, Any] = {}
        self._configurations: OrderedDict[tuple[Any, ...], ConfigParser] = OrderedDict()
        self._one_at_a_time = threading.Lock()  # batches run on several threads, the configuration is one
        super().__init__(path, conf, type=InferType.SEGMENTATION)
        if self.is_valid():
            self.dimension = int(self.bundle_config.get_parsed_content("spatial_dims"))
            self.network = None  # the configuration holds it
            self.method = method_of(path)

    def __call__(self, request: dict[str, Any], callbacks: Any = None) -> Any:
        request = {"result_extension": _label_suffix(request.get("image"), self.dimension), **request}
        with self._one_at_a_time, refusals():
            if request.get("image") in ("", None):
                raise InputError("there is no image or session of that name")
            file, answers = super().__call__(request, callbacks)
            if "label_names" in answers:
                answers["label_names"] = {decision_words(answers): 1}
            return file, answers

    def pre_transforms(self, data: dict[str, Any] | None = None) -> Sequence[Callable]:
        self._configure(data or {})
        return list(self.bundle_config.get_parsed_content("preprocessing").transforms)

    def writer(self, data: dict[str, Any], extension: str | None = None, dtype: Any = None) -> tuple[Any, Any]:
        mask, suffix = data["anomaly_mask"][0], data["result_extension"]
        answers: dict[str, Any] = {name: _for_json(data[name]) for name in _ANSWERS}
        answers |= {"bundle": self.method, "bundle_version": self.version}
        if suffix in NIFTI_SUFFIXES:
            return _write_nifti(mask, suffix), answers
        data[self.output_label_key], data[self.output_json_key] = mask, answers
        return super().writer(data, extension, dtype)

    def _get_network(self, device: str, data: dict[str, Any] | None) -> nn.Module:
        network: nn.Module = self.bundle_config.get_parsed_content("network_def")
        return network.to(torch.device(device))

    def _configure(self, data: dict[str, Any]) -> None:
        """Take the configuration of the request's model and device, read before or read now, and set its options."""
        model = self._model_file(data.get("model_filename"))
        options = {name: plain_value(name, data[name]) for name in self.displayable_configs if name in data}
        alpha = options.pop("alpha", self.displayable_configs.get("alpha"))
        device = plain_value("device", data["device"]) if data.get("device") else None
        key = (model, model.stat().st_mtime_ns, device, json.dumps(options, sort_keys=True))
        found = self._configurations.pop(key, None)
        self.bundle_config = self._read(model, device, options) if found is None else found
        self.bundle_config.get_parsed_content("postprocessing").alpha = alpha
        self._configurations[key] = self.bundle_config
        while len(self._configurations) > _KEPT:
            self._configurations.popitem(last=False)

    def _read(self, model: Path, device: Any, options: dict[str, Any]) -> ConfigParser:
        config: ConfigParser = self._load_bundle_config(self.bundle_path, self.bundle_config_path)
        config["ckpt_path"] = str(model)
        config["displayable_configs"] = {**self.displayable_configs, **options}
        if device:
            config["device"] = device
        config.parse()
        return config

    def _model_file(self, name: str | Sequence[str] | None) -> Path:
        """The model file of this name, by default model.pt, in the bundle's folder ``models`` and nowhere else."""
        if name is not None and not isinstance(name, str):
            name = name[0]  # as MONAI Label does with a list of choices
        models = sorted(Path(self.bundle_path, "models").glob("*.pt"))
        for model in models:
            if model.name == (name or self.const.model_pytorch()):
                return model
        expected = f"one of {', '.join(model.name for model in models)}"
        raise InputError("the bundle has no such model", where="model_filename", expected=expected, found=name)


def _label_suffix(image: Any, dimension: int) -> str:
    """Suffix of the answer's file: the scan's own, if labels are written so."""
    name = image.lower() if isinstance(image, str) else ""
    if dimension == 2 and name.endswith(PICTURE_SUFFIXES):
        return ".png"  # without loss, whatever the scan is
    return next((suffix for suffix in _LABEL_SUFFIXES if name.endswith(suffix)), ".nii.gz")


def _write_nifti(mask: MetaTensor, suffix: str) -> str:
    """Write the mask with its own affine whatever that is; MONAI Label's writer, by ITK, needs one of right angles."""
    file, path = tempfile.mkstemp(suffix)
    os.close(file)
    source = str(mask.meta.get("filename_or_obj", ""))
    write_nifti(path, mask.numpy(), mask.affine.numpy(), source)
    return path


def _for_json(value: float | bool) -> float | bool | None:
    return value if math.isfinite(value) else None
