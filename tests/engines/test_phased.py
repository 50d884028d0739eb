"""Phases: who learns from what and when, stops at what is not finite, and stopped trainings that go on."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.engines import NamedOptimizers, Phase, PhasedTrainer, parameters_of
from medad_plugins.engines.phased import TERMS
from medad_plugins.errors import InputError
from medad_plugins.handlers import LearningRate, MovingAverage, ResumableCheckpoint, TrainingProgress
from medad_plugins.networks import batch_normal

IMAGES = torch.rand(4, 1, 3, 3, generator=torch.Generator().manual_seed(0))


class Gan(nn.Module):
    """An encoder, a generator with batch norm and a discriminator of vectors."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Linear(9, 2)
        self.generator = nn.Sequential(nn.Linear(2, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 9))
        self.discriminator = nn.Sequential(nn.Linear(9, 4), nn.Tanh(), nn.Linear(4, 1))


def generate(network: Gan, batch: dict[str, Any]) -> dict[str, Tensor]:
    generated = network.generator(batch_normal((len(batch["image"]), 2), batch["image"]))
    return {"fooled": functional.softplus(-network.discriminator(generated)).mean()}


def discriminate(network: Gan, batch: dict[str, Any]) -> dict[str, Tensor]:
    image = batch["image"].flatten(1)
    generated = network.generator(batch_normal((len(image), 2), image)).detach()
    return {
        "real": functional.softplus(-network.discriminator(image)).mean(),
        "generated": functional.softplus(network.discriminator(generated)).mean(),
    }


def rebuild(network: Gan, batch: dict[str, Any]) -> dict[str, Tensor]:
    image = batch["image"].flatten(1)
    again = network.generator(network.encoder(image))
    return {"image": (again - image).square().mean(), "latent": network.encoder(again).square().mean()}


def _trainer(
    network: Gan, phases: Sequence[Phase], handlers: Sequence[Any] = (), epochs: int = 1, batches: int = 1, **sgd: float
) -> PhasedTrainer:
    children = ("encoder", "generator", "discriminator")
    optimizers = {name: torch.optim.SGD(parameters_of(network, name), **{"lr": 0.1, **sgd}) for name in children}  # type: ignore[arg-type]
    return PhasedTrainer(
        device=torch.device("cpu"),
        max_epochs=epochs,
        train_data_loader=[{"image": IMAGES}] * batches,
        network=network,
        optimizer=NamedOptimizers(**optimizers),
        phases=phases,
        train_handlers=handlers,
    )


def _changed(before: Mapping[str, Tensor], network: nn.Module) -> set[str]:
    return {name.split(".")[0] for name, value in network.named_parameters() if not torch.equal(before[name], value)}


def _state(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


# who learns


@pytest.mark.parametrize(
    ("phase", "learning"),
    [
        (Phase("d", discriminate, "discriminator"), {"discriminator"}),
        (Phase("g", generate, "generator"), {"generator"}),
        (Phase("e", rebuild, "encoder"), {"encoder"}),
        (Phase("eg", rebuild, ["encoder", "generator"]), {"encoder", "generator"}),
    ],
)
def test_a_phase_trains_its_optimisers_parameters_alone(phase: Phase, learning: set[str]) -> None:
    network = Gan()
    before = _state(network)
    _trainer(network, [phase]).run()
    assert _changed(before, network) == learning


def test_gradients_pass_through_what_is_frozen() -> None:
    network, other = Gan(), Gan()
    trainer = _trainer(network, [Phase("e", rebuild, "encoder", weights={"latent": 0.5}, in_eval=["generator"])])
    trainer.run()

    other.generator.eval()
    terms = rebuild(other, {"image": IMAGES})
    gradients = torch.autograd.grad(terms["image"] + 0.5 * terms["latent"], list(other.encoder.parameters()))
    for parameter, gradient, start in zip(network.encoder.parameters(), gradients, other.encoder.parameters()):
        assert float(gradient.abs().max()) > 0
        torch.testing.assert_close(parameter, start - 0.1 * gradient)


def test_discriminator_and_generator_in_turns_are_the_plain_loop() -> None:
    network, other = Gan(), Gan()
    torch.manual_seed(5)
    _trainer(network, [Phase("d", discriminate, "discriminator"), Phase("g", generate, "generator")], batches=3).run()

    torch.manual_seed(5)
    optimizers = [torch.optim.SGD(part.parameters(), lr=0.1) for part in (other.discriminator, other.generator)]
    for _ in range(3):
        for loss, optimizer in zip((discriminate, generate), optimizers, strict=True):
            other.zero_grad()
            torch.stack(list(loss(other, {"image": IMAGES}).values())).sum().backward()
            optimizer.step()
    for one, two in zip(network.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-7)


def test_two_losses_of_one_graph_do_not_leak_into_each_other() -> None:
    def both(network: Gan, batch: dict[str, Any]) -> dict[str, Tensor]:
        image = batch["image"].flatten(1)
        again = network.generator(network.encoder(image))
        return {"one": again.square().mean(), "other": (again - image).abs().mean()}

    network, other = Gan(), Gan()
    _trainer(network, [Phase("eg", both, {"encoder": ["one"], "generator": ["other"]})]).run()
    terms = both(other, {"image": IMAGES})
    for part, term in (("encoder", "one"), ("generator", "other")):
        own = list(other.get_submodule(part).parameters())
        gradients = torch.autograd.grad(terms[term], own, retain_graph=True)
        for parameter, start, gradient in zip(network.get_submodule(part).parameters(), own, gradients, strict=True):
            torch.testing.assert_close(parameter, start - 0.1 * gradient)


def test_parts_in_eval_mode_neither_use_nor_follow_the_batch() -> None:
    for in_eval, follows in (([], True), (["generator"], False)):
        network = Gan()
        before = _state(network)
        _trainer(network, [Phase("e", rebuild, "encoder", in_eval=in_eval)]).run()
        mean = "generator.1.running_mean"
        assert torch.equal(network.state_dict()[mean], before[mean]) != follows


# when


@pytest.mark.parametrize(
    ("arguments", "due"),
    [
        ({}, [1, 2, 3, 4, 5, 6, 7]),
        ({"every": 3}, [1, 4, 7]),
        ({"every": 3, "offset": 2}, [3, 6]),
        ({"first": 3, "last": 5}, [3, 4, 5]),
        ({"first": 2, "every": 2, "last": 6}, [2, 4, 6]),
    ],
)
def test_due(arguments: dict[str, Any], due: list[int]) -> None:
    phase = Phase("p", generate, "generator", **arguments)
    assert [iteration for iteration in range(1, 8) if phase.is_due(iteration)] == due


def test_phases_run_in_order_and_repeat() -> None:
    order: list[str] = []

    def noting(name: str) -> Any:
        def after(network: nn.Module, terms: dict[str, float]) -> None:
            order.append(name)
            assert terms.keys() == ({"fooled"} if name == "g" else {"real", "generated"})

        return after

    phases = [
        Phase("d", discriminate, "discriminator", repeat=2, after=noting("d")),
        Phase("g", generate, "generator", every=2, offset=1, after=noting("g")),
    ]
    _trainer(Gan(), phases, batches=2).run()
    assert order == ["d", "d", "d", "d", "g"]


def test_a_phase_may_end_with_a_method_of_the_network() -> None:
    class Counting(Gan):
        count = 0

        def remember(self) -> None:
            self.count += 1

    network = Counting()
    _trainer(network, [Phase("g", generate, "generator", repeat=2, after="remember")], batches=3).run()
    assert network.count == 6


def test_clip_limits_the_step() -> None:
    network = Gan()
    before = [parameter.detach().clone() for parameter in network.encoder.parameters()]
    _trainer(network, [Phase("e", rebuild, "encoder", weights={"image": 1000.0}, clip=0.25)]).run()
    steps = [(one.detach() - two).flatten() for one, two in zip(network.encoder.parameters(), before, strict=True)]
    assert float(torch.cat(steps).norm()) == pytest.approx(0.1 * 0.25, rel=1e-3)


# what is logged


def test_output_has_every_term_by_name() -> None:
    trainer = _trainer(Gan(), [Phase("d", discriminate, "discriminator"), Phase("g", generate, "generator")])
    trainer.run()
    output: Any = trainer.state.output
    assert list(output[TERMS]) == ["d.real", "d.generated", "g.fooled"]
    assert float(output["loss"]) == pytest.approx(sum(float(value) for value in output[TERMS].values()), rel=1e-5)


def test_terms_are_unweighted_and_the_loss_is_weighted() -> None:
    trainer = _trainer(Gan(), [Phase("r", rebuild, "encoder", weights={"image": 50.0})])
    expected = {name: float(value.detach()) for name, value in rebuild(Gan(), {"image": IMAGES}).items()}
    trainer.run()
    output: Any = trainer.state.output
    assert {name: float(value) for name, value in output[TERMS].items()} == pytest.approx(
        {f"r.{name}": value for name, value in expected.items()}, rel=1e-5
    )
    assert float(output["loss"]) == pytest.approx(50 * expected["image"] + expected["latent"], rel=1e-5)


def test_progress_tells_the_terms_and_metrics_hold_their_means(caplog: pytest.LogCaptureFixture) -> None:
    phases = [Phase("d", discriminate, "discriminator"), Phase("g", generate, "generator", every=2)]
    seen: list[dict[str, float]] = []
    trainer = _trainer(Gan(), phases, [TrainingProgress()], batches=2)
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED,
        lambda engine: seen.append({k: float(v) for k, v in engine.state.output[0][TERMS].items()}),
    )
    with caplog.at_level(logging.INFO):
        trainer.run()
    assert "d.real" in caplog.text and "g.fooled" in caplog.text
    metrics: Any = trainer.state.metrics
    assert metrics["d.real"] == pytest.approx((seen[0]["d.real"] + seen[1]["d.real"]) / 2, rel=1e-5)
    assert "train_loss" in metrics


def test_a_past_stage_is_no_longer_logged() -> None:
    phases = [Phase("r", rebuild, "encoder", last=2), Phase("g", generate, "generator", first=3)]
    trainer = _trainer(Gan(), phases, batches=3)
    trainer.run()
    output: Any = trainer.state.output
    assert list(output[TERMS]) == ["g.fooled"] and float(output["loss"]) == float(output[TERMS]["g.fooled"])


# what goes wrong


def test_a_term_that_is_not_finite_stops_before_anything_takes_it_over(tmp_path: Path) -> None:
    def breaking(network: Gan, batch: dict[str, Any]) -> dict[str, Tensor]:
        terms = rebuild(network, batch)
        calls.append(1)
        return {**terms, "latent": terms["latent"] * (float("nan") if len(calls) == 3 else 1.0)}

    calls: list[int] = []
    network, good = Gan(), Gan()
    handlers = [ResumableCheckpoint(tmp_path / "stopped", network, seconds=0)]
    phases = [Phase("autoencoder", breaking, "encoder")]
    with pytest.raises(InputError) as raised:
        _trainer(network, phases, handlers, epochs=5).run()
    for part in ("the term 'latent' of the phase 'autoencoder' is not finite", "iteration 3", "nan", "learning rate"):
        assert part in str(raised.value)
    assert all(bool(torch.isfinite(value).all()) for value in network.state_dict().values())

    # what was kept is the state after two iterations
    _trainer(good, [Phase("autoencoder", rebuild, "encoder")], epochs=2).run()
    kept = torch.load(tmp_path / "stopped", weights_only=True)
    assert kept["epoch"] == 2
    for name, value in good.state_dict().items():
        torch.testing.assert_close(kept["model"][name], value)


def test_a_gradient_that_is_not_finite_stops_too() -> None:
    def breaking(network: Gan, batch: dict[str, Any]) -> dict[str, Tensor]:
        return {"root": (network.encoder(batch["image"].flatten(1)) * 0).abs().sum().sqrt()}

    with pytest.raises(InputError, match="the norm of the gradients of the phase 'e' is not finite"):
        _trainer(Gan(), [Phase("e", breaking, "encoder")]).run()


@pytest.mark.parametrize(
    ("phases", "message"),
    [
        ([Phase("p", generate, "critic")], "names the optimiser 'critic'; there is encoder, generator, discriminator"),
        ([Phase("p", generate, "generator", after="remember")], "ends with remember.., which Gan has not"),
        ([Phase("p", generate, "generator", in_eval=["mapper"])], "names the child 'mapper'; there is encoder"),
        ([Phase("p", generate, "generator"), Phase("p", rebuild, "encoder")], "names of their own"),
        ([], "names of their own"),
    ],
)
def test_phases_that_do_not_fit_are_refused(phases: list[Phase], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _trainer(Gan(), phases)


def test_losses_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="has no term 'real'; it has fooled"):
        _trainer(Gan(), [Phase("g", generate, "generator", weights={"real": 2.0})]).run()
    with pytest.raises(ValueError, match="depends on nothing that its optimisers train"):
        _trainer(Gan(), [Phase("g", generate, "encoder")]).run()
    with pytest.raises(ValueError, match=r"'x' of phase 'g' is no scalar but \(4, 2\)"):
        rows = Phase("g", lambda network, batch: {"x": network.encoder(batch["image"].flatten(1))}, "encoder")
        _trainer(Gan(), [rows]).run()
    with pytest.raises(ValueError, match="offset"):
        Phase("g", generate, "generator", every=2, offset=2)


def test_optimisers_of_unknown_or_frozen_children_are_refused() -> None:
    network = Gan()
    with pytest.raises(ValueError, match="no child 'decoder'; it has encoder, generator, discriminator"):
        parameters_of(network, "decoder")
    network.encoder.requires_grad_(False)
    with pytest.raises(ValueError, match="nothing in 'encoder' of Gan can be trained"):
        parameters_of(network, "encoder")


# stopped and resumed


def test_a_stopped_training_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    def train(name: str, resume: bool = False, stop_after: int | None = None) -> tuple[Gan, MovingAverage]:
        network = Gan()
        torch.manual_seed(9)
        average = MovingAverage(network, {"generator": 0.9})
        phases = [
            Phase("d", discriminate, "discriminator", last=6),
            Phase("g", generate, "generator", every=2, last=6),
            Phase("r", rebuild, "encoder", first=7, in_eval=["generator"]),
        ]
        trainer = _trainer(network, phases, epochs=5, batches=2, momentum=0.9)
        handlers: list[Any] = [
            LearningRate(trainer.optimizer, lambda iteration: 0.5 ** (iteration // 3)),
            ResumableCheckpoint(
                tmp_path / name, network, trainer.optimizer, resume=resume, seconds=0, others={"average": average}
            ),
            average,
        ]
        for handler in handlers:
            handler.attach(trainer)
        if stop_after is not None:

            def stop(engine: Engine) -> None:
                if engine.state.iteration == stop_after:
                    raise KeyboardInterrupt

            trainer.add_event_handler(Events.ITERATION_COMPLETED, stop)
            with pytest.raises(KeyboardInterrupt):
                trainer.run()
        else:
            trainer.run()
        return network, average

    whole, _ = train("whole")
    for stop_after in (5, 9):  # in the first stage, in the second
        train(f"stop{stop_after}", stop_after=stop_after)
        resumed, _ = train(f"stop{stop_after}", resume=True)
        for name, value in whole.state_dict().items():
            assert torch.equal(resumed.state_dict()[name], value), name


def test_a_stopped_training_of_other_optimisers_is_refused(tmp_path: Path) -> None:
    network = Gan()
    trainer = _trainer(network, [Phase("e", rebuild, "encoder")])
    trainer.state.epoch_length = 1
    state: Any = trainer.state
    state.epoch = 0
    keeper = ResumableCheckpoint(
        tmp_path / "stopped", network, NamedOptimizers(only=torch.optim.SGD(network.parameters()))
    )
    keeper._save(state, torch.stack([torch.get_rng_state()]))
    with pytest.raises(InputError, match=r"another network.*optimisers \['only'\]"):
        _trainer(
            network,
            [Phase("e", rebuild, "encoder")],
            [ResumableCheckpoint(tmp_path / "stopped", network, trainer.optimizer, resume=True)],
            batches=1,
        )


def test_moving_average_is_what_is_kept_at_the_end() -> None:
    network = Gan()
    weights = [network.encoder.weight.detach().clone()]
    average = MovingAverage(network, {"encoder": 0.75})
    trainer = _trainer(network, [Phase("r", rebuild, "encoder")], batches=3)
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda _: weights.append(network.encoder.weight.detach().clone())
    )
    average.attach(trainer)
    trainer.run()
    expected = copy.deepcopy(weights[0])
    for iteration, weight in enumerate(weights[1:], 1):
        kept = min(0.75, (1 + iteration) / (10 + iteration))
        expected = kept * expected + (1 - kept) * weight
    torch.testing.assert_close(network.encoder.weight.detach(), expected)
    with pytest.raises(ValueError, match="no moving average of 'mapper'"):
        MovingAverage(network, {"mapper": 0.9})
