"""The second stage: when it comes, what it sees, and in which mode."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from monai.inferers import SimpleInferer
from torch import Tensor, nn

from medad_plugins.handlers import FitAfterTraining, FitBeforeTraining


class Recording(nn.Module):
    """Notes what happens to it."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(1)
        self.notes: list[Any] = []

    def collect(self, image: Tensor) -> None:
        self.notes.append((self.training, torch.is_grad_enabled(), image.flatten().tolist()))

    def fit(self) -> None:
        self.notes.append("fit")

    def step(self, engine: Engine, batch: Any) -> None:
        self.notes.append("step")


class Doubling(SimpleInferer):
    """Calls the network on twice the values."""

    def __call__(self, inputs: Tensor, network: Any, *args: Any, **kwargs: Any) -> Any:
        return network(2 * inputs)


@pytest.mark.parametrize("every_epoch", [False, True])
def test_sees_every_batch_in_eval_mode_and_fits_before_the_next_handler(every_epoch: bool) -> None:
    network = Recording().train()
    # the last one is what a rank without a case left is given
    batches: list[dict[str, Tensor]] = [{"image": torch.tensor([1.0, 2.0])}, {"image": torch.tensor([3.0])}, {}]
    engine = Engine(lambda engine, batch: network.notes.append("step"))
    FitAfterTraining(network, batches, inferer=Doubling(), every_epoch=every_epoch).attach(engine)
    end = Events.EPOCH_COMPLETED if every_epoch else Events.COMPLETED
    engine.add_event_handler(end, lambda _: network.notes.append("judged"))
    engine.run([0], max_epochs=2)
    stage = [(False, False, [2.0, 4.0]), (False, False, [6.0]), "fit", "judged"]
    expected = ["step", *stage, "step", *stage] if every_epoch else ["step", "step", *stage]
    assert network.notes == expected
    assert network.training


def test_the_mode_is_put_back_after_an_error() -> None:
    network = Recording().train()
    handler = FitAfterTraining(network, [{"image": None}])
    with pytest.raises(Exception, match=r".+"):
        handler.collect()
    assert network.training


def test_before_training_once_and_not_after_a_resume() -> None:
    for first, expected in ((0, [(False, False, [3.0]), "fit", "step", "step"]), (1, ["step"])):
        network = Recording().train()
        engine = Engine(network.step)
        FitBeforeTraining(network, [{"image": torch.tensor([3.0])}]).attach(engine)
        if first:
            engine.load_state_dict({"iteration": 1, "max_epochs": 2, "epoch_length": 1})
        engine.run([0], max_epochs=2)
        assert network.notes == expected


@pytest.mark.parametrize("kind", [FitAfterTraining, FitBeforeTraining])
def test_may_do_nothing(kind: type[FitAfterTraining]) -> None:
    network = Recording().train()
    engine = Engine(lambda engine, batch: None)
    kind(network, [{"image": torch.tensor([3.0])}], enabled=False).attach(engine)
    engine.run([0])
    assert network.notes == []
