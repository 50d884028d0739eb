"""A latent whose values are predicted one from those before it: how likely a latent is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["AutoregressiveLatent", "MaskedLinear"]


class MaskedLinear(nn.Module):
    """A linear layer over entries in a row, each with some features, that sees only the entries before it.

    Args:
        entries: how many.
        before, after: features of each entry.
        strict: whether an entry's own features are hidden too, as in the first layer.

    Shape:
        ``(B, entries * before)`` to ``(B, entries * after)``, an entry's features side by side.
    """

    def __init__(self, entries: int, before: int, after: int, strict: bool = False) -> None:
        super().__init__()
        seen = torch.ones(entries, entries).tril(-1 if strict else 0)
        self.seen: Tensor = nn.Buffer(seen.repeat_interleave(after, 0).repeat_interleave(before, 1), persistent=False)
        # by what an entry sees on average, half of them
        bound = math.sqrt(2 / (entries * before))
        self.weight = nn.Parameter(torch.empty(entries * after, entries * before).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(entries * after))

    def forward(self, values: Tensor) -> Tensor:
        return functional.linear(values, self.weight * self.seen, self.bias)


class AutoregressiveLatent(nn.Module):
    """A bottleneck's latent, 0..1, with an estimator of its density, learnt together with it.

    Args:
        inner: the bottleneck.
        latent_size: length of the latent.
        pixels: values of a scan, of which the penalty is a mean: as the mean residual, so that a weight of 1 is the
            paper's sum of both.
        widths: features of each entry in the estimator's layers.
        bins: of each value, as many as the estimator tells apart.

    Shape:
        features ``(B, *grid)`` to latents ``(B, latent_size)``, 0..1.

    Reference:
        Abati et al., "Latent space autoregression for novelty detection", CVPR 2019 (LSA).
    """

    def __init__(
        self,
        inner: nn.Module,
        latent_size: int,
        pixels: int = 1,
        widths: Sequence[int] = (32, 32, 32, 32),
        bins: int = 100,
    ) -> None:
        super().__init__()
        self.inner, self.pixels, self.bins = inner, pixels, bins
        layers: list[nn.Module] = []
        for before, after in pairwise((1, *widths)):
            layers += [MaskedLinear(latent_size, before, after, strict=not layers), nn.LeakyReLU()]
        self.estimator = nn.Sequential(*layers, MaskedLinear(latent_size, widths[-1], bins))

    def forward(self, features: Tensor) -> Tensor:
        code: Tensor = self.inner(features)
        return torch.sigmoid(code)

    def unlikelihood(self, code: Tensor) -> Tensor:
        """Minus the logarithm of the probability of latents ``(B, latent_size)``, ``(B,)``, not negative."""
        logits = self.estimator(code).float().unflatten(1, [code.shape[1], self.bins])
        where = (code.detach().float() * self.bins).long().clamp(0, self.bins - 1)
        chosen = torch.log_softmax(logits, 2).gather(2, where.unsqueeze(2))
        return -chosen.flatten(1).sum(1)

    def penalised(self, features: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The latents, and the term ``latent``: how unlikely they are, for each of a scan's values.

        The encoder learns from it by what the estimator sees, not by which bin a value falls into.
        """
        code = self(features)
        return code, {"latent": self.unlikelihood(code).mean() / self.pixels}
