"""The quick selection of far points picks what the plain loop over all distances picks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from medad_plugins.networks.fitted import coreset
from medad_plugins.networks.fitted.coreset import distances_to_random, k_centre_greedy, random_projection


def _points(kind: str, count: int = 700, dimensions: int = 12) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(count, dimensions, generator=generator)
    if kind == "noise":
        return noise
    if kind == "far from zero":
        return noise + 30
    if kind == "clusters":  # of very different density, as features of scans
        centres = 5 * torch.randn(9, dimensions, generator=generator)
        return centres[(torch.rand(count, generator=generator) ** 3 * 9).long()] + 0.1 * noise
    assert kind == "copies"  # as the black around a head
    return noise[torch.randint(0, count // 10, (count,), generator=generator)]


def _plain(points: Tensor, count: int, distances: Tensor) -> tuple[list[int], Tensor]:
    """All distances after every pick, difference by difference."""
    least, picks = distances.clone(), []
    for _ in range(count):
        pick = int(least.argmax())
        picks.append(pick)
        least = torch.minimum(least, torch.linalg.vector_norm(points - points[pick], dim=1))
        least[pick] = 0
    return picks, least


def _from(points: Tensor, place: int) -> Tensor:
    return torch.linalg.vector_norm(points - points[place], dim=1)


@pytest.fixture(params=[16, 100, 8192])
def pool(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Points that are looked at together: few of all, or all."""
    monkeypatch.setattr(coreset, "_POOL", request.param)
    size: int = request.param
    return size


@pytest.mark.parametrize("kind", ["noise", "far from zero", "clusters"])
def test_picks_are_those_of_the_plain_loop(kind: str, pool: int) -> None:
    points = _points(kind)
    start = _from(points, 5)
    picks, _ = k_centre_greedy(points, 200, start)
    assert picks.tolist() == _plain(points, 200, start)[0]


def test_from_random_starting_points_as_well(pool: int) -> None:
    points = _points("clusters")
    start = distances_to_random(points, 10, seed=3)
    assert k_centre_greedy(points, 99, start)[0].tolist() == _plain(points, 99, start)[0]


def test_of_copies_each_is_picked_once(pool: int) -> None:
    points = _points("copies")
    picks, _ = k_centre_greedy(points, 500, _from(points, 0))
    kinds = len(points.unique(dim=0))
    assert len(picks) == kinds - 1 < 500, "all but the one it began with"
    assert len(points[picks].unique(dim=0)) == kinds - 1
    # which of equal ones is of no importance
    assert torch.equal(points[picks], points[_plain(points, kinds - 1, _from(points, 0))[0]])


def test_no_point_is_further_than_the_radius(pool: int) -> None:
    points = _points("clusters")
    picks, radius = k_centre_greedy(points, 50, _from(points, 0))
    chosen = points[[0, *picks.tolist()]].double()
    furthest = float(torch.cdist(points.double(), chosen).amin(1).max())
    _, before = _plain(points, 49, _from(points, 0))
    assert furthest <= radius == pytest.approx(float(before.max()), rel=1e-4)


def test_equal_points_leave_nothing_to_pick() -> None:
    points = torch.ones(20, 3)
    assert len(k_centre_greedy(points, 5, torch.zeros(20))[0]) == 0


def test_the_selection_does_not_depend_on_chance() -> None:
    points = _points("noise")
    torch.manual_seed(1)
    one = k_centre_greedy(points, 60, distances_to_random(points, seed=4))[0]
    torch.manual_seed(2)
    assert torch.equal(one, k_centre_greedy(points, 60, distances_to_random(points, seed=4))[0])


def test_starting_distances_are_mean_distances_to_ten_points() -> None:
    points = _points("noise")
    found = distances_to_random(points, 10, seed=1)
    drawn = torch.randperm(len(points), generator=torch.Generator().manual_seed(1))[:10]
    expected = torch.cdist(points.double(), points[drawn].double()).mean(1)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    assert not torch.equal(found, distances_to_random(points, 10, seed=2))


def test_projections_keep_distances() -> None:
    vectors = torch.randn(40, 500, generator=torch.Generator().manual_seed(0))
    projected = random_projection(vectors, 300, seed=1)
    assert projected.shape == (40, 300)
    ratio = torch.pdist(projected) / torch.pdist(vectors)
    assert 0.8 < float(ratio.min()) < 1 < float(ratio.max()) < 1.2
    assert torch.equal(projected, random_projection(vectors, 300, seed=1))
    assert not torch.equal(projected, random_projection(vectors, 300, seed=2))
    assert random_projection(vectors, 500) is vectors


def test_first_pick_among_points_that_begin_equally_far() -> None:
    """But for rounding: nothing is selected yet that could distinguish them."""
    points = _points("noise")
    start = torch.ones(len(points))
    start[7] += 1e-7
    picks, radius = k_centre_greedy(points, 3, start)
    assert picks[0] == 7 and len(picks.unique()) == 3 and radius > 0
