"""The loss of UTRAD."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["UTRADLoss"]


class UTRADLoss(nn.Module):
    """Mean squared error of the rebuilt features, and of what was predicted of their distance to the true ones.

    The second term's gradient reaches the prediction alone.

    Shape:
        rebuilt and true features ``(B, D, *grid)`` and predicted distances ``(B, 1, *grid)`` to a scalar.

    Example:
        >>> UTRADLoss()((torch.zeros(1, 4, 2, 2), torch.ones(1, 4, 2, 2), torch.ones(1, 1, 2, 2)))
        tensor(2.)
    """

    def forward(self, output: tuple[Tensor, Tensor, Tensor], target: Tensor | None = None) -> Tensor:
        """Loss of the network's output; ``target`` is there for engines that pass one and is not used."""
        rebuilt, features, scale = output
        distance = (rebuilt - features).detach().norm(dim=1, keepdim=True)
        return functional.mse_loss(rebuilt, features) + functional.mse_loss(scale, distance)
