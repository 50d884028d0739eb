"""AnatPaste's patches: shape, margin, blur and opacity."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.random import RandomState
from numpy.typing import NDArray
from scipy import ndimage

from medad_plugins.synthesis import Cuboid, Host, SoftPatch, Uniform


def _host(*shape: int) -> Host:
    return Host(np.zeros((1, *shape), dtype=np.float32), (1.0,) * len(shape))


def _drawn(shape: tuple[int, ...], **arguments: object) -> list[NDArray[np.float32]]:
    side = 0.5 ** (len(shape) / 2)  # of half the axis, in images and volumes
    patch = SoftPatch(Cuboid(Uniform(side, side)), **arguments)  # type: ignore[arg-type]
    rng = RandomState(0)
    return [patch(rng, _host(*shape)) for _ in range(12)]


@pytest.mark.parametrize("shape", [(64, 64), (64, 48, 64)])
def test_box_or_ellipsoid_within_the_margin(shape: tuple[int, ...]) -> None:
    margin, least = 4, min(shape)
    drawn = _drawn(shape, margin=margin / least, sigma=Uniform(0, 0), opacity=Uniform(1, 1))
    frame = tuple(edge // 2 for edge in shape)
    inner = [edge - 2 * margin for edge in frame]
    axes = [(np.arange(edge) - (edge - 1) / 2) / ((n - 1) / 2) for edge, n in zip(frame, inner, strict=True)]
    grid = np.meshgrid(*axes, indexing="ij")
    box = np.maximum.reduce([np.abs(g) for g in grid]) <= 1 + 1e-9
    ball = np.add.reduce([np.square(g) for g in grid]) <= 1
    kinds = ["box" if np.array_equal(one, box) else "ball" if np.array_equal(one, ball) else "?" for one in drawn]
    assert set(kinds) == {"box", "ball"}
    assert int(box.sum()) == np.prod(inner)


def test_blur_and_opacity() -> None:
    sharp = _drawn((64, 64), sigma=Uniform(0, 0), opacity=Uniform(0.7, 0.7))
    soft = _drawn((64, 64), sigma=Uniform(3 / 64, 3 / 64), opacity=Uniform(0.7, 0.7))
    for one, other in zip(sharp, soft, strict=True):
        assert set(np.unique(one)) == {np.float32(0), np.float32(0.7)}
        blurred = ndimage.gaussian_filter(one.astype(float), 3, mode="constant")
        np.testing.assert_allclose(other, np.where(blurred >= 1 / 255, blurred, 0), atol=1e-6)


def test_the_papers_opacities() -> None:
    opacities = [float(one.max()) for one in _drawn((256, 256), sigma=Uniform(0, 0))]
    assert 150 / 255 <= min(opacities) < max(opacities) <= 1


def test_a_frame_smaller_than_its_margins_leaves_something() -> None:
    patch = SoftPatch(Cuboid(Uniform(0.02, 0.05)))
    assert all(patch(RandomState(seed), _host(32, 32)).max() > 0 for seed in range(30))
