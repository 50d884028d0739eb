"""What decoders of tokens are made of: a perceptron of each token, and a block of attention and perceptron."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["TokenBlock", "TokenPerceptron", "init_token_layers"]

EPSILON = 1e-8


class TokenPerceptron(nn.Module):
    """Two linear layers with a GELU between, for each token alone.

    Args:
        width: channels of a token.
        hidden: of the first layer's output.
        dropout: of what comes in, of what is between and of what goes out: Dinomaly's noisy bottleneck; 0 for none.

    Shape:
        ``(B, N, width)`` to the same.
    """

    def __init__(self, width: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.dropout(functional.gelu(self.fc1(self.dropout(x))))
        out: Tensor = self.dropout(self.fc2(inner))
        return out


class TokenBlock(nn.Module):
    """Self-attention, then a perceptron of each token, both of normalised tokens, each added to what came in.

    Args:
        width: channels of a token.
        attention: ``(B, N, width)`` to the same.
        ratio: hidden channels of the perceptron, as a multiple of the width.

    Shape:
        ``(B, N, width)`` to the same.
    """

    def __init__(self, width: int, attention: nn.Module, ratio: int = 4) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=EPSILON)
        self.attn = attention
        self.norm2 = nn.LayerNorm(width, eps=EPSILON)
        self.mlp = TokenPerceptron(width, ratio * width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


def init_token_layers(module: nn.Module) -> None:
    """Draw the weights of linear layers from a normal of deviation 0.01, cut at 0.03; biases are zero."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.01, a=-0.03, b=0.03)
            nn.init.zeros_(layer.bias)
