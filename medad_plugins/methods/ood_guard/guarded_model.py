"""Somebody's trained model, frozen, with its output and the features of one of its layers."""

from __future__ import annotations

import inspect
import io
from collections.abc import Mapping
from typing import Any

import torch
from monai.bundle import ConfigComponent
from monai.networks import nets
from torch import Tensor, fx, nn

from medad_plugins.errors import InputError
from medad_plugins.scorers.fitted import FittedModule

__all__ = ["OUTPUT", "KeptProgram", "first_tensor", "guarded_model", "load_program", "make_network"]

OUTPUT = "output"


def make_network(config: Mapping[str, Any]) -> nn.Module:
    """A network of `monai.networks.nets` from its configuration, with random weights.

    No other class is made: a model file may come from anywhere.

    Raises:
        InputError: the configuration names another class, or its arguments do not fit.
    """
    name = str(config.get("_target_", "")).rpartition(".")[2]
    module = str(config.get("_target_", "")).rpartition(".")[0]
    kind = getattr(nets, name, None)
    if kind is None or not callable(kind) or (module and not module.startswith("monai.networks.nets")):
        todo = "give the model as a TorchScript file"
        raise InputError(
            "the guarded network is none of MONAI's", where="_target_", found=config.get("_target_"), todo=todo
        )
    arguments = {key: value for key, value in config.items() if key != "_target_"}
    if "pretrained" in inspect.signature(kind).parameters:
        arguments["pretrained"] = False  # its weights are the bundle's; nothing is downloaded
    try:
        network: Any = ConfigComponent({"_target_": f"monai.networks.nets.{name}", **arguments}).instantiate()
    except Exception as error:
        found = str(error).strip().splitlines()[-1]
        raise InputError("the guarded network cannot be made", where=name, found=found) from error
    assert isinstance(network, nn.Module)
    return network


def load_program(archive: bytes) -> nn.Module:
    """The program of a TorchScript file.

    Raises:
        InputError: it is none.
    """
    try:
        program: nn.Module = torch.jit.load(io.BytesIO(archive), map_location="cpu")
    except Exception as error:  # whatever damaged bytes provoke
        todo = "save it with torch.jit.save, or give the folder of a MONAI bundle"
        raise InputError("the file is no TorchScript program", where="--guarded", todo=todo) from error
    for parameter in program.parameters():
        parameter.requires_grad_(False)
    return program.eval()


def first_tensor(outputs: Any) -> Tensor:
    """The first of a model's outputs, which is its prediction."""
    first = outputs[0] if isinstance(outputs, (list, tuple)) else outputs
    if not isinstance(first, Tensor):
        raise TypeError(f"the model gives no tensor but {type(first).__name__}")
    return first


class KeptProgram(FittedModule):
    """A TorchScript program that travels in the state dict: as its file's bytes, from which it is loaded again.

    Args:
        archive: the file's bytes; None where they come with a state dict.

    Buffers:
        archive ``(n,)``, uint8.
    """

    def __init__(self, archive: bytes | None = None) -> None:
        super().__init__()
        content = torch.empty(0, dtype=torch.uint8)
        if archive is not None:
            content = torch.frombuffer(bytearray(archive), dtype=torch.uint8)
        self.archive: Tensor = nn.Buffer(content)
        self.program: nn.Module = nn.Identity() if archive is None else load_program(archive)
        self.register_state_dict_post_hook(_without_program)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        saved = state_dict.get(f"{prefix}archive")
        if saved is not None:
            if not torch.equal(saved, self.archive):
                self.program = load_program(saved.cpu().numpy().tobytes()).to(self.archive.device)
            # a strict load looks for them, and the file is where they are
            own = self.program.state_dict()
            state_dict.update({f"{prefix}program.{name}": value for name, value in own.items()})
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _without_program(module: nn.Module, state: dict[str, Any], prefix: str, local_metadata: Any) -> None:
    for name in [name for name in state if name.startswith(f"{prefix}program.")]:
        del state[name]


class _Frozen(nn.Module):
    """Stays in eval mode: nothing that somebody trained changes here."""

    def train(self, mode: bool = True) -> Any:
        return super().train(False)


class _OutputAlone(_Frozen):
    """The features are the output.

    Shape:
        ``(B, C, *spatial)`` to the first output, twice.
    """

    __constants__ = ["takes_first"]  # noqa: RUF012 - by which TorchScript leaves branches out

    def __init__(self, model: nn.Module, takes_first: bool) -> None:
        super().__init__()
        self.model, self.takes_first = model, takes_first

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        outputs = self.model(image)
        if self.takes_first:
            return outputs[0], outputs[0]
        return outputs, outputs


class _ProgramAlone(_Frozen):
    """The same of a program, which is asked without a wrapper: TorchScript then knows what it gives."""

    __constants__ = ["takes_first"]  # noqa: RUF012

    def __init__(self, model: KeptProgram, takes_first: bool) -> None:
        super().__init__()
        self.model, self.takes_first = model, takes_first

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        outputs = self.model.program(image)
        if self.takes_first:
            return outputs[0], outputs[0]
        return outputs, outputs


class _Traced(_Frozen):
    """The network as a graph that has a layer's output among its own, so that it can be exported."""

    def __init__(self, model: nn.Module, layer: str) -> None:
        super().__init__()
        self.model = _with_layer(model, layer)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        both: tuple[Tensor, Tensor] = self.model(image)
        return both


class _Watched(_Frozen):
    """The network with a hook at a layer, for networks whose code cannot be made a graph."""

    def __init__(self, model: nn.Module, layer: str) -> None:
        super().__init__()
        self.model, self.layer = model, layer

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        seen: list[Tensor] = []
        hook = self.model.get_submodule(self.layer).register_forward_hook(lambda _m, _i, output: seen.append(output))
        try:
            output = first_tensor(self.model(image))
        finally:
            hook.remove()
        return output, seen[-1]


class _Tracer(fx.Tracer):
    """Looks into all modules but one."""

    def __init__(self, layer: str) -> None:
        super().__init__()
        self.layer = layer

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name == self.layer or super().is_leaf_module(m, module_qualified_name)


def _with_layer(model: nn.Module, layer: str) -> fx.GraphModule:
    graph = _Tracer(layer).trace(model)
    calls = [node for node in graph.nodes if node.op == "call_module" and node.target == layer]
    output = next(node for node in graph.nodes if node.op == "output")
    found = output.args[0]
    first = found[0] if isinstance(found, (list, tuple)) else found
    output.args = ((first, calls[-1]),)
    for node in graph.nodes:
        node.type = None  # TorchScript does not know the names that these are written by
    graph.lint()
    return fx.GraphModule(model, graph)


def guarded_model(definition: Mapping[str, Any], archive: bytes | None = None) -> nn.Module:
    """The model of a definition, frozen: ``(B, C, *spatial)`` to its output and the features of its layer.

    Args:
        definition: see `medad_plugins.methods.ood_guard.guarded_definition`.
        archive: of a TorchScript program; None where it comes with a state dict.
    """
    if definition["network"] is None:
        return _ProgramAlone(KeptProgram(archive), definition["takes_first"]).eval()
    network = make_network(definition["network"]).requires_grad_(False).eval()
    layer = definition["layer"]
    if layer == OUTPUT:
        return _OutputAlone(network, definition["takes_first"]).eval()
    try:
        return _Traced(network, layer).eval()
    except Exception:  # each network that is no graph fails in its own way
        return _Watched(network, layer).eval()
