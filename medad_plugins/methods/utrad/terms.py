"""The loss of UTRAD."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["UTRADLoss"]


class UTRADLoss(nn.Module):
    """Mean squared error of the rebuilt features, and that of the prediction of the error at every place.

    A place's error is the root of its squared error's mean over the channels. The second term's gradient reaches the
    prediction alone.

    Shape:
        rebuilt and true features ``(B, D, *grid)`` and predicted errors ``(B, 1, *grid)`` to a scalar.

    Example:
        >>> UTRADLoss()((torch.zeros(1, 4, 2, 2), torch.ones(1, 4, 2, 2), torch.ones(1, 1, 2, 2)))
        tensor(1.)
    """

    def forward(self, output: tuple[Tensor, Tensor, Tensor], target: Tensor | None = None) -> Tensor:
        """Loss of the network's output; ``target`` is there for engines that pass one and is not used."""
        rebuilt, features, scale = output
        error = (rebuilt - features).detach().square().mean(1, keepdim=True).sqrt()
        return functional.mse_loss(rebuilt, features) + functional.mse_loss(scale, error)
