"""Fitted 2D networks on the slices of volumes along three axes, as one network of volumes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.networks.backbones import FeatureTaps
from medad_plugins.opposite_side import OppositeSide, mirrored_volumes
from medad_plugins.volume_slices import ALL_AXES, REFERENCES, upright_slices, volumes_of_slices

__all__ = ["AlongAxes", "along_axes"]

_AT_ONCE = 64  # slices that pass a network together


class AlongAxes(AnomalyNetwork):
    """Fitted 2D networks, one for the slices of volumes along each axis; their maps are averaged on the volume's grid.

    A slice along another axis shows another anatomy, so each axis has statistics of its own. Slices are as near to each
    other as the locations of the networks' finest map, between which maps are interpolated. They are not padded,
    for each network sees those of one size. Frozen backbones are shared.

    Args:
        make: gives one of the networks, with ``collect`` and ``fit``.
        paired: what both sides of a volume show alike counts for nothing, see `OppositeSide`; with ``"references"``
            this stays, and normal volumes are shown mirrored too.

    Shape:
        ``(B, C, R, A, S)`` in RAS to ``(B, 1, R, A, S)``.

    Example:
        >>> from medad_plugins.methods.padim import PaDiM
        >>> network = AlongAxes(lambda: PaDiM(backbone="resnet10", weights="none", dimensions=4))
        >>> network.collect(torch.rand(2, 1, 32, 40, 36))
        >>> network.fit()
        >>> network.eval()(torch.rand(1, 1, 32, 40, 36)).shape
        torch.Size([1, 1, 32, 40, 36])
    """

    cuts_volumes = True  # an inferer shows it whole ones

    def __init__(self, make: Callable[[], Any], paired: bool | str = False) -> None:
        super().__init__()
        self.mirrored = paired == REFERENCES
        self.opposite_side = OppositeSide() if paired and not self.mirrored else None
        networks: list[AnomalyNetwork] = [make()]
        networks += [_sharing(networks[0], make()) for _ in range(2)]
        self.pool = networks[0].pool
        self.at_once = _AT_ONCE
        self.step = max(1, min(_strides(networks[0]), default=1))
        self.axes = nn.ModuleList(networks)

    def collect(self, image: Tensor) -> None:
        """Add a batch of normal volumes ``(B, C, R, A, S)``."""
        both = torch.cat([image, mirrored_volumes(image)]) if self.mirrored else image
        for axis, network in enumerate(self._fitted()):
            # sagittal slices of a mirrored volume are those of the volume itself
            for volume in image if axis == 0 else both:
                for some in self.slices(volume.unsqueeze(0), axis).split(self.at_once):
                    network.collect(some)

    def fit(self) -> None:
        """Fit the network of every axis to what was collected."""
        for network in self._fitted():
            network.fit()

    def _fitted(self) -> list[Any]:
        return list(self.axes)

    def anomaly_map(self, image: Tensor) -> Tensor:
        maps: list[Tensor] = []
        for number in range(image.shape[0]):
            maps.append(self.map_of(image[number : number + 1]))
        return torch.cat(maps)

    def map_of(self, volume: Tensor) -> Tensor:
        """The map ``(1, 1, R, A, S)`` of a volume ``(1, C, R, A, S)``."""
        total = torch.zeros_like(volume[:, :1], dtype=torch.float32)
        for axis, network in enumerate(self.axes):
            found: list[Tensor] = []
            for some in self.slices(volume, axis).split(self.at_once):
                found.append(network(some))
            along = volumes_of_slices(torch.cat(found), axis, 1)
            total = total + functional.interpolate(along, volume.shape[2:], mode="trilinear", align_corners=False)
        total = total / len(self.axes)
        return total if self.opposite_side is None else self.opposite_side(total, volume)

    def slices(self, volume: Tensor, axis: int) -> Tensor:
        """Slices ``(n, C, rows, columns)`` of a volume ``(1, C, R, A, S)`` along an axis, evenly over it."""
        depth = volume.shape[2 + axis]
        count = (depth + self.step - 1) // self.step
        # where interpolation takes the n-th of so many to be
        places = ((torch.arange(count, device=volume.device) + 0.5) * depth / count).long().clamp(max=depth - 1)
        return upright_slices(volume, axis)[places]


def _strides(network: nn.Module) -> list[int]:
    """Pixels along an edge of one location of the finest map of each backbone."""
    return [min(module.strides) for module in network.modules() if isinstance(module, FeatureTaps)]


def _sharing(first: nn.Module, network: AnomalyNetwork) -> AnomalyNetwork:
    """The network with the first one's frozen backbones for its own: their weights are alike, and kept once."""
    for name, backbone in list(first.named_modules()):
        if isinstance(backbone, FeatureTaps) and backbone.frozen:
            parent, _, child = name.rpartition(".")
            setattr(network.get_submodule(parent), child, backbone)
    return network


def along_axes(make: Callable[..., AnomalyNetwork], scan: Any, **arguments: Any) -> AnomalyNetwork:
    """A fitted method's network, or, where volumes are cut along all axes, one for each of them.

    Args:
        make: the network's class, with ``collect`` and ``fit``.
        scan: how scans come to the network, a `medad_plugins.data.ScanFormat`.
        arguments: of the class.
    """
    if scan.slice_axis != ALL_AXES:
        return make(**arguments)
    return AlongAxes(partial(make, **arguments), scan.paired)
