"""Progress of a run: in a log, and on a terminal."""

from __future__ import annotations

import io
import logging
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ignite.engine import Engine

from medad_plugins.handlers import InferenceProgress, TrainingProgress, progress


class Clock:
    """A clock that goes on by what the test says."""

    def __init__(self) -> None:
        self.now = 1000.0

    def perf_counter(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def _engine(clock: Clock, seconds: float, output: Any = None) -> Engine:
    def step(engine: Engine, batch: Any) -> Any:
        clock.now += seconds
        return output(engine.state.iteration) if callable(output) else output

    return Engine(step)


def _train(clock: Clock, handler: TrainingProgress, epochs: int, length: int, seconds: float = 2.0) -> Engine:
    engine = _engine(clock, seconds, lambda iteration: {"loss": torch.tensor(1.0 / iteration, requires_grad=True)})
    handler.attach(engine)
    engine.run(range(length), max_epochs=epochs)
    return engine


def test_training_tells_iteration_loss_and_time_left(
    clock: Clock, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO, logger="medad_plugins")
    _train(clock, TrainingProgress(lines=4, warm_up=5), 4, 10)
    assert caplog.messages == [
        "training will take about 70 s from here.",
        "training: iteration 10 of 40, loss 0.1, 60 s left",
        "training: iteration 20 of 40, loss 0.05, 40 s left",
        "training: iteration 30 of 40, loss 0.03333, 20 s left",
        "training: iteration 40 of 40, loss 0.025, 0 s left",
        "training took 80 s.",
    ]
    assert capsys.readouterr().err == ""


def test_a_short_training_tells_every_iteration_and_foretells_nothing(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="medad_plugins")
    _train(clock, TrainingProgress(lines=10, warm_up=5), 1, 3)
    assert [line.split(",")[0] for line in caplog.messages] == [
        "training: iteration 1 of 3",
        "training: iteration 2 of 3",
        "training: iteration 3 of 3",
        "training took 6 s.",
    ]


def test_a_resumed_training_counts_from_where_it_goes_on(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="medad_plugins")
    handler = TrainingProgress(lines=2, warm_up=2)
    handler.start(SimpleNamespace(state=SimpleNamespace(max_epochs=4, epoch_length=5, iteration=15)))  # type: ignore[arg-type]
    for iteration in range(16, 21):
        clock.now += 3
        handler.update(SimpleNamespace(state=SimpleNamespace(output=None, iteration=iteration)))  # type: ignore[arg-type]
    assert caplog.messages == [
        "training will take about 9 s from here.",
        "training: iteration 20 of 20, 0 s left",
    ]


@pytest.mark.parametrize(
    ("output", "note"),
    [([{"loss": torch.tensor(0.5)}], "loss 0.5"), ({"image": 1}, ""), ([], ""), (None, ""), (torch.zeros(1), "")],
)
def test_loss_of_whatever_the_engine_gives(output: Any, note: str) -> None:
    assert TrainingProgress._loss(output) == note


def test_on_a_terminal_there_is_a_bar_and_no_line_per_step(
    clock: Clock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, logger="medad_plugins")
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    handler = TrainingProgress(lines=10, warm_up=5)
    _train(clock, handler, 2, 10)
    text = terminal.getvalue()
    assert "training:   0%" in text and "0/20" in text
    assert "training will take about 30 s from here." in text
    assert caplog.messages == ["training took 40 s."]
    assert handler._bar is not None and handler._bar.disable  # closed


def test_the_bar_is_closed_and_the_error_goes_on(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", Terminal())

    def fail(iteration: int) -> None:
        raise KeyError("broken")

    handler, engine = TrainingProgress(), _engine(clock, 1, fail)
    handler.attach(engine)
    with pytest.raises(KeyError, match="broken"):
        engine.run(range(3))
    assert handler._bar is not None and handler._bar.disable


def test_inference_counts_cases_of_batches_of_any_size(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="medad_plugins")
    engine = _engine(clock, 1.0)
    InferenceProgress(total=7, lines=2).attach(engine)
    engine.run([[{}, {}, {}], [{}, {}, {}], [{}]])
    assert caplog.messages == [
        "inference: case 3 of 7, 1 s left",
        "inference: case 6 of 7, 0 s left",
        "inference: case 7 of 7, 0 s left",
        "inference took 3 s.",
    ]


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "0 s"), (99.4, "99 s"), (100, "2 min"), (3600, "60 min")])
def test_durations_for_people(seconds: float, text: str) -> None:
    assert progress.duration(seconds) == text
