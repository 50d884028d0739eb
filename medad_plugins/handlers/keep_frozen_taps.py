"""A frozen backbone's features of the training scans, computed once."""

from __future__ import annotations

from collections.abc import Mapping

import ignite.distributed as idist
from ignite.engine import Engine, Events

from medad_plugins.engines import TrainingSetup
from medad_plugins.files import output_folder
from medad_plugins.networks import FeatureTaps, TapCache

__all__ = ["KeepFrozenTaps"]


class KeepFrozenTaps:
    """While a trainer runs, lets the network's frozen backbone compute the features of each training scan only once.

    What the network asks for by `FeatureTaps.remembered` is kept in half precision. It must be asked for scans that
    nothing random has changed; slices and tiles that are drawn are, so nothing is kept there. Each process keeps
    what it has seen, of its share of the memory.

    Args:
        setup: of the training.
        memory_budget: MiB for all processes of a machine; what needs more goes into a file in the output folder,
            which is gone when the training ends.

    Raises:
        ValueError: the network has no frozen backbone.
    """

    def __init__(self, setup: TrainingSetup, memory_budget: float = 1024) -> None:
        self.setup, self.memory_budget = setup, memory_budget
        self.backbones = [m for m in setup.network.modules() if isinstance(m, FeatureTaps) and m.frozen]
        if not self.backbones:
            raise ValueError(f"{type(setup.network).__name__} has no frozen backbone.")

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        if self.setup.scan.slice_axis is not None or self.setup.scan.tiles is not None:
            return
        engine.add_event_handler(Events.STARTED, self._begin)
        engine.add_event_handler(Events.ITERATION_STARTED, self._name_cases)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._name_none)
        engine.add_event_handler(Events.COMPLETED, self._end)

    def _begin(self, engine: Engine) -> None:
        share = self.memory_budget / idist.get_nproc_per_node() / len(self.backbones)
        folder = output_folder(self.setup.output_dir)
        cases = len(self.setup.cohort.train) + len(self.setup.cohort.anomalies)
        for backbone in self.backbones:
            backbone.cache = TapCache(cases, folder, share)

    def _name_cases(self, engine: Engine) -> None:
        batch = engine.state.batch
        names = batch.get("case_id") if isinstance(batch, Mapping) else None
        self._name(None if names is None else [str(name) for name in names])

    def _name_none(self, engine: Engine) -> None:
        self._name(None)

    def _name(self, names: list[str] | None) -> None:
        for backbone in self.backbones:
            if backbone.cache is not None:
                backbone.cache.current = names

    def _end(self, engine: Engine) -> None:
        for backbone in self.backbones:
            if backbone.cache is not None:
                backbone.cache.close()
                backbone.cache = None
