"""Global cosine losses that learn more from some locations than from others."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.losses.global_cosine import GlobalCosineLoss

__all__ = ["DistanceMinedCosineLoss", "MinedCosineLoss", "ShareMinedCosineLoss"]


class MinedCosineLoss(nn.Module):
    """Global cosine loss whose gradient is weighted location by location; its value is that of the global cosine loss.

    A subclass writes `location_weights`. Each scale is mined by itself, over all cases of the batch.

    Args:
        weight: of the loss.
        average: over the scales, in place of their sum.

    Shape:
        pair ``(decoded, encoded)`` of lists of ``(B, C_k, *grid_k)`` to a scalar.
    """

    def __init__(self, weight: float = 1.0, average: bool = False) -> None:
        super().__init__()
        self.weight, self.average = weight, average
        self.whole = GlobalCosineLoss()

    def location_weights(self, distance: Tensor) -> Tensor:
        """Factors of the gradient at each location, from one minus the cosines there ``(B, *grid)``."""
        raise TypeError(f"{type(self).__name__} does not say how much locations count.")

    def _weighted(self, decoded: Tensor, encoded: Tensor) -> Tensor:
        """The decoded map, its gradient weighted."""
        with torch.no_grad():
            distance = 1 - functional.cosine_similarity(decoded.float(), encoded.float(), dim=1)
            weights = self.location_weights(distance).to(decoded.dtype).unsqueeze(1)
        still = decoded.detach()
        # equals the decoded map, for what it adds is zero
        return still + weights * (decoded - still)

    def forward(self, features: tuple[list[Tensor], list[Tensor]], target: Tensor | None = None) -> Tensor:
        """Loss of the features; ``target`` is there for engines that pass one and is not used."""
        decoded, encoded = features
        weighted = [self._weighted(d, e) for d, e in zip(decoded, encoded)]
        loss: Tensor = self.whole((weighted, encoded))
        return self.weight * (loss / len(encoded) if self.average else loss)


class ShareMinedCosineLoss(MinedCosineLoss):
    """The easiest share of a batch's locations teaches less; the mean over the scales.

    Args:
        share: of locations, those with the smallest distances, 0 to 1; in Dinomaly it rises from 0 to 0.9 over the
            first 1,000 iterations, see `set_share`.
        easy_factor: of the gradient there.
        weight: of the loss.

    Reference:
        Guo et al., "Dinomaly: The Less Is More Philosophy in Multi-Class Unsupervised Anomaly Detection", CVPR 2025.

    Example:
        >>> features = [torch.rand(2, 8, 4, 4)]
        >>> bool(ShareMinedCosineLoss(share=0.5)((features, features)) < 1e-6)
        True
    """

    def __init__(self, share: float = 0.9, easy_factor: float = 0.1, weight: float = 1.0) -> None:
        super().__init__(weight, average=True)
        self.easy_factor = easy_factor
        self.set_share(share)

    def set_share(self, share: float) -> None:
        """Take another share, as a schedule does."""
        if not 0 <= share <= 1:
            raise ValueError(f"share must lie between 0 and 1, got {share}.")
        self.share = share

    def location_weights(self, distance: Tensor) -> Tensor:
        hard = max(1, int(distance.numel() * (1 - self.share)))
        least = torch.topk(distance.flatten(), hard).values[-1]
        return torch.where(distance < least, self.easy_factor, 1.0)


class DistanceMinedCosineLoss(MinedCosineLoss):
    """Locations teach the more the farther they are off: by a power of their distance over its mean in the batch.

    Args:
        power: 0 for all alike.
        weight: of the loss, the mean over the scales.

    Reference:
        Luo et al., "Exploring Intrinsic Normal Prototypes within a Single Image for Universal Anomaly Detection", CVPR
        2025.

    Example:
        >>> loss = DistanceMinedCosineLoss(power=1.0)
        >>> loss.location_weights(torch.tensor([[0.1, 0.3]]))
        tensor([[0.5000, 1.5000]])
    """

    def __init__(self, power: float = 3.0, weight: float = 1.0) -> None:
        super().__init__(weight, average=True)
        self.power = power

    def location_weights(self, distance: Tensor) -> Tensor:
        # cosines that round to above 1 give distances below 0
        off = distance.clamp_min(0)
        return (off / off.mean().clamp_min(1e-12)) ** self.power
