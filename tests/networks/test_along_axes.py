"""Fitted networks of slices along three axes, as one network of volumes."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medad_plugins.data import ScanFormat
from medad_plugins.engines import FittingTrainer, ModelFile, ScanBatch, save_model
from medad_plugins.errors import InputError
from medad_plugins.inferers import scan_inferer
from medad_plugins.methods.padim import PaDiM
from medad_plugins.networks import AnomalyNetwork
from medad_plugins.networks.along_axes import AlongAxes, along_axes
from medad_plugins.opposite_side import OppositeSide, mirrored_volumes

SCAN = ScanFormat(3, (16, 24, 20), slice_axis="all")
SMALL = {"backbone": "resnet10", "weights": "none", "dimensions": 4}


class MeanSlice(AnomalyNetwork):
    """How far a slice is from the mean of all that were collected."""

    def __init__(self) -> None:
        super().__init__("mean")
        self.mean: Tensor = nn.Buffer(torch.zeros(()))
        self.seen: list[Tensor] = []

    def collect(self, image: Tensor) -> None:
        self.seen.append(image)

    def fit(self) -> None:
        self.mean = torch.cat(self.seen).mean(0, keepdim=True)

    def anomaly_map(self, image: Tensor) -> Tensor:
        return (image - self.mean).abs()


def _volumes(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, 1, *SCAN.edges, generator=torch.Generator().manual_seed(seed))


def test_every_axis_has_statistics_of_its_own() -> None:
    network = AlongAxes(MeanSlice).eval()
    normal, scan = _volumes(3), _volumes(1, seed=1)
    network.collect(normal)
    network.fit()
    # of each axis the mean over its slices, seen from the volume itself
    expected = torch.stack([(scan - normal.mean((0, 2 + axis), keepdim=True)).abs() for axis in range(3)]).mean(0)
    torch.testing.assert_close(network(scan), expected)


def test_what_both_sides_show_counts_for_nothing(tmp_path: Path) -> None:
    scan = ScanFormat(3, (16, 24, 20), slice_axis="all", paired=True)
    networks: list[Any] = [along_axes(PaDiM, given, **SMALL) for given in (SCAN, scan)]
    for network in networks:
        torch.manual_seed(0)
        network.collect(_volumes(4))
        network.fit()
        network.eval()
    networks[1].load_state_dict(networks[0].state_dict())
    volume = _volumes(1, seed=2)
    found = networks[0](volume)
    expected = OppositeSide()(found, volume)
    assert 0 < float(expected.mean()) < float(found.mean())
    torch.testing.assert_close(networks[1](volume), expected)
    inferer = scan_inferer(scan)
    torch.testing.assert_close(inferer(volume, networks[1]), expected)  # not taken off twice
    save_model(tmp_path / "model.pt", networks[1], "padim", {"network": SMALL, **asdict(scan)})
    torch.testing.assert_close(ModelFile(tmp_path / "model.pt", "padim").rebuild(PaDiM)(volume), expected)
    of_slices = nn.Conv2d(1, 1, 1)
    mean = scan_inferer(SCAN)(volume, of_slices)
    torch.testing.assert_close(inferer(volume, of_slices), OppositeSide()(mean, volume))


def test_mirrored_references_are_fitted_along_the_axes_that_show_both_sides() -> None:
    network = AlongAxes(MeanSlice, paired="references").eval()
    plain = AlongAxes(MeanSlice).eval()
    volumes, scan = _volumes(3), _volumes(1, seed=1)
    volumes[:, :, 14:] = 0  # the middle of what is bright is not that of the grid
    both = torch.cat([volumes, mirrored_volumes(volumes)])
    network.collect(volumes)
    plain.collect(volumes)
    for part in (network, plain):
        part.fit()
    expected = [(scan - volumes.mean((0, 2), keepdim=True)).abs()]
    expected += [(scan - both.mean((0, 2 + axis), keepdim=True)).abs() for axis in (1, 2)]
    torch.testing.assert_close(network(scan), torch.stack(expected).mean(0))
    assert not torch.equal(network(scan), plain(scan))
    inferer = scan_inferer(ScanFormat(3, (16, 24, 20), slice_axis="all", paired="references"))
    torch.testing.assert_close(inferer(scan, network), network(scan))  # nothing is taken off
    with pytest.raises(InputError, match="only what is fitted in one pass can be shown volumes mirrored"):
        inferer(scan, nn.Conv2d(1, 1, 1))


def test_a_volume_s_map_does_not_depend_on_the_others_and_has_its_grid() -> None:
    network: Any = along_axes(PaDiM, SCAN, **SMALL)
    assert isinstance(network, AlongAxes)
    network.collect(_volumes(4))
    network.fit()
    both = network.eval()(_volumes(2, seed=2))
    assert both.shape == (2, 1, *SCAN.edges)
    torch.testing.assert_close(network(_volumes(2, seed=2)[1:]), both[1:])


def test_where_a_volume_is_odd_its_map_is_highest() -> None:
    torch.manual_seed(0)
    network: Any = along_axes(PaDiM, SCAN, **SMALL).eval()
    normal = 0.5 + 0.05 * _volumes(6)
    network.collect(normal)
    network.fit()
    odd = normal[:1].clone()
    odd[..., 2:8, 14:20, 10:16] += 0.4
    found = network(odd)[0, 0]
    place = torch.unravel_index(found.argmax(), found.shape)
    assert all(low - 2 <= int(at) <= high + 2 for at, low, high in zip(place, (2, 14, 10), (8, 20, 16), strict=True))


def test_one_frozen_backbone_serves_all() -> None:
    network: Any = along_axes(PaDiM, SCAN, **SMALL)
    backbones = {id(part.features) for part in network.axes}
    assert len(backbones) == 1


def test_it_is_fitted_saved_and_found_again(tmp_path: Path) -> None:
    network: Any = along_axes(PaDiM, SCAN, **SMALL)
    batches = [{"image": _volumes(2, seed)} for seed in range(3)]
    FittingTrainer("cpu", batches, network, prepare_batch=ScanBatch(SCAN), inferer=scan_inferer(SCAN)).run()
    settings = {"network": {**SMALL, "spatial_dims": 2}, "image_size": SCAN.edges, "slice_axis": "all"}
    save_model(tmp_path / "model.pt", network, "padim", {**settings, "spatial_dims": 3, "orientation": "upright"})
    file = ModelFile(tmp_path / "model.pt", "padim")
    assert file.cuts_volumes and file.scan().slice_axis == "all"
    scan = _volumes(1, seed=9)
    with torch.no_grad():
        assert torch.equal(scan_inferer(SCAN)(scan, file.rebuild(PaDiM, file.scan())), network.eval()(scan))


def test_scripted_it_gives_the_same() -> None:
    network: Any = along_axes(PaDiM, SCAN, **SMALL).eval()
    network.collect(_volumes(4))
    network.fit()
    scan = _volumes(1, seed=3)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.script(network)(scan), network(scan))


@pytest.mark.parametrize("axis", [None, 1])
def test_otherwise_it_is_the_method_s_own_network(axis: int | None) -> None:
    assert type(along_axes(MeanSlice, ScanFormat(3, 16, slice_axis=axis))) is MeanSlice
