"""One network from what several sites made of it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medad_plugins.errors import InputError
from medad_plugins.federated.messages import Reply
from medad_plugins.scorers.fitted import FittedModule

__all__ = ["merge_replies"]

# PyTorch's batch norms count the batches seen; with a momentum nothing depends on it
_COUNTERS = ("num_batches_tracked",)


def merge_replies(network: nn.Module, replies: Sequence[Reply]) -> None:
    """Make of a network, in place, what several sites made of it together.

    A `FittedModule` says itself how its buffers merge: sums are added up, banks laid together, a calibration takes the
    reference scores of all. Everything else, parameters and running statistics of batch norms, is averaged, each site
    weighted by its number of cases; what is equal at all sites stays as it is, bit for bit. Of counters of batches the
    highest is kept; other integers must be equal.

    Args:
        network: as it was sent to the sites.
        replies: one for each site, in the order in which banks are to be laid together.

    Raises:
        InputError: there is no reply or no case, or what a site sent does not fit the network or the other sites.
    """
    if not replies or sum(reply.cases for reply in replies) <= 0:
        raise InputError("there is nothing to merge", expected="replies of sites with cases", found=len(replies))
    sent = network.state_dict()
    for reply in replies:
        _refuse_unfit(reply, sent)
    states = [{**sent, **{name: value.to(sent[name].device) for name, value in r.state.items()}} for r in replies]
    changed = {name for reply in replies for name in reply.state}

    merged = dict(sent)
    by_own_rule: set[str] = set()
    touched = []
    for module_name, module in network.named_modules():
        if not isinstance(module, FittedModule):
            continue
        prefix = f"{module_name}." if module_name else ""
        names = [name for name, _ in module.named_buffers(recurse=False) if prefix + name in sent]
        # sums that no site has added to must not be added up again
        if not changed.intersection(prefix + name for name in names):
            continue
        touched.append(module)
        try:
            own = module.merge_buffers([{name: state[prefix + name] for name in names} for state in states])
        except RuntimeError as error:
            raise _differs(module_name, [reply.site for reply in replies], str(error).splitlines()[0]) from error
        merged.update({prefix + name: value for name, value in own.items()})
        by_own_rule.update(prefix + name for name in own)
    for name in changed - by_own_rule:
        merged[name] = _average(name, [state[name] for state in states], replies)
    network.load_state_dict(merged, strict=True)
    for module in touched:
        module.after_merge()


def _refuse_unfit(reply: Reply, sent: dict[str, Tensor]) -> None:
    for name, value in reply.state.items():
        if name not in sent:
            todo = "use the same version of the bundle everywhere"
            raise InputError("a site sent what the network does not have", where=reply.site, found=name, todo=todo)
        if value.dtype != sent[name].dtype:
            expected = f"{name} as {sent[name].dtype}"
            raise InputError(
                "a site sent another type of number", where=reply.site, expected=expected, found=value.dtype
            )
        if not torch.isfinite(value).all():
            todo = "lower the learning rate, or leave this site out"
            raise InputError("a site sent numbers that are not finite", where=reply.site, found=name, todo=todo)


def _average(name: str, values: Sequence[Tensor], replies: Sequence[Reply]) -> Tensor:
    first, sites = values[0], [reply.site for reply in replies]
    if any(value.shape != first.shape for value in values):
        raise _differs(name, sites, ", ".join(str(tuple(value.shape)) for value in values))
    if all(torch.equal(value, first) for value in values):
        return first
    if name.rpartition(".")[2] in _COUNTERS:
        return torch.stack(list(values)).amax(0)
    if not first.is_floating_point():
        raise _differs(name, sites, "other integers at each site")
    total = sum(reply.cases for reply in replies)
    mean = torch.zeros_like(first, dtype=torch.float64)
    for value, reply in zip(values, replies, strict=True):
        mean += value.double() * (reply.cases / total)
    return mean.to(first.dtype)


def _differs(name: str, sites: Sequence[str], found: str) -> InputError:
    return InputError(
        "what the sites sent cannot be merged",
        where=f"{name} of {', '.join(sites)}",
        found=found,
        todo="use the same settings at every site, or a method whose state merges (docs/federated.md)",
    )
