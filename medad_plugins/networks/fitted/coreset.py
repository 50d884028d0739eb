"""Greedy k-centre selection: a few vectors such that none of the others lies far from all of them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["distances_to_random", "k_centre_by_place", "k_centre_greedy", "random_projection"]

# points looked at together: their vectors should lie in the processor's cache
_POOL = 8192
# squared distances by the product of matrices are wrong by some 1e-7 of the largest squared norm
_ROUNDING = 4e-6


def random_projection(vectors: Tensor, dimensions: int, seed: int = 0) -> Tensor:
    """Vectors ``(N, D)`` in ``dimensions`` random directions, which keeps distances up to a few per cent.

    They are returned as they are where there are no more dimensions than that.
    """
    if vectors.shape[1] <= dimensions:
        return vectors
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(vectors.shape[1], dimensions, generator=generator) / math.sqrt(dimensions)
    return vectors @ directions.to(vectors)


def distances_to_random(points: Tensor, count: int = 10, seed: int = 0) -> Tensor:
    """Mean distance ``(N,)`` of each point ``(N, D)`` to a few of them drawn at random, PatchCore's starting values."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randperm(len(points), generator=generator)[:count]
    total = torch.zeros(len(points), dtype=points.dtype, device=points.device)
    for place in drawn.tolist():
        total += torch.linalg.vector_norm(points - points[place], dim=1)
    return total / len(drawn)


def k_centre_greedy(points: Tensor, count: int, distances: Tensor) -> tuple[Tensor, float]:
    """Select points one by one, each the furthest from those selected before.

    The picks are those of the plain loop that updates all distances after every pick. Here a distance is an upper
    bound until it could be the largest: distances only fall, so a point whose bound is below another's true distance
    need not be looked at. The points with the highest bounds are brought up to date together, by one product of
    matrices with the picks that they have not seen, and picks are made among them while the furthest is further than
    all bounds outside. Where rounding could decide between two points, their distances are computed difference by
    difference.

    Args:
        points: ``(N, D)``, float32.
        count: how many to select.
        distances: ``(N,)``, at the beginning: to what is selected already, or any other not negative values.

    Returns:
        places of the picks, in order, at most ``count``: it ends where all points lie within rounding of the picks;
        and the distance at which the last was picked, which no point is further than from the others.
    """
    selection = _Selection(points, count, distances)
    while selection.made < count and selection.round():
        pass
    return torch.tensor(selection.picks, dtype=torch.long, device=points.device), selection.radius


def k_centre_by_place(tokens: Tensor, count: int, projection: int = 64, seed: int = 0) -> Tensor:
    """Of the tokens of each place, those that `k_centre_greedy` would select, of all places at once.

    The first is the one furthest from the place's mean; then each is the furthest from those before.

    Args:
        tokens: ``(n, P, D)``, any floating type.
        count: how many of the n are kept.
        projection: random directions in which distances are compared.
        seed: of these.

    Returns:
        ``(count, P, D)``, at every place in the order of selection.
    """
    chosen = []
    for some in tokens.split(64, 1):  # places at once, so that it takes little memory
        points = some.transpose(0, 1).float()
        points = points - points.mean(1, keepdim=True)
        points = random_projection(points.flatten(0, 1), projection, seed).reshape(*points.shape[:2], -1)
        norms = points.square().sum(2)
        places = torch.arange(len(points), device=points.device)
        nearest, picks = norms.clone(), []
        for number in range(count):
            pick = nearest.argmax(1)
            picks.append(pick)
            vector = points[places, pick]
            apart = norms - 2 * torch.bmm(points, vector.unsqueeze(2)).squeeze(2) + norms[places, pick].unsqueeze(1)
            nearest = apart if number == 0 else torch.minimum(nearest, apart)
            # what is selected is not selected again, whatever rounding says
            nearest = nearest.clamp_min(0)
            nearest[places.unsqueeze(1), torch.stack(picks, 1)] = -1
        chosen.append(some[torch.stack(picks), places])
    return torch.cat(chosen, 1)


class _Selection:
    """The state of one selection; bounds and norms are squared and about the points' mean."""

    def __init__(self, points: Tensor, count: int, distances: Tensor) -> None:
        self.points, self.count, self.start = points, count, distances
        # about the mean, norms and with them rounding errors are small
        self.centred = points - points.mean(0)
        self.norms = self.centred.square().sum(1)
        self.bounds = distances.square()
        self.tolerance = _ROUNDING * float(self.norms.max())
        self.seen = torch.zeros(len(points), dtype=torch.int32, device=points.device)
        self.centres = torch.empty(count, points.shape[1], dtype=points.dtype, device=points.device)
        self.centre_norms = torch.empty(count, dtype=points.dtype, device=points.device)
        self.picks: list[int] = []
        self.made, self.radius = 0, 0.0

    def round(self) -> bool:
        """Picks among the points of the highest bounds; False when nothing is left to pick."""
        highest = self.bounds.topk(min(_POOL + 1, len(self.points)))
        # in the points' order: of equally far points the first is picked
        pool = highest.indices[:_POOL].sort().values
        floor = float(highest.values[-1]) if len(self.points) > _POOL else -1.0
        vectors, norms = self.centred[pool], self.norms[pool]
        seen = self.seen[pool]
        advanced = bool((seen < self.made).any())
        bounds = self._brought_up(self.bounds[pool], seen, vectors, norms)
        while self.made < self.count:
            best = float(bounds.max())
            # one outside may be as far but for rounding: it comes in with the next round
            if best < floor + (2 * self.tolerance if advanced else 0):
                break
            if best <= self.tolerance:
                return False
            place = self._furthest(pool, bounds, best)
            self.radius = math.sqrt(best)
            self._pick(int(pool[place]))
            advanced = True
            to_pick = torch.addmv(norms, vectors, vectors[place], alpha=-2).add_(norms[place])
            bounds = torch.minimum(bounds, to_pick.clamp_min_(0))
            bounds[place] = 0
            if self.made % 8 == 0:
                above = bounds >= floor
                if 2 * int(above.sum()) < len(pool):
                    self._keep(pool, bounds)
                    pool, vectors, norms, bounds = pool[above], vectors[above], norms[above], bounds[above]
                    if not len(pool):
                        break
        self._keep(pool, bounds)
        return True

    def _brought_up(self, bounds: Tensor, seen: Tensor, vectors: Tensor, norms: Tensor) -> Tensor:
        """Bounds of a pool after the picks that its points have not seen yet."""
        for first in seen.unique().tolist():
            if first == self.made:
                continue
            rows = (seen == first).nonzero().squeeze(1)
            # in pieces of both, so that the product takes little memory
            for some in rows.split(2048):
                nearest = bounds[some] - norms[some]
                for start in range(first, self.made, 1024):
                    new = slice(start, min(start + 1024, self.made))
                    product = torch.addmm(self.centre_norms[new], vectors[some], self.centres[new].T, alpha=-2)
                    nearest = torch.minimum(nearest, product.amin(1))
                bounds[some] = (nearest + norms[some]).clamp_min_(0)
        return bounds

    def _furthest(self, pool: Tensor, bounds: Tensor, best: float) -> int:
        """Place in the pool of the furthest point; where several are equally far but for rounding, by differences."""
        close = (bounds >= best - 2 * self.tolerance).nonzero().squeeze(1)
        if len(close) > 1:
            # of equal vectors the first stands for all
            _, kinds = self.points[pool[close]].unique(dim=0, return_inverse=True)
            places = torch.arange(len(close), device=close.device)
            first = places.new_full((len(close),), len(close)).scatter_reduce_(0, kinds, places, "amin")
            close = close[first[first < len(close)].sort().values]
        if len(close) > 1:
            return int(close[int(torch.stack([self._distance(place) for place in pool[close]]).argmax())])
        return int(close)

    def _distance(self, place: Tensor) -> Tensor:
        """Distance of a point to the nearest of the picks, or what it began with."""
        nearest = self.start[place]
        chosen = torch.tensor(self.picks, dtype=torch.long, device=place.device)
        for some in chosen.split(8192) if self.picks else ():
            to_some = torch.linalg.vector_norm(self.points[some] - self.points[place], dim=1)
            nearest = torch.minimum(nearest, to_some.amin())
        return nearest

    def _pick(self, place: int) -> None:
        self.picks.append(place)
        self.centres[self.made], self.centre_norms[self.made] = self.centred[place], self.norms[place]
        self.made += 1

    def _keep(self, pool: Tensor, bounds: Tensor) -> None:
        self.bounds[pool] = bounds
        self.seen[pool] = self.made
