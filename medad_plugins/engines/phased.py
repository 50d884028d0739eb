"""Trainer of methods with several losses and optimisers: adversarial ones, and those that train in stages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine
from monai.engines.trainer import SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.inferers import Inferer
from monai.utils.enums import CommonKeys
from torch import Tensor, nn

from medad_plugins.engines.distributed import share_batch_norm
from medad_plugins.engines.gradients import limit_norm, set_gradients
from medad_plugins.engines.optimizers import NamedOptimizers
from medad_plugins.engines.phases import Phase, Terms
from medad_plugins.engines.scan_batch import ScanBatch
from medad_plugins.errors import InputError
from medad_plugins.plain_tensor import plain_tensor

__all__ = ["TERMS", "PhasedTrainer"]

TERMS = "terms"  # in the engine's output: the latest value of every term, as ``phase.term``


class PhasedTrainer(SupervisedTrainer):
    """Trains the parts of one network in turns, each iteration the phases that are due in their order.

    A `SupervisedTrainer`, as federated clients and MONAI's handlers expect. Each phase computes its named terms on the
    batch, takes the gradients of its own optimisers' parameters, and steps. A term or gradient that is not finite stops
    the training before anything has taken it over.

    Several processes do what one would: gradients are averaged, batch norms are of the whole batch, terms are means.
    Noise comes from `medad_plugins.networks.batch_normal`, which gives each process its share.

    Args:
        device: where to run.
        max_epochs: epochs of the engine.
        train_data_loader: batches, e.g. of `medad_plugins.data.IterationLoader`.
        network: all parts of the method, equal on all ranks and not wrapped.
        optimizer: by name; every phase names its own.
        phases: in order; see `Phase`.
        epoch_length: iterations of an epoch; None takes the loader's length.
        prepare_batch: as in MONAI: image and target; None takes `ScanBatch`'s.
        inferer: in which precision the losses are computed, e.g. `medad_plugins.inferers.PrecisionInferer`.
        train_handlers: as in MONAI. Of `IterationEvents`, those of losses and gradients are fired for each phase.

    Attributes:
        phases: in order.

    Output of an iteration: ``image``, ``loss`` (sum of the latest totals of the phases) and ``terms`` (the latest
    unweighted value of each, by ``phase.term``).

    Raises:
        ValueError: phases and optimisers do not fit.
        InputError: while training, when a term or a gradient is not finite.

    Example:
        >>> from medad_plugins.engines import NamedOptimizers, Phase
        >>> def rebuild(network, batch):
        ...     return {"error": (network(batch["image"]) - batch["target"]).square().mean()}
        >>> network = torch.nn.Linear(4, 4)
        >>> optimizer = NamedOptimizers(all=torch.optim.SGD(network.parameters(), lr=0.1))
        >>> batches, phases = [{"image": torch.ones(2, 4)}], [Phase("coder", rebuild, "all")]
        >>> trainer = PhasedTrainer("cpu", 3, batches, network, optimizer, phases)
        >>> trainer.run()
        >>> list(trainer.terms), trainer.state.iteration
        (['coder.error'], 3)
    """

    def __init__(
        self,
        device: str | torch.device,
        max_epochs: int,
        train_data_loader: Iterable[Any],
        network: nn.Module,
        optimizer: NamedOptimizers,
        phases: Sequence[Phase],
        epoch_length: int | None = None,
        prepare_batch: Callable[..., Any] | None = None,
        inferer: Inferer | None = None,
        train_handlers: Sequence[Any] | None = None,
    ) -> None:
        _require_fitting(network, optimizer, phases)
        share_batch_norm(network)
        super().__init__(
            device=device,
            max_epochs=max_epochs,
            train_data_loader=train_data_loader,
            network=network,
            optimizer=optimizer,  # type: ignore[arg-type]
            loss_function=None,  # type: ignore[arg-type]
            epoch_length=epoch_length,
            prepare_batch=prepare_batch or ScanBatch(target="image"),
            inferer=inferer,
            train_handlers=train_handlers,
            decollate=False,
        )
        self.phases, self.optimizers = list(phases), optimizer
        self.terms: Terms = {}
        self._totals: dict[str, Tensor] = {}

    def _iteration(self, engine: Any, batchdata: Any) -> dict[str, Any]:
        prepared = engine.prepare_batch(batchdata, engine.state.device, engine.non_blocking, **engine.to_kwargs)
        image, target = (_plain(value) for value in prepared[:2])
        engine.state.output = {CommonKeys.IMAGE: image}
        self._forget_past_stages(engine.state.iteration)
        for phase in self.phases:
            if phase.is_due(engine.state.iteration):
                for _ in range(phase.repeat):
                    self._step(engine, phase, image, target)
        total = torch.stack(list(self._totals.values())).sum() if self._totals else torch.tensor(float("nan"))
        engine.state.output.update({CommonKeys.LOSS: total, TERMS: dict(self.terms)})
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        output: dict[str, Any] = engine.state.output
        return output

    def _forget_past_stages(self, iteration: int) -> None:
        """Loss and terms are those of the phases that are still to be done."""
        past = {phase.name for phase in self.phases if phase.last is not None and phase.last < iteration}
        self._totals = {name: total for name, total in self._totals.items() if name not in past}
        self.terms = {name: value for name, value in self.terms.items() if name.partition(".")[0] not in past}

    def _step(self, engine: Any, phase: Phase, image: Tensor, target: Any) -> None:
        names = list(phase.descends)
        _prepare(self.network, phase, self.optimizers.parameters(*names))
        terms: Terms = engine.inferer(image, _LossOf(self.network, phase, target))
        engine.fire_event(IterationEvents.LOSS_COMPLETED)
        trained: list[nn.Parameter] = []
        for name, chosen in phase.descends.items():
            own = self.optimizers.parameters(name)
            trained += set_gradients(phase.total(terms, chosen), own, keep_graph=name != names[-1])
        if not trained:
            raise ValueError(f"the loss of phase {phase.name!r} depends on nothing that its optimisers train.")
        engine.fire_event(IterationEvents.BACKWARD_COMPLETED)
        values = _means_over_ranks(terms)
        _require_finite(phase, values, limit_norm(trained, phase.clip), engine)
        for name in names:
            self.optimizers[name].step()
        self._totals[phase.name] = phase.total(values)
        self.terms.update({f"{phase.name}.{name}": value for name, value in values.items()})
        phase.finish(self.network, values)


class _LossOf(nn.Module):
    """A phase's loss as something that an inferer can call on the image, in its precision and memory layout."""

    def __init__(self, network: nn.Module, phase: Phase, target: Any) -> None:
        super().__init__()
        self.network, self.phase, self.target = network, phase, target

    def forward(self, image: Tensor) -> Terms:
        return self.phase.terms(self.network, {CommonKeys.IMAGE: image, "target": self.target})


def _prepare(network: nn.Module, phase: Phase, trained: Sequence[nn.Parameter]) -> None:
    """Modes of the network's parts and who takes gradients, for a phase."""
    network.train()
    for child in phase.in_eval:
        network.get_submodule(child).eval()
    chosen = {id(parameter) for parameter in trained}
    for parameter in network.parameters():
        parameter.requires_grad_(id(parameter) in chosen)


def _means_over_ranks(terms: Mapping[str, Tensor]) -> Terms:
    values = torch.stack([value.detach() for value in terms.values()])
    if idist.get_world_size() > 1:
        reduced = idist.all_reduce(values)
        assert isinstance(reduced, Tensor)
        values = reduced / idist.get_world_size()
    return dict(zip(terms, values.unbind(), strict=True))


def _require_finite(phase: Phase, terms: Terms, norm: Tensor, engine: Engine) -> None:
    numbers = torch.stack([*terms.values(), norm.float()])
    if bool(torch.isfinite(numbers).all()):  # one wait for the device
        return
    named = [*(f"the term {name!r}" for name in terms), "the norm of the gradients"]
    index = int(torch.nonzero(~torch.isfinite(numbers))[0])
    raise InputError(
        f"the training diverged: {named[index]} of the phase {phase.name!r} is not finite",
        where=f"iteration {engine.state.iteration}",
        found=float(numbers[index]),
        todo="train again with a lower learning rate or --precision float32; the last state that was kept is good",
    )


def _plain(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return type(value)(_plain(each) for each in value)
    return plain_tensor(value)


def _require_fitting(network: nn.Module, optimizer: NamedOptimizers, phases: Sequence[Phase]) -> None:
    names = [phase.name for phase in phases]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"phases need names of their own, got {names}.")
    children = dict(network.named_modules())
    for phase in phases:
        for name in phase.descends:
            if name not in optimizer:
                raise ValueError(f"phase {phase.name!r} names the optimiser {name!r}; there is {', '.join(optimizer)}.")
        if isinstance(phase.after, str) and not callable(getattr(network, phase.after, None)):
            raise ValueError(f"phase {phase.name!r} ends with {phase.after}(), which {type(network).__name__} has not.")
        for child in phase.in_eval:
            if child not in children:
                known = ", ".join(name for name, _ in network.named_children())
                raise ValueError(f"phase {phase.name!r} names the child {child!r}; there is {known}.")
