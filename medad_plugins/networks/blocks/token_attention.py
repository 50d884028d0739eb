"""Attention between tokens, and the layers of encoders and decoders made of it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.networks.batch_noise import batch_uniform

__all__ = ["DecoderLayer", "EncoderLayer", "HeadAttention", "TokenAttention", "TokenDropout", "token_perceptron"]

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU}


class TokenDropout(nn.Module):
    """Dropout whose draws for the cases of a batch are the same in one process and in several.

    Args:
        share: of the values that become 0 in training, 0..1 without 1; the others are enlarged accordingly.

    Shape:
        ``(B, ...)`` to the same.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        if not 0 <= share < 1:
            raise ValueError(f"dropout must lie in 0..1 without 1, got {share}.")
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        if not torch.jit.is_scripting():  # noqa: SIM102 - TorchScript wants its test alone
            if self.training and self.share > 0:
                kept = batch_uniform(x.shape, x) >= self.share
                return x * kept / (1 - self.share)
        return x


def with_positions(tokens: Tensor, positions: Tensor | None) -> Tensor:
    """Tokens ``(B, P, D)`` and their positions ``(P, D)`` added up, where there are positions."""
    return tokens if positions is None else tokens + positions


class HeadAttention(nn.Module):
    """Attention proper, with several heads, of queries, keys and values that have been projected already.

    Args:
        heads: how many; each has its share of the channels.
        dropout: share of the attention that is dropped in training.

    Shape:
        queries ``(B, Q, D)``, keys and values ``(B, K, D)`` and, if given, what is hidden ``(Q, K)``, bool, to
        ``(B, Q, D)``. A query from which all keys are hidden has no answer.
    """

    def __init__(self, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = TokenDropout(dropout)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, hidden: Tensor | None = None) -> Tensor:
        q = query.unflatten(2, [self.heads, -1]).transpose(1, 2)
        k = key.unflatten(2, [self.heads, -1]).transpose(1, 2)
        v = value.unflatten(2, [self.heads, -1]).transpose(1, 2)
        seen = None if hidden is None else torch.logical_not(hidden)
        return self._attend(q, k, v, seen).transpose(1, 2).flatten(2)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None) -> Tensor:
        if not torch.jit.is_scripting():  # noqa: SIM102
            if self.training and self.dropout.share > 0:
                return self._attend_dropping(q, k, v, seen)
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=seen)

    def _attend_dropping(self, q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None) -> Tensor:
        # the library's own dropout would draw otherwise in several processes
        likeness = (q / math.sqrt(q.shape[-1])) @ k.transpose(2, 3)
        if seen is not None:
            likeness = likeness.masked_fill(torch.logical_not(seen), -float("inf"))
        attention: Tensor = self.dropout(torch.softmax(likeness, -1).to(v.dtype))
        return attention @ v


class TokenAttention(nn.Module):
    """Attention of queries to keys with several heads, where some keys may be hidden from a query.

    Args:
        width: D, of tokens, a multiple of the heads.
        heads, dropout: see `HeadAttention`.

    Shape:
        queries ``(B, Q, D)``, keys and values ``(B, K, D)`` and, if given, what is hidden ``(Q, K)``, bool, to
        ``(B, Q, D)``.

    Example:
        >>> tokens = torch.rand(2, 9, 8)
        >>> TokenAttention(8, heads=2)(tokens, tokens, tokens, torch.eye(9, dtype=torch.bool)).shape
        torch.Size([2, 9, 8])
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if heads < 1 or width < 1 or width % heads:
            raise ValueError(f"the width must be a multiple of the heads, got {width} and {heads}.")
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.attend = HeadAttention(heads, dropout)
        for layer in (self.query, self.key, self.value):
            # as if the three were one layer
            nn.init.xavier_uniform_(layer.weight, gain=math.sqrt(0.5))
            nn.init.zeros_(layer.bias)
        _init_linear(self.out)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, hidden: Tensor | None = None) -> Tensor:
        out: Tensor = self.out(self.attend(self.query(query), self.key(key), self.value(value), hidden))
        return out


def _init_linear(layer: nn.Linear) -> None:
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)


def token_perceptron(width: int, hidden: int, dropout: float, activation: str = "relu") -> nn.Sequential:
    """Two linear layers on every token ``(B, P, width)``, the inner one ``hidden`` wide.

    Args:
        dropout: share of the inner values that are dropped in training.
        activation: ``"relu"`` or ``"gelu"``.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {sorted(ACTIVATIONS)}, got {activation!r}.")
    first, second = nn.Linear(width, hidden), nn.Linear(hidden, width)
    _init_linear(first)
    _init_linear(second)
    return nn.Sequential(first, ACTIVATIONS[activation](), TokenDropout(dropout), second)


class EncoderLayer(nn.Module):
    """Self-attention, then a perceptron of every token; each is added to what came in, and the sum normalised.

    Positions are added to queries and keys, and not to values.

    Args:
        width, heads, dropout: see `TokenAttention`.
        hidden: inner width of the perceptron.
        activation: see `token_perceptron`.

    Shape:
        tokens ``(B, P, D)``, positions ``(P, D)`` and hidden ``(P, P)``, either of them None, to ``(B, P, D)``.
    """

    def __init__(self, width: int, heads: int, hidden: int, dropout: float, activation: str = "relu") -> None:
        super().__init__()
        self.attention = TokenAttention(width, heads, dropout)
        self.perceptron = token_perceptron(width, hidden, dropout, activation)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = TokenDropout(dropout)

    def forward(self, x: Tensor, positions: Tensor | None = None, hidden: Tensor | None = None) -> Tensor:
        placed = with_positions(x, positions)
        x = self.norm1(x + self.dropout(self.attention(placed, placed, x, hidden)))
        out: Tensor = self.norm2(x + self.dropout(self.perceptron(x)))
        return out


class DecoderLayer(nn.Module):
    """Queries that attend to one set of tokens, then to another; then a perceptron. Each is added and normalised.

    With the queries themselves as the first set it is a decoder's usual layer: self-attention, then the memory.

    Args:
        width, heads, hidden, dropout, activation: see `EncoderLayer`.

    Shape:
        queries ``(B, Q, D)``, first ``(B, Q, D)`` and second ``(B, K, D)``; positions of the queries and the first
        ``(Q, D)`` and of the second ``(K, D)``; what is hidden of them ``(Q, Q)`` and ``(Q, K)``; to ``(B, Q, D)``.
    """

    def __init__(self, width: int, heads: int, hidden: int, dropout: float, activation: str = "relu") -> None:
        super().__init__()
        self.attention1 = TokenAttention(width, heads, dropout)
        self.attention2 = TokenAttention(width, heads, dropout)
        self.perceptron = token_perceptron(width, hidden, dropout, activation)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = TokenDropout(dropout)

    def forward(
        self,
        x: Tensor,
        first: Tensor,
        second: Tensor,
        positions: Tensor | None = None,
        second_positions: Tensor | None = None,
        hidden: Tensor | None = None,
        second_hidden: Tensor | None = None,
    ) -> Tensor:
        asked = self.attention1(with_positions(x, positions), with_positions(first, positions), first, hidden)
        x = self.norm1(x + self.dropout(asked))
        keys = with_positions(second, second_positions)
        x = self.norm2(x + self.dropout(self.attention2(with_positions(x, positions), keys, second, second_hidden)))
        out: Tensor = self.norm3(x + self.dropout(self.perceptron(x)))
        return out
