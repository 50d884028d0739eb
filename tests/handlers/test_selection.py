"""The weights that are kept are those of the epoch with the lowest mean map on held-out normal scans."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from torch import Tensor, nn

from medad_plugins.errors import InputError
from medad_plugins.handlers import KeepBest
from medad_plugins.networks import AnomalyNetwork

# map values of two epochs of two iterations each count at their end: after iterations 2, 4, 6, 8
VALUES = [9.0, 5.0, 1.0, 2.0, 7.0, 3.0, 0.5, 4.0]
HELD_OUT = [{"image": torch.ones(3, 1, 4, 4), "case_id": ["a", "b", "c"]}]


class _Constant(AnomalyNetwork):
    """Its map is its one parameter everywhere, times the scan."""

    def __init__(self) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.zeros(()))
        self.steps: Tensor = nn.Buffer(torch.zeros((), dtype=torch.long))

    def anomaly_map(self, image: Tensor) -> Tensor:
        assert not self.training
        return image * self.level


class _Held:
    """Batches whose images are plain tensors, with MONAI's method."""

    def __iter__(self) -> Any:
        for batch in HELD_OUT:
            image: Any = batch["image"]
            yield {**batch, "image": _AsTensor(image)}


class _AsTensor:
    def __init__(self, values: Tensor) -> None:
        self.values = values

    def as_tensor(self) -> Tensor:
        return self.values


def _run(
    network: _Constant, handler: KeepBest, values: list[float], epochs: int = 4, from_epoch: int = 0, stop: int = 99
) -> list[float]:
    """A training that sets the network's level to the next value; what it is after `KeepBest` has given back."""

    def step(engine: Engine, _: Any) -> None:
        network.train()
        if engine.state.iteration > stop:
            raise KeyboardInterrupt
        with torch.no_grad():
            network.level.fill_(values[engine.state.iteration - 1])
            network.steps += 1

    engine = Engine(step)
    handler.attach(engine)
    seen: list[float] = []
    engine.add_event_handler(Events.COMPLETED, lambda _: seen.append(float(network.level.detach())))
    if from_epoch:
        engine.load_state_dict({"epoch_length": 2, "max_epochs": epochs, "iteration": 2 * from_epoch})
    engine.run(range(2), max_epochs=epochs, epoch_length=2)
    return seen


def test_the_lowest_at_the_end_of_an_epoch_is_given_back(tmp_path: Path) -> None:
    network, path = _Constant(), tmp_path / "folder" / "best"
    # iterations 2, 4, 6, 8 end an epoch: 5, 2, 3, 4; the lower values between do not count
    seen = _run(network, KeepBest(path, network, _Held()), VALUES)
    assert seen == [2.0]
    assert int(network.steps) == 4, "buffers are given back too"
    assert not path.exists()


def test_a_stopped_training_still_knows_its_best(tmp_path: Path) -> None:
    network, path = _Constant(), tmp_path / "best"
    with pytest.raises(KeyboardInterrupt):
        _run(network, KeepBest(path, network, _Held()), VALUES, stop=6)
    assert path.is_file()
    resumed = _Constant()
    seen = _run(resumed, KeepBest(path, resumed, _Held(), resume=True), VALUES, from_epoch=3)
    assert seen == [2.0] and not path.exists()
    # not asked to resume, it begins anew
    again = _Constant()
    path.write_bytes(b"of another training")
    assert _run(again, KeepBest(path, again, _Held()), VALUES, from_epoch=3) == [4.0]


def test_where_a_training_diverged_nothing_is_chosen(tmp_path: Path) -> None:
    network = _Constant()
    seen = _run(network, KeepBest(tmp_path / "best", network, _Held()), [1.0, 6.0, math.nan, math.nan], 2)
    assert seen == [6.0]
    other = _Constant()
    assert math.isnan(_run(other, KeepBest(tmp_path / "best", other, _Held()), [math.nan] * 4, 2)[0])


def test_refusals(tmp_path: Path) -> None:
    network, path = _Constant(), tmp_path / "best"
    torch.save({"model": {}}, path)
    with pytest.raises(InputError, match="the file holds no best weights"):
        _run(network, KeepBest(path, network, _Held(), resume=True), VALUES)
    with pytest.raises(InputError, match="no held-out normal case could be read"):
        _run(network, KeepBest(path, network, []), VALUES)
