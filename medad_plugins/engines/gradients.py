"""Gradients of chosen parameters: averaged over the processes, and limited in their norm."""

from __future__ import annotations

from collections.abc import Sequence

import ignite.distributed as idist
import torch
from torch import Tensor, nn

__all__ = ["average_over_ranks", "limit_norm", "set_gradients"]


def set_gradients(loss: Tensor, parameters: Sequence[nn.Parameter], keep_graph: bool = False) -> list[nn.Parameter]:
    """Make the gradient of a loss, and nothing besides, the gradient of each of the parameters.

    Other parameters that the loss depends on are left alone. With several processes it is the mean over all of them.

    Returns:
        the parameters that the loss depends on; the gradient of the others is None.
    """
    gradients: Sequence[Tensor | None] = [None] * len(parameters)
    if loss.requires_grad:
        gradients = torch.autograd.grad(loss, list(parameters), retain_graph=keep_graph, allow_unused=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = None if gradient is None else _laid_out_as(gradient, parameter)
    used = [parameter for parameter in parameters if parameter.grad is not None]
    average_over_ranks(used)
    return used


def _laid_out_as(gradient: Tensor, parameter: Tensor) -> Tensor:
    """The gradient in the parameter's memory layout, as ``backward()`` leaves it: fused optimisers read it by that."""
    if gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter).copy_(gradient)


def average_over_ranks(parameters: Sequence[nn.Parameter]) -> None:
    """Make the gradients of the parameters, in place, the mean of those of all processes; all in one message."""
    ranks = idist.get_world_size()
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if ranks == 1 or not gradients:
        return
    joined = idist.all_reduce(torch.cat([gradient.flatten() for gradient in gradients]))
    assert isinstance(joined, Tensor)
    parts = (joined / ranks).split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


def limit_norm(parameters: Sequence[nn.Parameter], highest: float | None = None) -> Tensor:
    """Scale gradients down, in place, to a highest norm of all together; their norm before, a scalar.

    Args:
        parameters: with gradients.
        highest: norm; None leaves them as they are.
    """
    norm = nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
    if highest is not None:
        nn.utils.clip_grads_with_norm_(parameters, highest, norm)
    return norm
