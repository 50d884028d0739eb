"""Methods that know places, fitted for every tile of the grid."""

from __future__ import annotations

import pytest
import torch

from medad_plugins.data import ScanFormat
from medad_plugins.engines.distributed import additive_buffers
from medad_plugins.errors import InputError
from medad_plugins.methods.anomaly_dino import AnomalyDINO
from medad_plugins.methods.padim import PaDiM
from medad_plugins.methods.patchcore import PatchCore
from medad_plugins.networks import TileNetworks, by_tiles
from medad_plugins.scorers.fitted import FittedModule

SCAN = ScanFormat(image_size=[48, 32], roi_size=32, overlap=0.5)


def _padim(scan: ScanFormat = SCAN) -> TileNetworks:
    network = by_tiles(PaDiM(backbone="resnet10", weights="none", dimensions=8), scan)
    assert isinstance(network, TileNetworks)
    return network


@pytest.fixture(scope="module")
def scans() -> torch.Tensor:
    return torch.rand(6, 1, 48, 32, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_each_place_is_fitted_as_if_there_were_no_other(scans: torch.Tensor) -> None:
    network = _padim()
    network.collect(scans)
    network.fit()
    alone = PaDiM(backbone="resnet10", weights="none", dimensions=8)
    alone.load_state_dict(network.network.state_dict())
    assert network.grid.places([48, 32]) == [(0, 0), (16, 0)]
    alone.collect(scans[:, :, 16:])
    alone.fit()
    found, expected = network.eval()(scans), alone.eval()(scans[:, :, 16:])
    # of the overlap, rows 16 to 31, the last three eighths are the second tile's alone
    torch.testing.assert_close(found[:, :, 26:], expected[:, :, 10:])


@torch.no_grad()
def test_its_state_is_one_strict_dictionary(scans: torch.Tensor) -> None:
    network = _padim()
    network.collect(scans)
    assert additive_buffers(network), "ranks add up what they collect"
    network.fit()
    network.calibration.fit(torch.rand(4), torch.rand(10))
    again = _padim()
    again.load_state_dict(network.state_dict(), strict=True)
    assert torch.equal(again.eval()(scans), network.eval()(scans))
    assert again.calibration.is_fitted
    # nothing fitted is kept twice
    assert network.state_dict()["network.gaussians.whitening"].numel() == 0


@torch.no_grad()
def test_sites_merge_their_sums(scans: torch.Tensor) -> None:
    whole, first, second = _padim(), _padim(), _padim()
    for site in (first, second):  # one backbone
        site.network.load_state_dict(whole.network.state_dict())
    whole.collect(scans)
    first.collect(scans[:2])
    second.collect(scans[2:])
    for one, two, merged in zip(first.tile_states, second.tile_states, whole.tile_states, strict=True):
        assert isinstance(one, FittedModule)
        found = one.merge_buffers([dict(one.named_buffers()), dict(two.named_buffers())])
        for name in ("gaussians__count", "gaussians__moment_1"):
            torch.testing.assert_close(found[name], merged.get_buffer(name))


def test_only_methods_that_know_places_are_fitted_so() -> None:
    anywhere = PatchCore(backbone="resnet10", weights="none")
    assert by_tiles(anywhere, SCAN) is anywhere
    assert isinstance(by_tiles(PatchCore(backbone="resnet10", weights="none", window=3), SCAN), TileNetworks)
    assert isinstance(by_tiles(AnomalyDINO(backbone="resnet10"), SCAN), TileNetworks)
    free = AnomalyDINO(backbone="resnet10", window=0)
    assert by_tiles(free, SCAN) is free
    plain = AnomalyDINO(backbone="resnet10")
    assert by_tiles(plain, ScanFormat(image_size=32)) is plain


def test_the_tiles_share_the_memory_of_a_fit() -> None:
    network = by_tiles(PatchCore(backbone="resnet10", weights="none", window=3, memory_budget=100), SCAN)
    assert isinstance(network.network, PatchCore)
    assert network.network.memory.memory_budget == 50


def test_refuses_scans_whose_places_differ() -> None:
    with pytest.raises(InputError, match=r"PaDiM compares the same place.*--image_size"):
        _padim(ScanFormat(image_size=32, spacing=1))
    with pytest.raises(InputError, match=r"another size.*48 x 32.*32 x 32"):
        _padim().collect(torch.rand(1, 1, 32, 32))
