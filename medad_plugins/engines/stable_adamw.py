"""AdamW whose step is shortened where gradients jump."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

__all__ = ["StableAdamW"]


class StableAdamW(torch.optim.Optimizer):
    """AdamW with the update clipping of Adafactor: no warm-up of the moments can make a step too long.

    As in AdamW a weight is multiplied by ``1 - lr * weight_decay`` and moved against its mean gradient over the root of
    its mean squared gradient. The step of a tensor is divided by the root mean square, over its values, of this
    iteration's gradient over that same root, where this is above ``clip_threshold``: when gradients grow faster than
    their mean squares do, the step does not.

    Args:
        params: tensors, or groups of them.
        lr: learning rate.
        betas: decays of the mean gradient and of the mean squared gradient.
        eps: added to the root.
        weight_decay: decoupled.
        amsgrad: divide by the largest mean square so far.
        clip_threshold: root mean square up to which a step is left as it is.

    References:
        Wortsman et al., "Stable and low-precision training for large-scale vision-language models", NeurIPS 2023.
        Reddi et al., "On the Convergence of Adam and Beyond", ICLR 2018 (``amsgrad``).

    Example:
        >>> weight = torch.nn.Parameter(torch.ones(1))
        >>> optimizer = StableAdamW([weight], lr=0.1, weight_decay=0)
        >>> (weight * 3).sum().backward()
        >>> optimizer.step()
        >>> weight.data
        tensor([0.9000])
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        clip_threshold: float = 1.0,
    ) -> None:
        if lr < 0 or eps < 0 or weight_decay < 0 or clip_threshold <= 0:
            raise ValueError(
                "lr, eps and weight_decay must not be negative and clip_threshold must be positive, "
                f"got {lr}, {eps}, {weight_decay} and {clip_threshold}."
            )
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas must lie in [0, 1), got {tuple(betas)}.")
        defaults = {
            "lr": lr,
            "betas": tuple(betas),
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "clip_threshold": clip_threshold,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Move all tensors that have a gradient; the closure, if there is one, computes the loss anew first."""
        loss: float | None = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, parameter.grad, group)
        return loss

    def _move(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = 0
            for name in ("mean", "square", *(["largest"] if group["amsgrad"] else [])):
                state[name] = torch.zeros_like(parameter)
        state["step"] += 1
        first, second = group["betas"]
        mean, square = state["mean"], state["square"]
        mean.lerp_(gradient, 1 - first)
        square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        if group["amsgrad"]:
            square = torch.maximum(state["largest"], square, out=state["largest"])
        root = square.sqrt().mul_((1 - second ** state["step"]) ** -0.5).add_(group["eps"])
        jump = (gradient / root).square_().mean().sqrt_()
        # the shortening goes into the root: as a tensor, for a number would have a GPU wait
        root.mul_((jump / group["clip_threshold"]).clamp_min_(1.0))
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.addcdiv_(mean, root, value=-group["lr"] / (1 - first ** state["step"]))
