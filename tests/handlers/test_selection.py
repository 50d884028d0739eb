"""The weights that are kept are those of the epoch with the highest value of the criterion."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine, Events
from monai.inferers import Inferer
from torch import Tensor, nn

from medad_plugins.errors import InputError
from medad_plugins.handlers import KeepBest
from medad_plugins.networks import AnomalyNetwork

# epochs have two iterations, so that the values after iterations 2, 4, 6 and 8 count
VALUES = [9.0, 5.0, 11.0, 7.0, 1.0, 3.0, 20.0, 4.0]


class _Level(AnomalyNetwork):
    """One parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.zeros(()))
        self.steps: Tensor = nn.Buffer(torch.zeros((), dtype=torch.long))


class _HighLevel:
    """A criterion of one's own."""

    wish = "with the highest level"

    def __init__(self) -> None:
        self.is_prepared = False

    def prepare(self) -> None:
        self.is_prepared = True

    def __call__(self, network: AnomalyNetwork, inferer: Inferer) -> float:
        assert self.is_prepared and isinstance(network, _Level)
        return float(network.level.detach())


def _keep(path: Path, network: _Level, resume: bool = False) -> KeepBest:
    return KeepBest(path, network, _HighLevel(), resume=resume)


def _run(
    network: _Level, handler: KeepBest, values: list[float], epochs: int = 4, from_epoch: int = 0, stop: int = 99
) -> list[float]:
    """A training that sets the network's level to the next value; what it is after `KeepBest` has given back."""

    def step(engine: Engine, _: int) -> None:
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


def test_the_best_at_the_end_of_an_epoch_is_given_back(tmp_path: Path) -> None:
    network, path = _Level(), tmp_path / "folder" / "best"
    assert _run(network, _keep(path, network), VALUES) == [7.0]
    assert int(network.steps) == 4, "buffers are given back too"
    assert not path.exists()


def test_the_last_weights_are_kept_by_default(tmp_path: Path) -> None:
    network = _Level()
    assert _run(network, KeepBest(tmp_path / "folder" / "best", network, "last"), VALUES) == [4.0]
    assert not (tmp_path / "folder").exists()


def test_a_stopped_training_still_knows_its_best(tmp_path: Path) -> None:
    network, path = _Level(), tmp_path / "best"
    with pytest.raises(KeyboardInterrupt):
        _run(network, _keep(path, network), VALUES, stop=6)
    assert path.is_file()
    resumed = _Level()
    assert _run(resumed, _keep(path, resumed, resume=True), VALUES, from_epoch=3) == [7.0]
    assert not path.exists()
    # without resume it begins anew
    again = _Level()
    path.write_bytes(b"of another training")
    assert _run(again, _keep(path, again), VALUES, from_epoch=3) == [4.0]
    # nor where there is nothing to go on from: the file is of a training that is not continued
    anew = _Level()
    path.write_bytes(b"of another training")
    assert _run(anew, _keep(path, anew, resume=True), VALUES) == [7.0]


def test_where_a_training_diverged_nothing_is_chosen(tmp_path: Path) -> None:
    network, path = _Level(), tmp_path / "best"
    assert _run(network, _keep(path, network), [1.0, 6.0, math.nan, math.nan], 2) == [6.0]
    assert math.isnan(_run(network, _keep(path, network), [math.nan] * 4, 2)[0])


def test_refusals(tmp_path: Path) -> None:
    network, path = _Level(), tmp_path / "best"
    torch.save({"model": {}}, path)
    with pytest.raises(InputError, match="the file holds no best weights"):
        _run(network, _keep(path, network, resume=True), VALUES, from_epoch=2)
    with pytest.raises(InputError, match=r"select_by.*last, normal or synthetic.*found first"):
        KeepBest(path, network, "first")
