"""Batch norm over the batch of all ranks where PyTorch has none: on processors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["RankBatchNorm", "synchronise_batch_norm"]


class _OverRanks(torch.autograd.Function):
    """Normalises a rank's share ``(B, C, *spatial)`` of a batch by the mean and variance ``(C,)`` of all of it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mean: Tensor, inverse_std: Tensor, count: float) -> Tensor:
        shape = [1, -1, *[1] * (x.dim() - 2)]
        normal = (x - mean.view(shape)) * inverse_std.view(shape)
        ctx.save_for_backward(normal, inverse_std)
        ctx.count = count
        return normal

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        # mean and variance depend on the scans of all ranks, so the loss of each reaches the scans of all
        normal, inverse_std = ctx.saved_tensors
        dims = [0, *range(2, normal.dim())]
        sums = torch.stack([gradient.sum(dims), (gradient * normal).sum(dims)])
        distributed.all_reduce(sums)
        shape = [1, -1, *[1] * (normal.dim() - 2)]
        first, second = (each.view(shape) for each in sums / ctx.count)
        return (gradient - first - normal * second) * inverse_std.view(shape), None, None, None


class RankBatchNorm(_BatchNorm):
    """Batch norm of any dimension whose training statistics are those of the batches of all ranks together.

    For several processes without a GPU; `torch.nn.SyncBatchNorm` is for GPUs only. Every rank has a share of the same
    size. State dict as `torch.nn.BatchNorm2d`.
    """

    @classmethod
    def like(cls, norm: _BatchNorm) -> RankBatchNorm:
        """One with the very parameters and buffers of another batch norm, so that an optimiser keeps its own."""
        made = cls(norm.num_features, norm.eps, norm.momentum, affine=False, track_running_stats=False)
        made.affine, made.track_running_stats = norm.affine, norm.track_running_stats
        made.weight, made.bias = norm.weight, norm.bias
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            setattr(made, name, getattr(norm, name))
        return made.train(norm.training)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected (B, C, *spatial), got {tuple(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        self._check_input_dim(input)
        values = input.to(torch.promote_types(input.dtype, torch.float32))
        mean, variance, count = _moments_over_ranks(values.detach())
        self._follow(mean, variance * (count / max(count - 1, 1)))
        output: Tensor = _OverRanks.apply(values, mean, torch.rsqrt(variance + self.eps), count)
        if self.affine:
            shape = [1, -1, *[1] * (values.dim() - 2)]
            output = output * self.weight.view(shape) + self.bias.view(shape)
        return output.to(input.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        if not self.track_running_stats or self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        rate = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, rate)
        self.running_var.lerp_(variance, rate)


def _moments_over_ranks(values: Tensor) -> tuple[Tensor, Tensor, float]:
    """Mean and variance ``(C,)`` over the batches of all ranks, and how many values each is of."""
    dims = [0, *range(2, values.dim())]
    variance, mean = torch.var_mean(values, dims, correction=0)
    own = torch.stack([mean, variance]).double()
    shares = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
    distributed.all_gather(shares, own)
    means, variances = torch.stack(shares, 1)
    # the shares are of equal size: the variance is the mean of theirs and the variance of their means
    total = (variances + (means - means.mean(0)).square()).mean(0)
    return means.mean(0).to(values.dtype), total.to(values.dtype), values.numel() / values.shape[1] * len(shares)


def synchronise_batch_norm(network: nn.Module) -> None:
    """Let all batch norms of a network, in place, take the statistics of all ranks' batches."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, _BatchNorm) and not isinstance(child, (RankBatchNorm, nn.SyncBatchNorm)):
                setattr(parent, name, RankBatchNorm.like(child))
