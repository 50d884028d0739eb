"""Self-attention that cannot focus on single tokens."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["LinearAttention", "head_count"]


def head_count(width: int, head_width: int = 64) -> int:
    """The most heads, of at least so many channels each, that divide a width evenly; one where there is none."""
    return max([heads for heads in range(1, width // head_width + 1) if width % heads == 0], default=1)


class LinearAttention(nn.Module):
    """Self-attention without a softmax: weights are products of ``elu(query) + 1`` and ``elu(key) + 1``, summing to 1.

    Keys and values are multiplied first, so that the cost is linear in the tokens; weights spread over all of them.

    Args:
        width: channels of a token.
        heads: that share them.

    Shape:
        ``(B, N, width)`` to the same.

    Reference:
        Katharopoulos et al., "Transformers are RNNs: Fast Autoregressive Transformers with Linear Attention", ICML
        2020.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(x).unflatten(2, [3, self.heads, -1]).permute(2, 0, 3, 1, 4).unbind(0)
        query, key = functional.elu(query) + 1.0, functional.elu(key) + 1.0
        total = query @ key.sum(2).unsqueeze(3)
        # where all keys are far below zero nothing is attended to
        attended = query @ (key.transpose(2, 3) @ value) / total.clamp_min(1e-6)
        out: Tensor = self.proj(attended.transpose(1, 2).flatten(2))
        return out
