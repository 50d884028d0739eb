"""The trainer of methods that look at the data once and solve."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from monai.engines import SupervisedTrainer
from torch import Tensor, nn

from medad_plugins.engines import FittingTrainer, ScanBatch
from medad_plugins.inferers import PrecisionInferer


class Mean(nn.Module):
    """Learns the mean of all scans."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []
        self.log: list[str] = []
        self.mean: Tensor | None = None

    def collect(self, image: Tensor) -> None:
        assert self.training and type(image) is Tensor
        self.log.append("collect")
        self.seen.append(image)

    def fit(self) -> None:
        self.log.append("fit")
        self.mean = torch.cat(self.seen).mean()


class Spy:
    """Handler that notes in the network's log when it is called."""

    def __init__(self, network: Mean, event: Events) -> None:
        self.network, self.event = network, event

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(self.event, lambda _: self.network.log.append(self.event.name.lower()))


def _batches(count: int = 3) -> list[dict[str, Any]]:
    return [{"image": MetaTensor(torch.full((2, 1, 2, 2), float(i)))} for i in range(count)]


def test_it_fits_what_it_collected_before_any_handler_of_the_end() -> None:
    network = Mean()
    spies = [Spy(network, Events.COMPLETED), Spy(network, Events.STARTED)]
    trainer = FittingTrainer("cpu", _batches(), network, prepare_batch=ScanBatch(target="image"), train_handlers=spies)
    assert isinstance(trainer, SupervisedTrainer)
    trainer.run()
    assert network.log == ["started", "collect", "collect", "collect", "fit", "completed"]
    assert network.mean is not None and float(network.mean) == 1.0


def test_several_passes_fit_once() -> None:
    network = Mean()
    FittingTrainer("cpu", _batches(2), network, max_epochs=2, prepare_batch=ScanBatch(target="image")).run()
    assert network.log == ["collect"] * 4 + ["fit"]


def test_it_collects_in_the_precision_of_its_inferer() -> None:
    class InPrecision(Mean):
        def collect(self, image: Tensor) -> None:
            self.seen.append(image @ image)

    network = InPrecision()
    inferer = PrecisionInferer("bfloat16")
    FittingTrainer("cpu", _batches(), network, prepare_batch=ScanBatch(target="image"), inferer=inferer).run()
    assert {product.dtype for product in network.seen} == {torch.bfloat16}


def test_epoch_length_limits_a_pass() -> None:
    network = Mean()
    FittingTrainer("cpu", _batches(5), network, epoch_length=2, prepare_batch=ScanBatch(target="image")).run()
    assert network.log == ["collect", "collect", "fit"]


def test_monais_own_batches_and_statistics() -> None:
    network = Mean()
    trainer = FittingTrainer(torch.device("cpu"), _batches(2), network)
    trainer.run()
    assert network.log == ["collect", "collect", "fit"]
    stats = trainer.get_stats()
    assert stats["current_iteration"] == 2 and stats["total_epochs"] == 1


@pytest.mark.parametrize("method", ["collect", "fit"])
def test_a_network_without_the_methods_is_refused(method: str) -> None:
    class Half(nn.Module):
        pass

    setattr(Half, "fit" if method == "collect" else "collect", lambda self: None)
    with pytest.raises(ValueError, match=rf"Half cannot be fitted: it has no method {method}\(\)"):
        FittingTrainer("cpu", _batches(), Half())
