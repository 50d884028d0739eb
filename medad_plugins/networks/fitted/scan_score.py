"""The score of a scan: by its map, by its pooled features, or by both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from medad_plugins.errors import InputError
from medad_plugins.networks.fitted.pooled_gaussian import PooledGaussian
from medad_plugins.scorers.fitted import FittedModule

__all__ = ["SCORES", "ScanScore", "pooled_features", "require_score"]

SCORES = ("local", "pooled", "both")
# normal scans whose local scores the unit is taken from: a deviation needs no more
_MEASURED = 64


def require_score(score: str) -> str:
    """The score that a key names.

    Raises:
        ValueError: there is no such score.
    """
    if score not in SCORES:
        raise ValueError(f"score must be one of {SCORES}, got {score!r}.")
    return score


def pooled_features(taps: list[Tensor]) -> Tensor:
    """Mean features ``(B, D)`` of all maps of a backbone in a row."""
    pooled: list[Tensor] = []
    for tap in taps:
        pooled.append(tap.float().flatten(2).mean(2))
    return torch.cat(pooled, 1)


class ScanScore(FittedModule):
    """How abnormal a scan is, for methods that judge the locations of frozen features.

    ``"local"`` is what the method's map says, best for focal disease; ``"pooled"`` is how far the features averaged
    over all locations lie from those of normal scans, see `PooledGaussian`; ``"both"`` is the mean of the two, each in
    standard deviations of what normal scans have.

    Args:
        score: one of `SCORES`.

    Buffers, of which only ``"both"`` keeps any in its state:
        examples ``(n, ...)``: what the method makes of normal scans and can judge again, float16, while collecting; of
        at most 128 of them, evenly spread. seen, step: how many scans there were, and every how many became an example.
        unit: standard deviation of normal scans' local scores.

    Shape:
        local scores ``(B,)`` and pooled features ``(B, D)`` to scores ``(B,)``.
    """

    def __init__(self, score: str = "local") -> None:
        super().__init__()
        self.score = require_score(score)
        self.judges_pooled, self.judges_both = score != "local", score == "both"
        self.pooled = PooledGaussian() if self.judges_pooled else None
        # models that judge by the map alone have nothing of this in their files
        kept = self.judges_both
        self.seen: Tensor = nn.Buffer(torch.zeros((), dtype=torch.long), persistent=kept)
        self.step: Tensor = nn.Buffer(torch.ones((), dtype=torch.long), persistent=kept)
        self.examples: Tensor = nn.Buffer(torch.empty(0, dtype=torch.float16), persistent=kept)
        self.unit: Tensor = nn.Buffer(torch.ones(()), persistent=kept)

    def collect(self, pooled: Tensor, examples: Tensor | None = None) -> None:
        """Add normal scans.

        Args:
            pooled: their features ``(B, D)``.
            examples: what `fit` judges ``(B, ...)``; None where the method brings their local scores itself.
        """
        if self.pooled is None:
            return
        self.pooled.collect(pooled)
        if not self.judges_both or examples is None:
            return
        if self.examples.numel() == 0:
            self.seen, self.step = torch.zeros_like(self.seen), torch.ones_like(self.step)
            self.examples = self.examples.new_empty(0, *examples.shape[1:])
        step, before = int(self.step), int(self.seen)
        self.seen += len(examples)
        with torch.autocast(examples.device.type, enabled=False):  # which joins no float16 on processors
            self.examples = torch.cat([self.examples, examples.detach()[-before % step :: step].half()])
        while len(self.examples) > 2 * _MEASURED:
            self.examples, self.step = self.examples[::2], 2 * self.step

    @torch.no_grad()
    def fit(self, local: Callable[[Tensor], Tensor] | Tensor | None = None) -> None:
        """Fit the Gaussian, and take the unit of the local scores.

        Args:
            local: gives the local scores ``(n,)`` of examples ``(n, ...)``, or is those of normal scans; they should be
                what scans have that were not fitted on.

        Raises:
            InputError: there are fewer than three normal scans.
        """
        if self.pooled is None:
            return
        self.pooled.fit()
        if self.judges_both and local is not None:
            if not isinstance(local, Tensor):
                local = torch.cat([local(some.float()) for some in self.examples.split(16)])
            if len(local) < 3:
                todo = "list more of them, or give --score local"
                raise InputError("a deviation of scores needs three normal scans", found=len(local), todo=todo)
            # scores that are all alike have no unit of their own
            deviation = float(local.double().std())
            self.unit = torch.full_like(self.unit, deviation if deviation > 1e-6 else 1.0)
        self.examples = self.examples.new_empty(0)

    def united_buffers(self) -> tuple[str, ...]:
        return ("examples",)

    def merge_buffers(self, states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The examples of several sites laid together; a unit that they have taken already is averaged."""
        merged = super().merge_buffers(states)
        merged["seen"] = torch.stack([state["seen"] for state in states]).sum(0)
        merged["step"] = torch.stack([state["step"] for state in states]).amax(0)
        merged["unit"] = torch.stack([state["unit"] for state in states]).mean(0)
        return merged

    def forward(self, local: Tensor, pooled: Tensor) -> Tensor:
        if self.pooled is None:
            return local
        apart: Tensor = self.pooled(pooled)
        return (local / self.unit + apart) / 2 if self.judges_both else apart
