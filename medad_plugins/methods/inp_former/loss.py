"""What INP-Former is trained with: tokens are rebuilt, and prototypes come near to them."""

from __future__ import annotations

from torch import Tensor, nn

from medad_plugins.losses import DistanceMinedCosineLoss

__all__ = ["PrototypeLoss"]


class PrototypeLoss(nn.Module):
    """`DistanceMinedCosineLoss` of the groups, plus the mean distance of tokens to their nearest prototype.

    Args:
        gather_weight: of the distance to the prototypes.
        power: see `DistanceMinedCosineLoss`.

    Shape:
        rebuilt and true maps, lists of ``(B, C_g, *grid)``, and distances ``(B, N)`` to a scalar.

    Reference:
        Luo et al., "Exploring Intrinsic Normal Prototypes within a Single Image for Universal Anomaly Detection", CVPR
        2025.
    """

    def __init__(self, gather_weight: float = 0.2, power: float = 3.0) -> None:
        super().__init__()
        self.gather_weight = gather_weight
        self.rebuilding = DistanceMinedCosineLoss(power)

    def forward(self, output: tuple[list[Tensor], list[Tensor], Tensor], target: Tensor | None = None) -> Tensor:
        """Loss of what the network gives; ``target`` is there for engines that pass one and is not used."""
        rebuilt, targets, distances = output
        loss: Tensor = self.rebuilding((rebuilt, targets))
        return loss + self.gather_weight * distances.mean()
