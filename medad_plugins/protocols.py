"""What engines, handlers and transforms require of a network beside being a module."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from medad_plugins.scorers import Calibration, MapPool

__all__ = ["Calibrated", "Centred", "Fittable", "JudgesScans", "ModuleLike", "Reconstructs", "Stateful"]


class ModuleLike(Protocol):
    """As much of `torch.nn.Module` as the following need; a protocol cannot inherit from a class."""

    training: bool

    def train(self, mode: bool = True) -> Any: ...

    def eval(self) -> Any: ...

    def modules(self) -> Iterator[nn.Module]: ...

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def buffers(self) -> Iterator[Tensor]: ...


class Stateful(Protocol):
    """What can be saved and restored."""

    def state_dict(self) -> dict[str, Any]:
        """The whole state."""

    def load_state_dict(self, state: Any) -> Any:
        """Restore a state."""


@runtime_checkable
class Fittable(ModuleLike, Protocol):
    """A network, or a part of it, that is fitted in a pass over normal scans."""

    def collect(self, image: Tensor) -> Any:
        """Add a batch ``(B, C, *spatial)``."""

    def fit(self) -> None:
        """Solve for what was collected."""


@runtime_checkable
class JudgesScans(ModuleLike, Protocol):
    """A network that is fitted to scans by comparing them with each other, whatever they show."""

    pool: MapPool
    calibration: Calibration

    def collect(self, image: Tensor) -> Any:
        """Add a batch ``(B, C, *spatial)``."""

    def fit(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Compare; ``progress`` is called with how many were compared, and with how many there are."""

    def bank_maps(self) -> Tensor:
        """Distances ``(M, P)`` of the tokens of the scans kept to their like in the others."""

    def bank_scores(self) -> Tensor:
        """Scores ``(M,)`` of the scans kept."""


class Centred(ModuleLike, Protocol):
    """A network that is trained towards the mean of its own embeddings."""

    def embed(self, image: Tensor) -> Tensor:
        """Embeddings ``(B, D)`` of scans ``(B, C, *spatial)``."""

    def set_centre(self, mean: Tensor) -> None:
        """Take the mean embedding ``(D,)``."""


@runtime_checkable
class Reconstructs(Protocol):
    """A network whose reconstructions can be looked at."""

    def reconstruct(self, image: Tensor) -> Tensor:
        """Scans ``(B, C, *spatial)`` as the network rebuilds them."""


class Calibrated(ModuleLike, Protocol):
    """A network whose maps are scored and decided on, as every `medad_plugins.networks.AnomalyNetwork` is."""

    pool: MapPool
    calibration: Calibration
