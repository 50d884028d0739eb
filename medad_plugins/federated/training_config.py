"""A bundle's training as a federation takes it: its parts, without what it does when it ends by itself."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser, ConfigWorkflow

import medad_plugins
from medad_plugins.engines.distributed import additive_buffers
from medad_plugins.engines.training_setup import model_settings
from medad_plugins.errors import InputError, find_input_error
from medad_plugins.handlers import CalibrateAndSave, FitAfterTraining, StandardHandlers, TestAtEnd
from medad_plugins.key_values import as_written, names_as_written
from medad_plugins.networks import AnomalyNetwork

__all__ = ["TrainingConfig"]

_STANDARD, _FITTER = "StandardHandlers", "FitAfterTraining"
# what MONAI's configurations evaluate, look up or read from another file
_CODE = frozenset("$@%")


class TrainingConfig:
    """The parts of a bundle's ``train.yaml``, each built when first used.

    Args:
        bundle_root: the bundle's folder on this machine.
        keys: values of ``train.yaml`` by name. They may come from the server of a federation, so plain ones only: a
            configuration runs what looks like code.
        with_scans: False where there are none: only the network and its description are available.

    Raises:
        InputError: there is no such bundle, or a key is not plain or none of the bundle's.
    """

    def __init__(self, bundle_root: str | os.PathLike[str], keys: Mapping[str, Any], with_scans: bool = True) -> None:
        root = Path(os.path.abspath(bundle_root))
        path = root / "configs" / "train.yaml"
        if not path.is_file():
            raise InputError("there is no bundle", where=root, expected=f"a folder with {path.relative_to(root)}")
        _refuse_code(keys)
        if keys.get("calibration", "held_out") != "held_out":
            found = keys["calibration"]
            raise InputError("a federation holds scans out", where="calibration", expected="held_out", found=found)
        written = ConfigParser.load_config_file(path)
        # a server has no scans to report, so it runs the first step only: known keys, versions, seed
        first_step = {} if with_scans else {"initialize": written["initialize"][:1]}
        self.workflow = ConfigWorkflow(
            config_file=str(path),
            workflow_type="train",
            logging_file=False,
            bundle_root=as_written(str(root)),
            **{**names_as_written(keys), **first_step},
        )
        self._places: dict[str, str] = {}
        for index, handler in enumerate(self.workflow.parser["train::handlers"]):
            name = str(handler["_target_"]).rpartition(".")[2]
            if name in (_STANDARD, _FITTER):
                self._places[name] = f"train::handlers::{index}"
            if name == _STANDARD:
                handler["ends"] = False
            if name == _FITTER:
                # weights cannot be chosen by a network that is not fitted
                handler["_disabled_"] = keys.get("select_by", "last") == "last"
        if _STANDARD not in self._places:
            raise InputError("the bundle's training does not calibrate", where=path, expected=f"a handler {_STANDARD}")
        self._plainly(self.workflow.initialize)

    @staticmethod
    def _plainly(build: Any, *arguments: Any) -> Any:
        """What a part of the configuration is; an error in it without what MONAI wraps around."""
        try:
            return build(*arguments)
        except Exception as error:
            found = find_input_error(error)
            if found is None or found is error:
                raise
            raise found from error

    @cached_property
    def network(self) -> AnomalyNetwork:
        """The network, on the configuration's device."""
        network: AnomalyNetwork = self._plainly(getattr, self.workflow, "network_def")
        return network

    @cached_property
    def trainer(self) -> Any:
        """The trainer, without the handlers that calibrate, save and test at its end."""
        return self._plainly(getattr, self.workflow, "trainer")

    @property
    def cases(self) -> int:
        """How many normal cases there are to train on."""
        return len(self._plainly(getattr, self.workflow, "train_dataset_data"))

    @property
    def sums(self) -> bool:
        """Whether the network is fitted from sums over the cases, which add up over sites."""
        return bool(additive_buffers(self.network))

    @property
    def by_passes(self) -> bool:
        """Whether the network is fitted in passes over the data, and not by gradient."""
        return str(self.workflow.parser["train::trainer"]["_target_"]).endswith("FittingTrainer")

    @property
    def fits_after_training(self) -> bool:
        """Whether something is fitted once the network has been trained by gradient."""
        place = self._places.get(_FITTER)
        if place is None:
            return False
        return "enabled" not in self.workflow.parser[place] or bool(self._parsed(f"{place}::enabled"))

    @cached_property
    def _standard(self) -> StandardHandlers:
        standard: StandardHandlers = self._parsed(self._places[_STANDARD])
        return standard

    def calibrator(self) -> CalibrateAndSave:
        """What calibrates and saves the network."""
        return self._standard.calibrator()

    def tester(self) -> TestAtEnd:
        """What tries the network on the test set."""
        return self._standard.tester()

    def fitter(self) -> FitAfterTraining:
        """What fits the network once it has been trained by gradient."""
        place = self._places[_FITTER]
        written = [name for name in self.workflow.parser[place] if not name.startswith("_")]
        return FitAfterTraining(**{name: self._parsed(f"{place}::{name}") for name in written})

    @property
    def model_path(self) -> Path:
        """The model file."""
        return Path(self._parsed("setup::ckpt_path"))

    def model(self) -> dict[str, Any]:
        """Bundle and settings of the model, which are known without any scan."""
        settings = model_settings(self._parsed("setup::settings"), self._parsed("setup::scan"))
        return {"bundle": self._parsed("setup::bundle"), "settings": settings}

    def _parsed(self, place: str) -> Any:
        return self._plainly(self.workflow.parser.get_parsed_content, place)

    def description(self) -> str:
        """Which model this trains, as JSON: bundle, settings and version, the same at every site of a federation."""
        content = {"medad_version": medad_plugins.__version__, **self.model()}
        return json.dumps(content, sort_keys=True, default=str)


def _refuse_code(keys: Mapping[str, Any]) -> None:
    for name, value in keys.items():
        parts = value if isinstance(value, (list, tuple)) else [value]
        plain = all(
            part is None or isinstance(part, (bool, int, float)) or (isinstance(part, str) and not _CODE & set(part))
            for part in parts
        )
        if not plain or _CODE & set(name) or name in ("imports", "initialize", "run"):
            raise InputError("a key of a federation cannot be used", where=name, expected="a number or plain text")
