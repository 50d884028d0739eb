"""A mixture of Gaussians of normal tokens, whose components are as many as the tokens call for."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.errors import InputError
from medad_plugins.networks.fitted.scan_bank import ScanBank
from medad_plugins.networks.fitted.token_places import place_coordinates

__all__ = ["TokenMixture"]

logger = logging.getLogger(__name__)

DISTANCES = ("cosine", "likelihood")


class TokenMixture(ScanBank):
    """A truncated Dirichlet process mixture with diagonal covariances, and how far a token is from its components.

    Batches of tokens are drawn from the scans kept. Each is shared out among the components by their likelihood, and
    the components' sums - weight, mean, mean square - follow a moving average over the batches. The weights are those
    of a stick that is broken again and again, so that components nobody needs fade; those below the floor are dropped.

    Args:
        components: at most so many.
        passes: over the tokens of the scans kept.
        momentum: share of a batch in the moving average, above 0; 1 forgets what was before.
        batch: tokens in a batch.
        concentration: of the Dirichlet process, at least 1; more of it leaves more components.
        floor: weight below which a component is dropped.
        regularisation: added to every variance.
        distance: ``"cosine"``, one minus the highest cosine with a component's mean, as in the paper; or
            ``"likelihood"``, the negative log-likelihood per value of a token, above the lowest that there could be.
        place: weight of a token's coordinates, -1 to 1 along each axis, that are joined to it; 0 for none.
        references, storage: scans whose tokens are kept while fitting, see `ScanBank`.
        seed: of what the components begin with, and of the batches.

    Buffers:
        Those of `ScanBank`. at ``(P, dims)``: the places' coordinates. means, variances ``(K, D)``, weights ``(K,)``.

    Shape:
        tokens ``(B, P, D)`` to distances ``(B, P)``.

    Reference:
        Schulthess and Konukoglu, "Anomaly detection by clustering DINO embeddings using a Dirichlet process mixture",
        MICCAI 2025.
    """

    def __init__(
        self,
        components: int = 500,
        passes: int = 4,
        momentum: float = 0.2,
        batch: int = 8192,
        concentration: float = 2.0,
        floor: float = 1e-6,
        regularisation: float = 1e-6,
        distance: str = "cosine",
        place: float = 0.0,
        references: int = 250,
        storage: str = "float16",
        seed: int = 0,
    ) -> None:
        super().__init__(references, storage)
        if components < 1 or passes < 1 or batch < 1 or not 0 < momentum <= 1 or concentration < 1:
            raise ValueError(
                "components, passes and batch must be at least 1, momentum lie in (0, 1] and concentration be at least "
                f"1, got {components}, {passes}, {batch}, {momentum} and {concentration}."
            )
        if distance not in DISTANCES or place < 0 or floor < 0 or regularisation <= 0:
            raise ValueError(
                f"distance must be one of {DISTANCES}, place and floor not negative and regularisation positive, "
                f"got {distance!r}, {place}, {floor} and {regularisation}."
            )
        self.components, self.passes, self.momentum, self.batch = components, passes, momentum, batch
        self.concentration, self.floor, self.regularisation = concentration, floor, regularisation
        self.cosine, self.place, self.seed = distance == "cosine", float(place), seed
        self.knows_places = place > 0
        self.at: Tensor = nn.Buffer(torch.empty(0))
        self.means: Tensor = nn.Buffer(torch.empty(0))
        self.variances: Tensor = nn.Buffer(torch.empty(0))
        self.weights: Tensor = nn.Buffer(torch.empty(0))

    def begin(self, grid: Sequence[int]) -> None:
        self.at = place_coordinates(grid).to(self.candidates.device)

    def placed(self, tokens: Tensor) -> Tensor:
        """Tokens ``(N, P, D)`` with their coordinates, where these count."""
        if self.place == 0:
            return tokens
        if tokens.shape[1] != self.at.shape[0]:
            raise RuntimeError("the mixture was fitted on another image size.")
        return torch.cat([tokens, self.place * self.at.expand(tokens.shape[0], -1, -1)], 2)

    @torch.no_grad()
    def fit(self) -> None:
        """Fit the mixture to the candidates, and drop them.

        Raises:
            InputError: nothing was collected, or the tokens are all alike.
        """
        kept = self.chosen(self.candidates)
        rows = self.placed(kept.flatten(0, 1).float()).flatten(0, 1)
        generator = torch.Generator().manual_seed(self.seed)
        first = torch.randperm(len(rows), generator=generator)[: self.components].to(rows.device)
        spread = rows.var(0, correction=0)
        if float(spread.sum()) <= 1e-12:
            raise InputError("the normal scans have the same features", found=f"{len(rows)} tokens", todo="list others")
        mixture = _Mixture(rows[first], spread + self.regularisation, self.concentration, self.regularisation)
        for _ in range(self.passes):
            order = torch.randperm(len(rows), generator=generator).to(rows.device)
            for some in order.split(self.batch):
                mixture.step(rows[some], self.momentum)
        weights = mixture.log_weights().exp()
        alive = weights > self.floor
        self.means, self.variances = mixture.means[alive], mixture.variances[alive]
        self.weights = weights[alive] / weights[alive].sum()
        self.candidates = self.candidates.new_empty(0)
        logger.info("the mixture has %d components from %d tokens.", len(self.means), len(rows))

    def merge_buffers(self, states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The candidates of several sites laid together; the mixture is fitted to them."""
        merged = super().merge_buffers(states)
        merged["at"] = max((state["at"] for state in states), key=torch.Tensor.numel)
        # of fitted sites all components, each site's weights by the scans that it has seen
        fitted = [state for state in states if state["means"].numel()]
        for name in ("means", "variances"):
            merged[name] = torch.cat([state[name] for state in fitted]) if fitted else states[0][name]
        merged["weights"] = states[0]["weights"]
        if fitted:
            seen = torch.stack([state["seen"] for state in fitted]).float()
            shares = seen / seen.sum().clamp_min(1)
            merged["weights"] = torch.cat([s["weights"] * share for s, share in zip(fitted, shares, strict=True)])
        return merged

    def distances(self, tokens: Tensor) -> Tensor:
        if self.means.numel() == 0:
            raise RuntimeError("the mixture has not been fitted.")
        x = self.placed(tokens)
        if self.cosine:
            closeness = functional.normalize(x, dim=2) @ functional.normalize(self.means, dim=1).t()
            return (1 - closeness.amax(2)).clamp_min(0)
        logs = log_densities(x, self.means, self.variances) + self.weights.log()
        # the densest place of the densest component is the zero
        peak = (self.weights.log() - (2 * math.pi * self.variances).log().sum(1) / 2).logsumexp(0)
        return ((peak - logs.logsumexp(2)) / x.shape[2]).clamp_min(0)


def log_densities(x: Tensor, means: Tensor, variances: Tensor) -> Tensor:
    """Log-densities ``(..., K)`` of vectors ``(..., D)`` under Gaussians with diagonal covariances ``(K, D)``."""
    # about the mean of all, the products are small, and with them what rounding takes from them
    centre = means.mean(0)
    x, means = x - centre, means - centre
    precision = 1 / variances
    squares = x.square() @ precision.t() - 2 * x @ (means * precision).t() + (means.square() * precision).sum(1)
    return -(squares + (2 * math.pi * variances).log().sum(1)) / 2


class _Mixture:
    """The state of a fit: moving averages of weight ``(K,)``, sum and sum of squares ``(K, D)`` of each component."""

    def __init__(self, means: Tensor, variance: Tensor, concentration: float, regularisation: float) -> None:
        self.means, self.variances = means.clone(), variance.expand_as(means).clone()
        # what is near to nothing has no mean of its own
        self.shares = torch.full_like(means[:, 0], 1 / len(means))
        self.sums, self.squares = self.shares[:, None] * means, self.shares[:, None] * (means.square() + variance)
        self.concentration, self.regularisation = concentration, regularisation

    def log_weights(self) -> Tensor:
        """Log of the sticks' lengths ``(K,)``: of what is left, each takes its share."""
        after = self.shares.flip(0).cumsum(0).flip(0) - self.shares
        prior = (self.concentration - 1) / self.count if self.count else 0.0
        broken = self.shares / (self.shares + after + prior).clamp_min(1e-12)
        broken = broken.clamp(1e-12, 1 - 1e-7)
        left = torch.log1p(-broken).cumsum(0).roll(1)
        left[0] = 0
        return left + broken.log()

    count = 0

    def step(self, x: Tensor, momentum: float) -> None:
        """Share a batch of tokens ``(n, D)`` out among the components, and move these."""
        self.count = len(x)
        logs = log_densities(x, self.means, self.variances) + self.log_weights()
        parts = logs.softmax(1).t() / len(x)
        self.shares = torch.lerp(self.shares, parts.sum(1), momentum)
        self.sums = torch.lerp(self.sums, parts @ x, momentum)
        self.squares = torch.lerp(self.squares, parts @ x.square(), momentum)
        whole = self.shares[:, None]
        alive = whole > 1e-9
        self.means = torch.where(alive, self.sums / whole.clamp_min(1e-9), self.means)
        found = (self.squares / whole.clamp_min(1e-9) - self.means.square()).clamp_min(0) + self.regularisation
        self.variances = torch.where(alive, found, self.variances)
