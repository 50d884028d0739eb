"""Trainings of seconds on a frozen network's features: what they start from, the scans, and the steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from plain_resnet import varied_taps
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional


def weights_of_varied_taps(folder: Path) -> str:
    """A file of weights of a ResNet-10 whose norms do something."""
    path = folder / "resnet10.pth"
    torch.save(varied_taps("resnet10").state_dict(), path)
    return str(path)


def alike_scans() -> Tensor:
    """Ten scans ``(10, 1, 64, 64)``, 0..1, of one smooth pattern with a little noise."""
    base = functional.interpolate(torch.rand(1, 1, 8, 8), (64, 64), mode="bilinear")
    return (base + 0.03 * torch.randn(10, 1, 64, 64)).clamp(0, 1)


def standing_out(network: Any, changed: Tensor, normal: Tensor) -> float:
    """The lowest score of changed scans over the highest of normal ones, in eval mode."""
    network.eval()
    with torch.no_grad():
        return float(network.pool(network(changed)).min() / network.pool(network(normal)).max())


def auroc_of_scans(network: Any, scans: Tensor, labels: list[int]) -> float:
    """AUROC of a network as it stands, put into eval mode."""
    with torch.no_grad():
        return float(roc_auc_score(labels, network.eval().pool(network(scans)).numpy()))


def train_for_seconds(
    network: nn.Module, parameters: Iterable[nn.Parameter], loss: Callable[[Any], Tensor], scans: Tensor, rate: float
) -> None:
    """Sixty steps of Adam on all of the scans at once."""
    optimizer = torch.optim.Adam(parameters, lr=rate)
    network.train()
    for _ in range(60):
        optimizer.zero_grad()
        loss(network(scans)).backward()
        optimizer.step()
