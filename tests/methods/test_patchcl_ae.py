"""PatchCL-AE: its sizes, its map against a plain computation, places."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from medad_plugins.errors import InputError
from medad_plugins.methods.patchcl_ae import PatchCLAE


def _network(dims: int = 2, **others: Any) -> PatchCLAE:
    torch.manual_seed(0)
    return PatchCLAE(dims, 1, 32, **{"width": 4, "blocks": 1, "critic_width": 4, "dimensions": 8, **others})


def _scans(dims: int = 2, count: int = 2) -> Tensor:
    return torch.rand((count, 1, *[32] * dims), generator=torch.Generator().manual_seed(1))


def test_the_papers_network() -> None:
    network = PatchCLAE(in_channels=3)
    with torch.no_grad():
        features = network.encoder(torch.zeros(1, 3, 64, 64))
    assert [tuple(each.shape[1:]) for each in features] == [
        (64, 64, 64),
        (128, 32, 32),
        (256, 16, 16),
        (256, 8, 8),
        (256, 8, 8),
    ]
    # its table 1, but for a few hundred that it counts besides weights and biases
    counts = [sum(p.numel() for p in depth.parameters()) for depth in network.encoder.depths]
    for count, published in zip(counts, (9921, 74305, 295393, 590193, 7081644), strict=True):
        assert 0 <= published - count <= 1000
    decoder = sum(parameter.numel() for parameter in network.decoder.parameters())
    assert decoder == pytest.approx(590137 + 295153 + 74017 + 9411, abs=1000)
    projection = sum(parameter.numel() for parameter in network.projections[4].parameters())
    assert projection == 2 * 65792


@pytest.mark.parametrize("dims", [2, 3])
@torch.no_grad()
def test_the_map_sums_what_is_unlike_at_all_depths(dims: int) -> None:
    network, scans = _network(dims).eval(), _scans(dims)
    inside = scans * 2 - 1
    rebuilt = network.decoder(network.encoder(inside)[-1])
    torch.testing.assert_close(network.reconstruct(scans), (rebuilt + 1) / 2)
    expected = torch.zeros_like(scans)
    for depth, projection in enumerate(network.projections):
        one, other = network.encoder(inside)[depth], network.encoder(rebuilt)[depth]
        unlike = torch.empty(2, 1, *one.shape[2:])
        for place in torch.nonzero(torch.ones(one.shape[2:])).tolist():
            at = (slice(None), slice(None), *place)
            cosine = functional.cosine_similarity(projection(one[at]), projection(other[at]), dim=1)
            unlike[at] = 1 - cosine[:, None]
        mode = "bilinear" if dims == 2 else "trilinear"
        expected += functional.interpolate(unlike, scans.shape[2:], mode=mode, align_corners=False)
    torch.testing.assert_close(network(scans), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_some_depths_are_enough_for_the_map() -> None:
    """Of the five the finest two find least, and every one has the same voice in the sum."""
    scans = _scans(2)
    alone = [_network(2, depths=[depth]).eval()(scans) for depth in range(5)]
    torch.testing.assert_close(_network(2, depths=[4, 2]).eval()(scans), alone[2] + alone[4], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(_network(2).eval()(scans), sum(alone), rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match="there are no such depths: depths"):
        _network(2, depths=[5])


def test_places_are_those_of_the_maps() -> None:
    network, scans = _network(3), _scans(3)
    grids = network.grids(list(scans.shape[2:]))
    features = network.encoder(scans)
    assert grids == [list(each.shape[2:]) for each in features]
    places = [torch.tensor([3, 0]) for _ in grids]
    maps = network.projected(features)
    for vectors, whole in zip(network.at_places(scans, places), maps, strict=True):
        torch.testing.assert_close(vectors[:, 0], whole.flatten(2)[:, :, 3])
        torch.testing.assert_close(vectors[:, 1], whole.flatten(2)[:, :, 0])


@torch.no_grad()
def test_noise_is_added_before_and_only_where_requested() -> None:
    network, scans = _network(), _scans() * 2 - 1
    assert torch.equal(network.rebuild_noisy(scans, 0.0), network.rebuild(scans))
    assert not torch.equal(network.rebuild_noisy(scans, 0.1), network.rebuild(scans))
    assert float(network.rebuild(scans).abs().max()) <= 1


@pytest.mark.parametrize("dims", [2, 3])
@torch.no_grad()
def test_exported_code_gives_the_same_map(dims: int) -> None:
    network, scans = _network(dims).eval(), _scans(dims)
    exported: Any = torch.jit.script(network)
    torch.testing.assert_close(exported(scans), network(scans))
    with torch.autocast("cpu", torch.bfloat16):
        assert network(scans).dtype == torch.float32


@pytest.mark.parametrize("size", [36, (64, 20), 8])
def test_a_scan_that_cannot_be_halved_is_refused(size: Any) -> None:
    with pytest.raises(InputError, match="halves its image 3 times"):
        PatchCLAE(2, 1, size)
