"""Loss of DAF: be like the teacher where a scan is normal, and say where it is not."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["DAFLoss", "balanced_cross_entropy"]


def balanced_cross_entropy(logits: Tensor, mask: Tensor, ratio: float = 3.0) -> Tensor:
    """Binary cross-entropy of all abnormal places and of the normal ones that are worst, so many times as many.

    Args:
        logits: of being abnormal, ``(B, 1, *spatial)``.
        mask: the same shape, 0 or 1.
        ratio: normal places for each abnormal one, in the batch as a whole.

    Returns:
        mean over the chosen places; zero where no place is abnormal.
    """
    losses = functional.binary_cross_entropy_with_logits(logits.float(), mask.float(), reduction="none")
    abnormal = mask > 0.5
    positive, negative = losses[abnormal], losses[~abnormal]
    worst = torch.topk(negative, min(len(negative), int(len(positive) * ratio))).values
    return (positive.sum() + worst.sum()) / max(1, len(positive) + len(worst))


class DAFLoss(nn.Module):
    """Discrepancy of teacher and student in normal places, and the balanced cross-entropy of all segmentations.

    The mask is brought to a level's grid by its nearest pixels; logits are interpolated to the mask's.

    Args:
        ratio: see `balanced_cross_entropy`.
        segmentation_weight: of the segmentation and of the levels' own.

    Shape:
        the pair ``(differences, logits)`` of lists of ``(B, 1, *grid_k)``, and the mask ``(B, 1, *spatial)``, 0 or 1,
        to a scalar.

    Reference:
        Cai et al., IEEE TII 20, 2024.
    """

    def __init__(self, ratio: float = 3.0, segmentation_weight: float = 1.0) -> None:
        super().__init__()
        self.ratio, self.segmentation_weight = ratio, segmentation_weight

    def forward(self, output: tuple[list[Tensor], list[Tensor]], mask: Tensor) -> Tensor:
        differences, logits = output
        size, mode = list(mask.shape[2:]), "bilinear" if mask.dim() == 4 else "trilinear"
        terms: list[Tensor] = []
        for difference in differences:
            normal = 1 - functional.interpolate(mask.float(), list(difference.shape[2:]), mode="nearest")
            terms.append((difference * normal).sum() / normal.sum().clamp_min(1))
        for found in logits:
            enlarged = functional.interpolate(found.float(), size, mode=mode, align_corners=False)
            terms.append(self.segmentation_weight * balanced_cross_entropy(enlarged, mask, self.ratio))
        return torch.stack(terms).sum()
