"""Where the vectors of each class lie, as training goes on."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["ClassCentres"]


class ClassCentres(nn.Module):
    """Running mean of the vectors of each class; it follows them and is not trained by gradient.

    Args:
        classes: how many.
        dimensions: of a vector.
        decay: share of the old mean that stays at a step.

    Buffers:
        centres ``(K, D)``: zeros for a class of which no vector was seen.
    """

    def __init__(self, classes: int, dimensions: int, decay: float = 0.9) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise ValueError(f"decay must lie in [0, 1), got {decay}.")
        self.decay = decay
        self.centres: Tensor = nn.Buffer(torch.zeros(classes, dimensions))

    @torch.no_grad()
    def follow(self, vectors: Tensor, classes: Tensor) -> None:
        """Move the centres towards vectors ``(N, D)`` of classes ``(N,)``; a class's first ones become its centre."""
        for number in range(len(self.centres)):
            own = vectors[classes == number]
            if len(own):
                mean = own.mean(0).to(self.centres.dtype)
                seen = bool(self.centres[number].any())
                self.centres[number] = torch.lerp(mean, self.centres[number], self.decay) if seen else mean

    def spread(self, vectors: Tensor, classes: Tensor) -> Tensor:
        """Squared distances from the own class's centre: means over each class that there is, summed; a scalar."""
        squares = (vectors - self.centres[classes]).square().sum(1)
        present = [
            squares[classes == number].mean() for number in range(len(self.centres)) if (classes == number).any()
        ]
        return torch.stack(present).sum()

    # of the training alone, and beyond TorchScript
    @torch.jit.unused
    def forward(self, vectors: Tensor, classes: Tensor) -> Tensor:
        return self.spread(vectors, classes)
