"""Several processes that work as one: started by ``torchrun``, each with its share of the cases."""

from __future__ import annotations

import atexit
import gc
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any, TypeVar

import ignite.distributed as idist
import torch
from monai.utils import evenly_divisible_all_gather
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from medad_plugins.data import FaultTolerantLoader
from medad_plugins.engines.rank_batch_norm import synchronise_batch_norm
from medad_plugins.errors import InputError
from medad_plugins.protocols import ModuleLike
from medad_plugins.scorers.fitted import FittedModule

__all__ = [
    "additive_buffers",
    "gather_images",
    "gather_list",
    "join_ranks",
    "share_batch_norm",
    "shared_network",
    "sum_over_ranks",
]

_Item = TypeVar("_Item")


def join_ranks(device: str | torch.device = "cpu") -> None:
    """Connect the processes that ``torchrun`` started; where there is only one, nothing happens.

    Processes on GPUs talk by nccl, each on the GPU of its own number on its machine, others by gloo. All but the first
    are silent, except for errors and scans that cannot be read.

    Args:
        device: what the configuration computes on, ``"cuda"`` or ``"cpu"``.

    Raises:
        InputError: there are more processes than GPUs on this machine, or the device names one GPU for all of them.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or "MASTER_ADDR" not in os.environ or idist.get_world_size() > 1:
        return
    wanted = torch.device(device)
    if wanted.type == "cuda":
        _require_own_gpu(wanted)
    idist.initialize("nccl" if wanted.type == "cuda" else "gloo")
    atexit.register(_leave_ranks)
    if idist.get_rank() > 0:
        logging.getLogger().setLevel(logging.ERROR)
        logging.getLogger(FaultTolerantLoader.__module__).setLevel(logging.WARNING)


def _require_own_gpu(device: torch.device) -> None:
    processes, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
    if device.index is not None:
        todo = "give --device cuda, which gives each process a GPU of its own"
        raise InputError("one GPU is named for several processes", where="--device", found=device, todo=todo)
    if processes > gpus:
        todo = f"start torchrun with --nproc_per_node={gpus}"
        raise InputError("there are more processes than GPUs", expected=gpus, found=processes, todo=todo)


def _leave_ranks() -> None:
    # after an error the other processes may be waiting for this one: torchrun ends them
    if getattr(sys, "last_value", None) is None:
        # A network that is shared keeps the group's threads alive; ended by the interpreter itself, they abort the
        # process or wait for it forever. So what is garbage goes first, and the group's end lets its threads run.
        gc.collect()
        idist.finalize()


def shared_network(network: nn.Module, unused_parameters: bool = False) -> nn.Module:
    """The network for a trainer: with several processes, gradients and batch statistics are those of all of them.

    The network's batch norms are replaced in place; its parameters stay the same objects, so optimisers, handlers and
    checkpoints go on using the network itself.

    Args:
        network: on its device, equal on all ranks.
        unused_parameters: whether the loss leaves out some of the parameters that require a gradient.

    Returns:
        the network itself where there is one process, else its `DistributedDataParallel`.
    """
    if idist.get_world_size() == 1:
        return network
    network = share_batch_norm(network)
    devices = [torch.cuda.current_device()] if next(network.parameters()).is_cuda else None
    # not idist.auto_model: it takes GPUs for granted where there are any, and splits batches over them by threads
    return DistributedDataParallel(network, device_ids=devices, find_unused_parameters=unused_parameters)


def share_batch_norm(network: nn.Module) -> nn.Module:
    """The network, its batch norms below replaced in place by those over the batches of all ranks; alone as it is."""
    if idist.get_world_size() == 1:
        return network
    if next(network.parameters()).is_cuda:
        return nn.SyncBatchNorm.convert_sync_batchnorm(network)
    synchronise_batch_norm(network)
    return network


def gather_list(items: Sequence[_Item]) -> list[_Item]:
    """The items of all ranks, those of the first rank first, on every rank; any plain values."""
    if idist.get_world_size() == 1:
        return list(items)
    shares: Any = idist.all_gather(list(items))
    return [item for share in shares for item in share]


def gather_images(images: Tensor | None) -> Tensor:
    """A batch ``(B, C, *spatial)`` from what the ranks have of it, every process's next case by turns.

    Args:
        images: this rank's cases; None where it has none. Those of different sizes are padded to the largest.
    """
    if idist.get_world_size() == 1:
        assert images is not None
        return images
    examples = [one for one in gather_list([None if images is None else (images.shape[1:], images.dtype)]) if one]
    # scans at a spacing differ in size: padded at their ends, as those of a batch are
    shape = [max(edges) for edges in zip(*(shape for shape, _ in examples), strict=True)]
    if images is None:
        images = torch.empty(0, *shape, dtype=examples[0][1], device=idist.device())
    elif list(images.shape[1:]) != shape:
        more = [most - own for most, own in zip(shape[:0:-1], images.shape[:1:-1], strict=True)]
        images = functional.pad(images, [pad for edge in more for pad in (0, edge)])
    shares = evenly_divisible_all_gather(images, concat=False)
    places = [(index, rank) for rank, share in enumerate(shares) for index in range(len(share))]
    order = sorted(range(len(places)), key=places.__getitem__)
    return torch.cat(list(shares))[order]


def additive_buffers(network: ModuleLike) -> list[tuple[FittedModule, str]]:
    """Modules and names of the buffers that hold sums over the cases seen, see `FittedModule.additive_buffers`."""
    modules = [module for module in network.modules() if isinstance(module, FittedModule)]
    return [(module, name) for module in modules for name in module.additive_buffers()]


def sum_over_ranks(network: ModuleLike) -> None:
    """Make the additive buffers of a network, in place, those of the cases of all ranks."""
    if idist.get_world_size() == 1:
        return
    for module, name in additive_buffers(network):
        own: Tensor = getattr(module, name)
        shape = max(gather_list([tuple(own.shape)]), key=lambda shape: torch.Size(shape).numel())
        # a rank that has seen no case has sums without a shape
        total = own.clone() if tuple(own.shape) == shape else own.new_zeros(shape)
        setattr(module, name, idist.all_reduce(total))
