"""Perceptron that separates normal feature vectors from others."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["FeatureDiscriminator", "init_linear"]


def init_linear(module: nn.Module) -> None:
    """Give the linear layers of a module Xavier's normal weights; biases keep PyTorch's."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_normal_(part.weight)


class FeatureDiscriminator(nn.Module):
    """Two linear layers with a batch norm between them; high for normal vectors, and of any sign.

    In train mode its batch norm sees all vectors of one call together: what it separates belongs in one call.

    Args:
        dimensions: length of the vectors.
        hidden: width of the hidden layer.

    Shape:
        ``(N, dimensions)`` to ``(N,)``.
    """

    def __init__(self, dimensions: int, hidden: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(dimensions, hidden), nn.BatchNorm1d(hidden), nn.LeakyReLU(0.2))
        self.tail = nn.Linear(hidden, 1, bias=False)
        init_linear(self)

    def forward(self, vectors: Tensor) -> Tensor:
        # not in half precision, where autocast gives that: a margin loses digits that matter
        scores: Tensor = self.tail(self.body(vectors)).to(self.tail.weight.dtype).squeeze(1)
        return scores
