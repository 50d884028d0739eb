"""Regions, blenders and labellers, each by what it promises."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.random import RandomState
from numpy.typing import NDArray

from medad_plugins.synthesis import (
    Ball,
    Binary,
    CombinedRegion,
    Cuboid,
    Deform,
    Factor,
    FlippedGaussian,
    ForeignElsewhere,
    ForeignHere,
    Host,
    Logistic,
    Mix,
    NoiseRegion,
    PlacedRegion,
    PoissonBlend,
    Region,
    SameElsewhere,
    SmoothIntensity,
    Uniform,
)
from medad_plugins.synthesis.noise import perlin_noise
from synthesis.textured_scans import SHAPES, body, scan

BOTH = pytest.mark.parametrize("spatial_dims", [2, 3])


def _host(spatial_dims: int, with_body: bool = False) -> Host:
    return Host(scan(spatial_dims, 0), (1.0,) * spatial_dims, body(spatial_dims) if with_body else None)


def _square(spatial_dims: int, side: float = 0.3) -> Cuboid:
    side **= spatial_dims / 2  # a volume's sides are to the power 2 / 3
    return Cuboid(Uniform(side, side))


# regions


@BOTH
def test_centres_lie_in_the_core(spatial_dims: int) -> None:
    host = _host(spatial_dims)
    centres = []
    for seed in range(200):
        region = PlacedRegion(_square(spatial_dims), core=0.5)(RandomState(seed), host)
        assert region is not None
        centres.append([(p.start + p.stop - 1) / 2 / n for p, n in zip(region.box, host.shape, strict=True)])
    assert np.min(centres) > 0.2 and np.max(centres) < 0.8
    assert np.ptp(centres, axis=0).min() > 0.35, "and anywhere in it"


@BOTH
@pytest.mark.parametrize("centre", ["uniform", "normal", "body"])
def test_the_body_is_overlapped_as_much_as_requested(spatial_dims: int, centre: str) -> None:
    host = _host(spatial_dims, with_body=True)
    assert host.body is not None
    for seed in range(60):
        region = PlacedRegion(_square(spatial_dims), centre, overlap=0.8)(RandomState(seed), host)
        assert region is not None and host.body[region.box][region.inside].mean() >= 0.8


@BOTH
def test_a_region_that_cannot_lie_in_the_body_is_none(spatial_dims: int) -> None:
    tiny = np.zeros(SHAPES[spatial_dims], dtype=bool)
    tiny[(0,) * spatial_dims] = True
    host = Host(scan(spatial_dims, 0), (1.0,) * spatial_dims, tiny)
    assert PlacedRegion(_square(spatial_dims), overlap=0.9)(RandomState(0), host) is None


@BOTH
def test_whole_regions_are_not_cut_and_others_are(spatial_dims: int) -> None:
    host, shape = _host(spatial_dims), _square(spatial_dims, 0.6)
    full = shape(RandomState(0), host).size
    whole = [PlacedRegion(shape, whole=True)(RandomState(seed), host) for seed in range(40)]
    cut = [PlacedRegion(shape)(RandomState(seed), host) for seed in range(40)]
    assert {region.alpha.size for region in whole if region} == {full}
    assert min(region.alpha.size for region in cut if region) < full


def test_a_region_larger_than_the_image_is_cut_to_it() -> None:
    host = _host(2)
    region = PlacedRegion(Ball(Uniform(3, 3)))(RandomState(0), host)
    assert region is not None and all(a <= n for a, n in zip(region.alpha.shape, host.shape, strict=True))


@BOTH
def test_noise_regions_take_the_share_that_was_drawn(spatial_dims: int) -> None:
    host = _host(spatial_dims)
    shares = []
    for seed in range(30):
        region = NoiseRegion(quantile=Uniform(0.9, 0.9))(RandomState(seed), host)
        assert region is not None
        shares.append(region.alpha.sum() / np.prod(host.shape))
    assert np.mean(shares) == pytest.approx(0.1, abs=0.005)


@BOTH
def test_noise_is_zero_on_the_lattice_and_smooth(spatial_dims: int) -> None:
    shape, cells = (33,) * spatial_dims, (1,) * spatial_dims
    noise = perlin_noise(RandomState(0), shape, cells)
    assert noise.shape == shape and np.abs(noise).max() < 1.5
    corner = noise[(0,) * spatial_dims]
    assert abs(corner) < 0.1 < np.abs(noise).max()
    assert max(np.abs(np.diff(noise, axis=a)).max() for a in range(spatial_dims)) < 0.15
    fine = [perlin_noise(RandomState(s), (64,) * spatial_dims, (8,) * spatial_dims) for s in range(3)]
    assert np.std(fine) > 0.1 and not np.array_equal(fine[0], fine[1])


@pytest.mark.parametrize(("edge", "largest"), [(64, 3), (128, 4), (256, 5), (128, 2)])
def test_noise_regions_are_no_finer_than_they_say(edge: int, largest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By default cells of 8 pixels whatever the image: finer islands are lost on a network's grid."""
    drawn: list[int] = []

    def noise(rng: RandomState, shape: tuple[int, ...], cells: tuple[int, ...]) -> NDArray[np.float32]:
        drawn.extend(cells)
        return perlin_noise(rng, shape, cells)

    monkeypatch.setattr("medad_plugins.synthesis.regions.perlin_noise", noise)
    host = Host(np.zeros((1, edge, edge), dtype=np.float32), (1.0, 1.0))
    region = NoiseRegion() if 2**largest * 8 == edge else NoiseRegion(largest)
    for seed in range(60):
        region(RandomState(seed), host)
    assert max(drawn) == 2**largest and len(set(drawn)) > 2


def _perlin_at(gradients: NDArray[np.float64], place: list[float]) -> float:
    """Perlin's noise at one place, given in cells: corner by corner, as its paper has it."""
    dims, total = len(place), 0.0
    lower = [min(int(p), n - 2) for p, n in zip(place, gradients.shape[1:], strict=True)]
    for corner in np.ndindex(*(2,) * dims):
        weight, slope = 1.0, 0.0
        for axis in range(dims):
            t = place[axis] - lower[axis]
            fade = 6 * t**5 - 15 * t**4 + 10 * t**3
            weight *= fade if corner[axis] else 1 - fade
            lattice = tuple(low + step for low, step in zip(lower, corner, strict=True))
            slope += gradients[(axis, *lattice)] * (t - corner[axis])
        total += weight * slope
    return total * 2 / dims**0.5


@pytest.mark.parametrize(("shape", "cells"), [((12, 9), (4, 1)), ((6, 10, 7), (2, 3, 1))])
def test_noise_is_perlins_written_out(shape: tuple[int, ...], cells: tuple[int, ...]) -> None:
    noise = perlin_noise(RandomState(5), shape, cells)
    gradients = RandomState(5).normal(size=(len(shape), *(count + 1 for count in cells)))
    gradients /= np.linalg.norm(gradients, axis=0)
    for voxel in np.ndindex(*shape):
        place = [(v + 0.5) * c / n for v, c, n in zip(voxel, cells, shape, strict=True)]
        assert noise[voxel] == pytest.approx(_perlin_at(gradients, place), abs=2e-5)


def test_a_fixed_threshold_is_taken_as_it_is() -> None:
    region = NoiseRegion(threshold=0.5)(RandomState(3), _host(2))
    assert region is not None and 0 < region.alpha.sum() / _host(2).image.size < 0.5


@BOTH
def test_combined_regions_are_the_first_the_union_or_the_intersection(spatial_dims: int) -> None:
    host = _host(spatial_dims)
    first, second = (_fixed(spatial_dims, start) for start in (2, 6))
    seen = set()
    for seed in range(30):
        region = CombinedRegion(first, second)(RandomState(seed), host)
        assert region is not None
        seen.add(int(region.alpha.sum()))
    both = 4**spatial_dims
    assert seen == {8**spatial_dims, 2 * 8**spatial_dims - both, both}


def _fixed(spatial_dims: int, start: int):  # type: ignore[no-untyped-def]
    def sample(rng: RandomState, host: Host) -> Region:
        return Region((start,) * spatial_dims, np.ones((8,) * spatial_dims, dtype=np.float32))

    return sample


# sources


@BOTH
def test_content_comes_from_the_scan_itself_elsewhere(spatial_dims: int) -> None:
    host, region = _host(spatial_dims), _fixed(spatial_dims, 3)(RandomState(0), _host(spatial_dims))
    content = SameElsewhere()(RandomState(4), host, region, lambda: host.image)
    assert content is not None
    windows = np.lib.stride_tricks.sliding_window_view(host.image[0], (8,) * spatial_dims)
    axes = tuple(range(spatial_dims, 2 * spatial_dims))
    assert int((windows == content[0]).all(axes).sum()) == 1


@BOTH
def test_foreign_content_must_show_a_body(spatial_dims: int) -> None:
    region = _fixed(spatial_dims, 3)(RandomState(0), _host(spatial_dims))
    dark = np.zeros((1, *SHAPES[spatial_dims]), dtype=np.float32)
    assert ForeignElsewhere(overlap=0.5)(RandomState(0), _host(spatial_dims), region, lambda: dark) is None
    dark[:, 4:] = 1
    content = ForeignElsewhere(overlap=0.5)(RandomState(0), _host(spatial_dims), region, lambda: dark)
    assert content is not None and (content > 0.05).mean() >= 0.5


# blenders


@BOTH
def test_mixing_is_by_the_factor_that_it_tells(spatial_dims: int) -> None:
    host, region = _host(spatial_dims), _fixed(spatial_dims, 3)(RandomState(0), _host(spatial_dims))
    content = scan(spatial_dims, 9)[(slice(None), *region.box)]
    own = host.image[(slice(None), *region.box)]
    values, factor = Mix()(RandomState(0), host, region, content)
    np.testing.assert_allclose(values, (1 - factor) * own + factor * content, atol=1e-6)


@BOTH
@pytest.mark.parametrize("guidance", ["source", "mixed", "weighted"])
def test_poisson_blends_keep_the_frame_and_the_range(spatial_dims: int, guidance: str) -> None:
    host = _host(spatial_dims)
    region = _fixed(spatial_dims, 3)(RandomState(0), host).grown(1, host.shape)
    content = 3 * scan(spatial_dims, 9)[(slice(None), *region.box)]
    values, factor = PoissonBlend(guidance)(RandomState(0), host, region, content)
    own = host.image[(slice(None), *region.box)]
    ring = np.ones(own.shape[1:], dtype=bool)
    ring[(slice(1, -1),) * spatial_dims] = False
    assert np.array_equal(values[:, ring], own[:, ring]) and not np.array_equal(values, own)
    assert values.min() >= host.image.min() and values.max() <= host.image.max()
    assert (factor == 1) == (guidance != "weighted")


@BOTH
@pytest.mark.parametrize("sinks", [True, False])
def test_deformed_tissue_moves_along_the_rays(spatial_dims: int, sinks: bool) -> None:
    """A scan that brightens with the distance from the middle gets brighter where tissue is drawn in, else darker."""
    size = 31
    grid = np.stack(np.meshgrid(*[np.arange(size) - 15.0] * spatial_dims, indexing="ij"))
    host = Host(np.linalg.norm(grid, axis=0)[None].astype(np.float32), (1.0,) * spatial_dims)
    ball = np.linalg.norm(grid, axis=0) <= 13
    region = Region((0,) * spatial_dims, ball.astype(np.float32))
    moves = [
        Deform("sink" if sinks else "source", Uniform(0.6, 0.6))(RandomState(s), host, region, None)[0]
        for s in range(8)
    ]
    change = np.mean(moves, axis=0) - host.image
    assert np.array_equal(moves[0][0][~ball], host.image[0][~ball])
    assert (change[0][ball].mean() > 0.1) if sinks else (change[0][ball].mean() < -0.1)


@BOTH
def test_smooth_intensity_rises_from_the_edge(spatial_dims: int) -> None:
    middle = np.full((1, *(31,) * spatial_dims), 0.5, dtype=np.float32)
    middle[(0,) * (spatial_dims + 1)], middle[(0, *(1,) * spatial_dims)] = 0.0, 1.0  # the scan's range
    host = Host(middle, (1.0,) * spatial_dims)
    region = Region((5,) * spatial_dims, np.ones((21,) * spatial_dims, dtype=np.float32))
    blender = SmoothIntensity(Uniform(0.3, 0.3), Uniform(1, 1))
    levels = [float(blender(RandomState(s), host, region, None)[0][(0, *(10,) * spatial_dims)]) for s in range(12)]
    assert {round(level, 3) for level in levels} == {0.2, 0.8}
    values = blender(RandomState(0), host, region, None)[0][0]
    along = np.abs(values[(slice(None), *(10,) * (spatial_dims - 1))] - 0.5)
    assert (np.diff(along[:11]) > 0).all() and along[0] < 0.05


# labels


def _difference() -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    difference = np.array([[0.0, 4 / 255], [0.2, 1.0]], dtype=np.float32)
    return difference, difference > 1e-3


def test_labels_by_hand() -> None:
    difference, changed = _difference()
    np.testing.assert_array_equal(Binary()(difference, changed, 0.3), [[0, 1], [1, 1]])
    np.testing.assert_allclose(Factor()(difference, changed, 0.3), [[0, 0.3], [0.3, 0.3]])
    logistic = Logistic()(difference, changed, 0.3)
    assert logistic.flatten().tolist() == pytest.approx([0, 0.5, 1, 1], abs=1e-6)
    five = Logistic()(np.full((1, 1), 5 / 255, dtype=np.float32), np.array([[True]]), 1.0)
    assert float(five[0, 0]) == pytest.approx(1 / (1 + np.exp(-0.5)), rel=1e-5)
    gaussian = FlippedGaussian(0.2)(difference, changed, 0.3)
    assert gaussian[1].tolist() == pytest.approx([1 - np.exp(-0.5), 1 - np.exp(-12.5)], rel=1e-5)
    assert gaussian[0, 0] == 0


@BOTH
def test_of_several_scans_the_most_alike_gives_its_patch(spatial_dims: int) -> None:
    host = _host(spatial_dims)
    region = PlacedRegion(_square(spatial_dims))(RandomState(0), host)
    assert region is not None
    alike = [host.image + offset for offset in (0.3, -0.05, 0.2)]
    drawn = iter(alike)
    content = ForeignHere(among=3)(RandomState(0), host, region, lambda: next(drawn))
    assert content is not None and np.array_equal(content, alike[1][(slice(None), *region.box)])
