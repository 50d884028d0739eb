"""The directions in which normal tokens vary, everywhere or place by place, and how far a token lies off them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from medad_plugins.errors import InputError
from medad_plugins.networks.fitted.token_head import TokenHead
from medad_plugins.networks.fitted.token_places import places_around, require_window

__all__ = ["TokenSubspace"]

logger = logging.getLogger(__name__)


class TokenSubspace(TokenHead):
    """Principal components of normal tokens that hold a share of their variance; the distance is what they leave over.

    Fitted by running sums: its memory does not grow with the scans, and those of several sites or processes add up.

    Args:
        share: of the variance that is normal, above 0 and below 1.
        window: edge of the window of places, odd, whose tokens have components in common; 1 for each place by itself,
            0 for all places.

    Buffers:
        count: tokens seen of every place, or of all. sum_x ``(Q, D)``, sum_xx ``(Q, D, D)``: float64 sums while
        collecting, empty after `fit`; Q is 1 for all places, else P. around ``(P, K)``: places in the window. mean
        ``(Q, D)``; axes ``(Q, K, D)``: the components kept, at least one, at most D - 1; zero where a place has fewer.

    Shape:
        tokens ``(B, P, D)`` to the lengths ``(B, P)`` of what is left of them.

    Reference:
        Lendering, Akdag and Bondarev, "SubspaceAD: training-free few-shot anomaly detection via subspace modeling",
        CVPR 2026.
    """

    def __init__(self, share: float = 0.99, window: int = 0) -> None:
        super().__init__()
        require_window(window)
        if not 0 < share < 1:
            raise ValueError(f"share must lie between 0 and 1, got {share}.")
        self.share, self.window, self.knows_places = share, window, window > 0
        self.count: Tensor = nn.Buffer(torch.zeros((), dtype=torch.long))
        self.sum_x: Tensor = nn.Buffer(torch.empty(0, dtype=torch.float64))
        self.sum_xx: Tensor = nn.Buffer(torch.empty(0, dtype=torch.float64))
        self.around: Tensor = nn.Buffer(torch.empty(0, 0, dtype=torch.long))
        self.mean: Tensor = nn.Buffer(torch.empty(0))
        self.axes: Tensor = nn.Buffer(torch.empty(0))

    def additive_buffers(self) -> tuple[str, ...]:
        return ("count", "sum_x", "sum_xx")

    def merge_buffers(self, states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The sums of several sites added up."""
        merged = super().merge_buffers(states)
        merged["around"] = max((state["around"] for state in states), key=torch.Tensor.numel)
        return merged

    def collect(self, tokens: Tensor, grid: Sequence[int]) -> None:
        """Add the tokens ``(B, V, P, D)`` of normal scans to the sums.

        Raises:
            InputError: the scans before had another grid.
        """
        x = tokens.detach().flatten(0, 1).double()
        x = x.flatten(0, 1)[None] if self.window == 0 else x.transpose(0, 1)
        if self.sum_x.numel() == 0:
            self.count = torch.zeros_like(self.count)
            self.sum_x = x.new_zeros(len(x), x.shape[2])
            self.sum_xx = x.new_zeros(len(x), x.shape[2], x.shape[2])
        if len(x) != len(self.sum_x):
            todo = "give all scans one --image_size"
            raise InputError("scans have tokens on other grids", found=tuple(grid), todo=todo)
        self.around = places_around(grid, self.window).to(x.device) if self.window > 1 else self.around
        self.count += x.shape[1]
        self.sum_x += x.sum(1)
        self.sum_xx.baddbmm_(x.transpose(1, 2), x)

    def fit(self) -> None:
        """Turn the sums into means and components, and drop them.

        Raises:
            InputError: there are fewer than two tokens, or they are all alike.
        """
        n = int(self.count)
        if n < 2 or self.sum_x.numel() == 0:
            raise InputError("components need two normal scans", found=n, todo="list more normal scans to train on")
        means, kept = [], []
        # in blocks, for components need as much again as the sums
        for block in torch.arange(len(self.sum_x), device=self.sum_x.device).split(32):
            mean, second = self._moments(block, n)
            covariance = second - mean.unsqueeze(2) * mean.unsqueeze(1)
            variances, components = torch.linalg.eigh(covariance)
            variances, components = variances.flip(1).clamp_min(0), components.flip(2)
            # what rounding leaves of tokens that are all alike is no variance
            floor = 1e-12 * second.diagonal(dim1=1, dim2=2).sum(1, keepdim=True)
            total = variances.sum(1, keepdim=True)
            before = (variances.cumsum(1) - variances) / total.clamp_min(1e-300)
            used = (before < self.share) & (total > floor)
            used[:, max(1, mean.shape[1] - 1) :] = False
            most = max(1, int(used.sum(1).amax()))
            means.append(mean.float())
            kept.append((components * used.unsqueeze(1)).transpose(1, 2)[:, :most].float())
        most = max(axes.shape[1] for axes in kept)
        if not any(bool(axes.any()) for axes in kept):
            raise InputError("the normal scans have the same features", found=f"{n} tokens", todo="list others")
        self.mean = torch.cat(means)
        self.axes = torch.cat([nn.functional.pad(axes, (0, 0, 0, most - axes.shape[1])) for axes in kept])
        self.sum_x, self.sum_xx = self.sum_x.new_empty(0), self.sum_xx.new_empty(0)
        used_most = int(self.axes.any(2).sum(1).amax())
        logger.info("%d of %d components at most hold %g of the variance.", used_most, self.mean.shape[1], self.share)

    def _moments(self, block: Tensor, n: int) -> tuple[Tensor, Tensor]:
        """Mean ``(b, D)`` and mean outer product ``(b, D, D)`` of the tokens in the windows about some places."""
        if self.window <= 1:
            return self.sum_x[block] / n, self.sum_xx[block] / n
        means, seconds = [], []
        for around in self.around[block]:
            inside = around[around >= 0]
            means.append(self.sum_x[inside].mean(0) / n)
            seconds.append(self.sum_xx[inside].mean(0) / n)
        return torch.stack(means), torch.stack(seconds)

    def distances(self, tokens: Tensor) -> Tensor:
        if self.axes.numel() == 0:
            raise RuntimeError("the subspace has not been fitted.")
        if self.window > 0 and tokens.shape[1] != self.mean.shape[0]:
            raise RuntimeError("the subspaces were fitted on another image size.")
        if self.window == 0:
            centred = tokens - self.mean
            left = centred - centred @ self.axes[0].t() @ self.axes[0]
            return torch.linalg.vector_norm(left, dim=2)
        centred = (tokens - self.mean).transpose(0, 1)
        along = torch.bmm(centred, self.axes.transpose(1, 2))
        return torch.linalg.vector_norm(centred - torch.bmm(along, self.axes), dim=2).transpose(0, 1)
