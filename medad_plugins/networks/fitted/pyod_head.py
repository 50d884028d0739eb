"""Any detector of PyOD, where PyOD is installed."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import torch
from torch import Tensor, nn

from medad_plugins.errors import InputError
from medad_plugins.networks.fitted.one_class_head import OneClassHead, softly_positive, standard_of

__all__ = ["PyODHead", "pyod_class"]


class PyODHead(OneClassHead):
    """A detector of PyOD by the name of its module, ``ecod``, ``copod``, ``hbos``, ``inne``, ..., with its defaults.

    Models hold no pickled objects: what is kept are the normal vectors, and the detector is fitted again, with the same
    seed, when it is first asked after loading. It computes in NumPy on a processor and cannot be exported.

    Args:
        name: of a module in ``pyod.models`` with one detector.
        seed: where the detector draws.

    Buffers:
        bank ``(n, D)``: the normal vectors. mean, deviation: of their own scores, see `softly_positive`.

    Raises:
        InputError: PyOD is not installed, or has no such detector.

    Reference:
        Zhao, Nasrullah and Li, "PyOD: a Python toolbox for scalable outlier detection", JMLR 2019.
    """

    def __init__(self, name: str, seed: int = 0) -> None:
        super().__init__()
        self.name, self.seed = name, seed
        self.bank: Tensor = nn.Buffer(torch.empty(0))
        self.mean: Tensor = nn.Buffer(torch.zeros(()))
        self.deviation: Tensor = nn.Buffer(torch.ones(()))
        self._fitted: Any = None
        pyod_class(name)  # a wrong name is said before any work

    def fit(self, vectors: Tensor) -> None:
        self.bank, self._fitted = vectors.float(), None
        self.mean, self.deviation = standard_of(self._judged(self.bank))

    def _load_from_state_dict(self, *state: Any) -> None:
        self._fitted = None
        super()._load_from_state_dict(*state)

    @torch.jit.unused
    def _judged(self, vectors: Tensor) -> Tensor:
        if self._fitted is None:
            kind = pyod_class(self.name)
            drawn = {"random_state": self.seed} if "random_state" in inspect.signature(kind).parameters else {}
            self._fitted = kind(**drawn)
            self._fitted.fit(self.bank.double().cpu().numpy())
        scores = self._fitted.decision_function(vectors.detach().double().cpu().numpy())
        return torch.from_numpy(scores).to(device=vectors.device, dtype=torch.float64).reshape(len(vectors))

    def forward(self, vectors: Tensor) -> Tensor:
        if self.bank.numel() == 0:
            raise RuntimeError("PyOD's detector has not been fitted.")
        if torch.jit.is_scripting():
            raise RuntimeError("a detector of PyOD cannot be exported.")
        return softly_positive(self._judged(vectors), self.mean, self.deviation)


def pyod_class(name: str) -> Any:
    """The one detector of the module ``pyod.models.<name>``.

    Raises:
        InputError: PyOD is not installed, has no such module, or it has no detector or several.
    """
    try:
        base = importlib.import_module("pyod.models.base").BaseDetector
    except ImportError as error:
        todo = "pip install pyod, the extra pyod of this package"
        raise InputError("PyOD is not installed", where=f"--detector pyod:{name}", todo=todo) from error
    try:
        module = importlib.import_module(f"pyod.models.{name}") if name.isidentifier() else None
    except ImportError:
        module = None
    found = [
        kind
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, base) and kind.__module__ == f"pyod.models.{name}"
    ]
    if len(found) != 1:
        raise InputError(
            "PyOD has no such detector",
            where=f"--detector pyod:{name}",
            expected="the name of a module in pyod.models with one detector, such as ecod, copod, hbos or inne",
            found="nothing of this name" if module is None else f"{len(found)} detectors",
        )
    return found[0]
