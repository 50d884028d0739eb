"""Shapes: how large, how round, how turned."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.random import RandomState
from scipy import ndimage

from medad_plugins.synthesis import AreaCuboid, Ball, Cuboid, EllipsoidUnion, Host, Scar, Sheared, Uniform
from medad_plugins.synthesis.shapes import Shape

ROUND: dict[int, tuple[tuple[int, ...], tuple[float, ...]]] = {
    2: ((120, 60), (0.5, 1.0)),
    3: ((60, 60, 20), (1.0, 1.0, 3.0)),
}
SHAPES: list[Shape] = [Cuboid(), Cuboid(equal=False), AreaCuboid(), Scar(), Ball(), Sheared(), EllipsoidUnion()]


def _host(spatial_dims: int) -> Host:
    shape, spacing = ROUND[spatial_dims]
    return Host(np.zeros((1, *shape), dtype=np.float32), spacing)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: type(shape).__name__)
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_every_shape_fits_the_image_and_is_not_empty(shape: Shape, spatial_dims: int) -> None:
    host = _host(spatial_dims)
    for seed in range(40):
        alpha = shape(RandomState(seed), host)
        assert alpha.dtype == np.float32 and alpha.ndim == spatial_dims and alpha.any()
        assert all(a <= n for a, n in zip(alpha.shape, host.shape, strict=True))
        assert set(np.unique(alpha)) <= {0.0, 1.0}
        assert np.array_equal(alpha, shape(RandomState(seed), host))


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize(("radius", "unit", "millimetres"), [(0.2, "fraction", 12.0), (9.0, "mm", 9.0)])
def test_balls_are_round_in_millimetres(spatial_dims: int, radius: float, unit: str, millimetres: float) -> None:
    host = _host(spatial_dims)
    alpha = Ball(Uniform(radius, radius), unit)(RandomState(0), host)
    volume = float(alpha.sum() * np.prod(host.spacing))
    expected = np.pi * millimetres**2 if spatial_dims == 2 else 4 / 3 * np.pi * millimetres**3
    assert volume == pytest.approx(expected, rel=0.1)
    for axis, step in enumerate(host.spacing):
        reach = np.flatnonzero(alpha.any(tuple(a for a in range(spatial_dims) if a != axis)))
        assert (reach[-1] - reach[0] + 1) * step == pytest.approx(2 * millimetres, abs=2 * step)


def test_a_ball_smaller_than_a_voxel_is_one_voxel() -> None:
    assert Ball(Uniform(0.1, 0.1), "mm")(RandomState(0), _host(3)).sum() == 1


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_cutpaste_takes_the_share_of_the_image_that_was_drawn(spatial_dims: int) -> None:
    host = Host(np.zeros((1, *(100,) * spatial_dims), dtype=np.float32), (1.0,) * spatial_dims)
    shares = [AreaCuboid()(RandomState(seed), host).sum() / 100**spatial_dims for seed in range(300)]
    assert 0.015 < min(shares) < 0.03 and 0.13 < max(shares) < 0.16
    assert np.mean(shares) == pytest.approx(0.085, abs=0.01)
    sides = np.array([AreaCuboid()(RandomState(seed), host).shape for seed in range(300)])
    assert np.ptp(sides.mean(0)) < 0.12 * sides.mean(), "no axis is preferred"


def test_fpi_squares_have_the_proportions_of_the_image() -> None:
    sizes = np.array([Cuboid(Uniform(0.1, 0.4))(RandomState(seed), _host(2)).shape for seed in range(200)])
    assert np.abs(sizes[:, 0] / 120 - sizes[:, 1] / 60).max() < 0.02
    assert 0.09 < (sizes[:, 0] / 120).min() < 0.13 and 0.37 < (sizes[:, 0] / 120).max() < 0.41


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_turned_shapes_are_one_piece(spatial_dims: int) -> None:
    for shape in (Scar(), Sheared()):
        for seed in range(20):
            alpha = shape(RandomState(seed), _host(spatial_dims))
            structure = np.ones((3,) * spatial_dims)
            assert ndimage.label(alpha, structure)[1] == 1


@pytest.mark.parametrize(
    "shape", [Cuboid(), Cuboid(equal=False), Sheared(), EllipsoidUnion()], ids=["cube", "cuboid", "sheared", "union"]
)
def test_a_volume_changes_by_the_share_that_an_image_does(shape: Shape) -> None:
    """With the sides of an image, a volume's share would be smaller by a power: 1 %, of which nothing is learnt."""
    shares = {}
    for dims, edge in ((2, 96), (3, 48)):
        host = Host(np.zeros((1, *(edge,) * dims), dtype=np.float32), (1.0,) * dims)
        shares[dims] = np.mean([shape(RandomState(seed), host).sum() / edge**dims for seed in range(150)])
    assert shares[3] > 0.015, "and never below what can be learnt from"
    assert 0.5 < shares[3] / shares[2] < 1.5


@pytest.mark.parametrize(("spatial_dims", "edge"), [(2, 48), (2, 64), (2, 128), (2, 256), (3, 32), (3, 48)])
def test_scars_are_large_enough_to_be_seen(spatial_dims: int, edge: int) -> None:
    """The paper's fractions leave 15 pixels and less in a tenth of the scars of 128, in volumes 3 to 12 voxels."""
    host = Host(np.zeros((1, *(edge,) * spatial_dims), dtype=np.float32), (1.0,) * spatial_dims)
    scars = [Scar()(RandomState(seed), host) for seed in range(100)]
    assert np.quantile([scar.sum() for scar in scars], 0.1) >= 20
    assert min(scar.sum() for scar in scars) >= 8
    assert max(max(scar.shape) for scar in scars) <= 0.8 * edge


def test_unknown_units_are_refused() -> None:
    with pytest.raises(ValueError, match="'mm', got 'cm'"):
        Ball(unit="cm")
