"""Clipping, and trainings that are stopped and go on."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import Dataset
from monai.engines import SupervisedTrainer
from monai.transforms import RandGaussianNoised
from torch import Tensor, nn

from medad_plugins.data import IterationLoader
from medad_plugins.engines import FittingTrainer, ScanBatch
from medad_plugins.errors import InputError
from medad_plugins.handlers import ClipGradients, ResumableCheckpoint

BATCHES, EPOCHS = 2, 3


def _trainer(network: nn.Module, gain: float, handlers: list[Any]) -> SupervisedTrainer:
    return SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=[{"image": torch.ones(1, 4)}],
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=1.0),
        loss_function=lambda output, _: gain * output.sum(),
        prepare_batch=ScanBatch(target="image"),
        train_handlers=handlers,
        decollate=False,
    )


@pytest.mark.parametrize(("gain", "norm"), [(10.0, 0.5), (0.01, None)])
def test_gradients_are_clipped_together_to_the_norm(gain: float, norm: float | None) -> None:
    steps = []
    for handlers in (True, False):
        network = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
        for parameter in network.parameters():
            nn.init.constant_(parameter, 0.3)
        before = torch.cat([p.detach().flatten() for p in network.parameters()])
        _trainer(network, gain, [ClipGradients(network, 0.5)] if handlers else []).run()
        steps.append(torch.cat([p.detach().flatten() for p in network.parameters()]) - before)
    clipped, free = steps
    expected = free if norm is None else free * (norm / free.norm())
    assert (norm is None) == (float(free.norm()) < 0.5)
    torch.testing.assert_close(clipped, expected, rtol=1e-4, atol=1e-6)


class Stopped(Exception):
    """The machine is switched off."""


def _network(width: int = 4) -> nn.Sequential:
    layers = [nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.Dropout(0.3), nn.Conv2d(width, 1, 1)]
    return nn.Sequential(*layers)


def _run(
    path: Path,
    seed: int = 0,
    resume: bool = False,
    stop_after: int | None = None,
    batches: int = BATCHES,
    width: int = 4,
    seconds: float = 0.0,
    at_end: Callable[[], object] | None = None,
    **known: Any,
) -> tuple[dict[str, Tensor], list[float], int]:
    """State at the end, losses, and the iteration that it began at, of a training with all sorts of randomness."""
    torch.manual_seed(seed)
    network = _network(width)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    images = [{"image": torch.full((1, 6, 6), i / 5)} for i in range(5)]
    loader = IterationLoader(Dataset(images, RandGaussianNoised("image", prob=1.0)), 2, batches, seed=3)
    losses: list[float] = []
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=EPOCHS,
        epoch_length=batches,
        train_data_loader=loader,
        network=network,
        optimizer=optimizer,
        loss_function=nn.MSELoss(),
        prepare_batch=ScanBatch(target="image"),
        decollate=False,
        train_handlers=[ResumableCheckpoint(path, network, optimizer, resume, seconds, **known)],
    )
    began = trainer.state.iteration

    @trainer.on(Events.ITERATION_COMPLETED)
    def note(engine: Engine) -> None:
        losses.append(engine.state.output["loss"].item())  # type: ignore[index]
        if engine.state.iteration == stop_after:
            raise Stopped

    if at_end is not None:
        trainer.add_event_handler(Events.COMPLETED, at_end)
    with contextlib.suppress(Stopped):
        trainer.run()
    return {name: value.clone() for name, value in network.state_dict().items()}, losses, began


def _equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("stop_after", [3, 4, 5])
def test_a_stopped_and_resumed_training_ends_bit_equal(
    tmp_path: Path, stop_after: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="medad_plugins")
    straight, losses, _ = _run(tmp_path / "straight.pt")
    path = tmp_path / "models" / "stopped.pt"
    _run(path, stop_after=stop_after)
    assert path.is_file()
    resumed, rest, began = _run(path, seed=7, resume=True)
    epochs_done = (stop_after - 1) // BATCHES if stop_after % BATCHES else stop_after // BATCHES - 1
    # the last whole epoch whose end came before the stop
    assert began == epochs_done * BATCHES
    assert rest == losses[began:] and len(losses) == BATCHES * EPOCHS
    assert _equal(resumed, straight)
    assert f"continuing after iteration {began}." in caplog.messages


def test_the_training_has_randomness_that_only_a_resumed_one_shares(tmp_path: Path) -> None:
    straight, losses, _ = _run(tmp_path / "a.pt")
    again, same, _ = _run(tmp_path / "a.pt")
    other, _, _ = _run(tmp_path / "a.pt", seed=7)
    assert _equal(straight, again) and losses == same and len(set(losses)) == len(losses)
    assert not _equal(straight, other)


def test_the_file_is_removed_at_the_end(tmp_path: Path) -> None:
    _run(tmp_path / "stopped.pt", stop_after=5)
    assert [path.name for path in tmp_path.iterdir()] == ["stopped.pt"]
    _run(tmp_path / "stopped.pt", resume=True)
    assert list(tmp_path.iterdir()) == []


def test_without_resume_a_file_is_not_looked_at(tmp_path: Path) -> None:
    (tmp_path / "stopped.pt").write_text("anything")
    state, _, began = _run(tmp_path / "stopped.pt")
    assert began == 0 and _equal(state, _run(tmp_path / "other.pt")[0])


def test_it_saves_no_more_often_than_configured(tmp_path: Path) -> None:
    _run(tmp_path / "stopped.pt", stop_after=5, seconds=3600)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_is_reported_and_the_training_begins(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state, _, began = _run(tmp_path / "stopped.pt", resume=True)
    assert began == 0 and _equal(state, _run(tmp_path / "other.pt")[0])
    assert "there is no stopped training at" in caplog.text and "starting from the beginning" in caplog.text


def test_another_schedule_is_refused(tmp_path: Path) -> None:
    _run(tmp_path / "stopped.pt", stop_after=5)
    with pytest.raises(InputError, match="had another schedule: .*expected epochs of 3 iter.*found epochs of 2 iter"):
        _run(tmp_path / "stopped.pt", resume=True, batches=3)
    assert (tmp_path / "stopped.pt").is_file()


def test_another_network_is_refused(tmp_path: Path) -> None:
    _run(tmp_path / "stopped.pt", stop_after=5)
    with pytest.raises(InputError, match="was of another network: .*stopped.pt.*leave out --resume"):
        _run(tmp_path / "stopped.pt", resume=True, width=5)


@pytest.mark.parametrize("content", [b"<html>", b"", b"\x80\x02h\x07."])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_foreign_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "stopped.pt").write_bytes(content)
    with pytest.raises(InputError, match="file of the stopped training cannot be read: .*stopped.pt"):
        _run(tmp_path / "stopped.pt", resume=True)


def test_a_model_file_is_no_stopped_training(tmp_path: Path) -> None:
    torch.save({"model": {}, "bundle": "ae", "settings": {}}, tmp_path / "stopped.pt")
    with pytest.raises(InputError, match="the file is not from a stopped training: .*stopped.pt; leave out --resume"):
        _run(tmp_path / "stopped.pt", resume=True)


class Sums(nn.Module):
    """Fitted by collecting."""

    def __init__(self) -> None:
        super().__init__()
        self.total: Tensor = nn.Buffer(torch.zeros(()))

    def collect(self, image: Tensor) -> None:
        self.total += image.sum()

    def fit(self) -> None:
        self.total *= -1


def test_a_fit_without_optimizer_goes_on_too(tmp_path: Path) -> None:
    def fit(stop_after: int | None, resume: bool) -> float:
        network = Sums()
        handlers = [ResumableCheckpoint(tmp_path / "stopped.pt", network, resume=resume, seconds=0)]
        batches = [{"image": torch.full((1, 1), 2.0**i)} for i in range(2)]
        trainer = FittingTrainer(
            "cpu", batches, network, max_epochs=3, prepare_batch=ScanBatch(target="image"), train_handlers=handlers
        )

        @trainer.on(Events.ITERATION_COMPLETED)
        def stop(engine: Engine) -> None:
            if engine.state.iteration == stop_after:
                raise Stopped

        with contextlib.suppress(Stopped):
            trainer.run()
        return float(network.total)

    assert fit(5, False) > 0
    assert fit(None, True) == fit(None, False) == -9


def _refuse() -> None:
    raise InputError("no held-out normal case can be read")


def test_the_trained_weights_stay_where_the_end_fails_and_resuming_does_the_end_again(tmp_path: Path) -> None:
    path, ends = tmp_path / "stopped.pt", list[int]()
    whole, losses, _ = _run(tmp_path / "whole.pt")
    with pytest.raises(InputError, match="no held-out"):
        _run(path, at_end=_refuse, seconds=3600)
    assert _equal(torch.load(path, weights_only=True)["model"], whole)
    state, again, _ = _run(path, seed=7, resume=True, at_end=lambda: ends.append(1))
    assert _equal(state, whole)
    assert (again, ends) == ([], [1])
    assert losses
    assert not path.exists()


def test_a_state_that_cannot_be_written_costs_the_training_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole, _, _ = _run(tmp_path / "whole.pt")

    def full(path: Path, content: object) -> None:
        raise InputError("the file cannot be written", where=path, found="No space left on device")

    monkeypatch.setattr("medad_plugins.handlers.resumable_checkpoint.write_torch", full)
    state, _, _ = _run(tmp_path / "models" / "stopped.pt")
    assert _equal(state, whole)
    assert "No space left on device" in caplog.text
    assert list((tmp_path / "models").iterdir()) == []


KEYS = {"learning_rate": 0.001, "intensity": "auto", "seed": 0, "image_size": [64, 64]}


@pytest.mark.parametrize(("key", "value"), [("learning_rate", 0.05), ("intensity", "percentile"), ("image_size", 64)])
def test_other_settings_are_refused_by_name(key: str, value: object, tmp_path: Path) -> None:
    path = tmp_path / "stopped.pt"
    _run(path, stop_after=5, keys=lambda: KEYS)
    was = str(KEYS[key]).replace("[", r"\[").replace("]", r"\]")
    with pytest.raises(InputError, match=rf"other settings: .*stopped.pt \(found --{key} was {was} and is {value}\)"):
        _run(path, resume=True, keys=lambda: KEYS | {key: value})
    assert path.is_file()
    # keys that either does not know are not compared
    _run(path, resume=True, keys=lambda: {"seed": 0, "depth": 3})


def test_other_data_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "stopped.pt"
    _run(path, stop_after=5, data={"cases": "24 normal cases of heads", "digest": "a"})
    with pytest.raises(InputError, match=r"other data.*expected 24 .* of heads, found 30 .* of hands"):
        _run(path, resume=True, data={"cases": "30 normal cases of hands", "digest": "b"})
    with pytest.raises(InputError, match=r"found other cases, 24 normal cases of heads"):
        _run(path, resume=True, data={"cases": "24 normal cases of heads", "digest": "b"})
    _run(path, resume=True, data={"cases": "24 normal cases elsewhere", "digest": "a"})


def test_two_trainings_with_one_file_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "stopped.pt"

    def disturb() -> dict[str, Any]:
        path.with_name("other").write_bytes(b"another training's")
        path.with_name("other").replace(path)
        return {}

    # what is written before the second epoch is replaced by another training after the first
    handler = ResumableCheckpoint(path, _network(4), None, seconds=0, keys=dict)
    handler._seen = None
    disturb()
    with pytest.raises(InputError, match="another training writes to the same file: .*stopped.pt.*--ckpt_path"):
        handler._save(None, torch.zeros(1))
