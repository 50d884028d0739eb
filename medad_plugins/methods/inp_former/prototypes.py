"""A scan's own normal prototypes, and decoder blocks that see nothing else."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.networks.blocks.token_blocks import EPSILON, TokenPerceptron

__all__ = ["PrototypeBlock", "PrototypeExtractor", "gather_distance"]


class Projections(nn.Module):
    """Queries of one set of tokens, keys and values of another, and the way back out.

    Args:
        width: channels of a token.
        heads: that share them.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)

    def split(self, x: Tensor, seen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries ``(B, heads, N, d)`` of x, and keys and values ``(B, heads, M, d)`` of what it sees."""
        query = self.q(x).unflatten(2, [self.heads, -1]).transpose(1, 2)
        key, value = self.kv(seen).unflatten(2, [2, self.heads, -1]).permute(2, 0, 3, 1, 4).unbind(0)
        return query, key, value

    def join(self, attended: Tensor) -> Tensor:
        """``(B, heads, N, d)`` to ``(B, N, width)``."""
        out: Tensor = self.proj(attended.transpose(1, 2).flatten(2))
        return out


class PrototypeExtractor(nn.Module):
    """Learned queries that attend to the tokens of a scan and become its prototypes, by a residual transformer block.

    Args:
        width: channels of a token.
        heads: of the attention.
        prototypes: how many.

    Shape:
        tokens ``(B, N, width)`` to prototypes ``(B, K, width)``.
    """

    def __init__(self, width: int, heads: int, prototypes: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(prototypes, width))
        self.norm1 = nn.LayerNorm(width, eps=EPSILON)
        self.attn = Projections(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=EPSILON)
        self.mlp = TokenPerceptron(width, 4 * width)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.queries.expand(tokens.shape[0], -1, -1)
        query, key, value = self.attn.split(self.norm1(x), self.norm1(tokens))
        x = x + self.attn.join(functional.scaled_dot_product_attention(query, key, value))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class PrototypeBlock(nn.Module):
    """Tokens put together anew from prototypes, then a residual perceptron of each.

    The attention has no softmax: cosines of queries and keys, times a learned factor for each head, those below zero
    left out. Nothing leads around it, so that a token keeps only what prototypes have.

    Args:
        width: channels of a token.
        heads: of the attention.

    Shape:
        tokens ``(B, N, width)`` and prototypes ``(B, K, width)`` to tokens ``(B, N, width)``.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=EPSILON)
        self.attn = Projections(width, heads)
        self.scale = nn.Parameter(torch.ones(heads, 1, 1))
        self.norm2 = nn.LayerNorm(width, eps=EPSILON)
        self.mlp = TokenPerceptron(width, 4 * width)

    def forward(self, x: Tensor, prototypes: Tensor) -> Tensor:
        query, key, value = self.attn.split(self.norm1(x), self.norm1(prototypes))
        cosines = functional.normalize(query, dim=3) @ functional.normalize(key, dim=3).transpose(2, 3)
        weights = torch.relu(cosines * self.scale).to(value.dtype)
        # under autocast half precision; what the perceptron adds to is in that of the tokens
        y = self.attn.join(weights @ value).to(x.dtype)
        out: Tensor = y + self.mlp(self.norm2(y))
        return out


def gather_distance(tokens: Tensor, prototypes: Tensor) -> Tensor:
    """One minus the cosine of each token ``(B, N, D)`` and the nearest of its scan's prototypes ``(B, K, D)``, 0..2.

    Returns:
        ``(B, N)``, float32.
    """
    if not torch.jit.is_scripting():  # noqa: SIM102 - TorchScript wants its test alone
        if torch.is_autocast_enabled(tokens.device.type):
            # a cosine near 1 loses the digits that matter in half precision
            with torch.autocast(tokens.device.type, enabled=False):
                return _gather_distance(tokens.float(), prototypes.float())
    return _gather_distance(tokens, prototypes)


def _gather_distance(tokens: Tensor, prototypes: Tensor) -> Tensor:
    cosines = functional.normalize(tokens, dim=2) @ functional.normalize(prototypes, dim=2).transpose(1, 2)
    return (1 - cosines).amin(2)
