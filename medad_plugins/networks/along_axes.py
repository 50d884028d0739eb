"""Fitted 2D networks on the slices of volumes along three axes, as one network of volumes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medad_plugins.data.scan_format import ScanFormat
from medad_plugins.data.volume_slices import ALL_AXES, upright_slices, volumes_of_slices
from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.networks.backbones import FeatureTaps

__all__ = ["AlongAxes", "along_axes"]

_AT_ONCE = 64  # slices that pass a network together


class AlongAxes(AnomalyNetwork):
    """One fitted 2D network for the slices of volumes along each axis; their maps are averaged on the volume's grid.

    A slice along another axis shows another anatomy at another place, so each axis has statistics of its own. Slices
    are not padded, for each network sees those of one size. Frozen backbones are shared.

    Args:
        networks: one for each axis, with ``collect`` and ``fit``, not fitted yet.

    Shape:
        ``(B, C, R, A, S)`` in RAS to ``(B, 1, R, A, S)``.

    Example:
        >>> from medad_plugins.methods.padim import PaDiM
        >>> network = AlongAxes([PaDiM(backbone="resnet10", weights="none", dimensions=4) for _ in range(3)])
        >>> network.collect(torch.rand(2, 1, 32, 40, 36))
        >>> network.fit()
        >>> network.eval()(torch.rand(1, 1, 32, 40, 36)).shape
        torch.Size([1, 1, 32, 40, 36])
    """

    def __init__(self, networks: Sequence[AnomalyNetwork]) -> None:
        super().__init__()
        self.pool = networks[0].pool
        self.axes = nn.ModuleList(networks)
        _share_backbones(networks)

    def collect(self, image: Tensor) -> None:
        """Add a batch of normal volumes ``(B, C, R, A, S)``."""
        for axis, network in enumerate(self.axes):
            for slices in upright_slices(image, axis).split(_AT_ONCE):
                network.collect(slices)  # type: ignore[operator]

    def fit(self) -> None:
        """Fit the network of every axis to what was collected."""
        for network in self.axes:
            network.fit()  # type: ignore[operator]

    def anomaly_map(self, image: Tensor) -> Tensor:
        total = torch.zeros_like(image[:, :1], dtype=torch.float32)
        for axis, network in enumerate(self.axes):
            maps: list[Tensor] = []
            for slices in upright_slices(image, axis).split(_AT_ONCE):
                maps.append(network(slices))
            total = total + volumes_of_slices(torch.cat(maps), axis, image.shape[0])
        return total / len(self.axes)


def _share_backbones(networks: Sequence[nn.Module]) -> None:
    """Let all networks look through the first one's frozen backbones: their weights are alike, and kept once."""
    shared = {name: module for name, module in networks[0].named_modules() if isinstance(module, FeatureTaps)}
    for name, backbone in shared.items():
        if backbone.frozen:
            parent, _, child = name.rpartition(".")
            for network in networks[1:]:
                setattr(network.get_submodule(parent), child, backbone)


def along_axes(make: Callable[..., AnomalyNetwork], scan: ScanFormat, **arguments: Any) -> AnomalyNetwork:
    """A fitted method's network, or, where volumes are cut along all axes, one for each of them.

    Args:
        make: the network's class, with ``collect`` and ``fit``.
        scan: how scans come to the network.
        arguments: of the class.
    """
    if scan.slice_axis != ALL_AXES:
        return make(**arguments)
    return AlongAxes([make(**arguments) for _ in range(3)])
