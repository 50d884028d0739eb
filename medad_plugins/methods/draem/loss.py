"""Loss of DRAEM: repair the scan and say where it was abnormal."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.losses.gaussian_ssim import gaussian_ssim
from medad_plugins.losses.softmax_focal import softmax_focal

__all__ = ["DRAEMLoss"]


class DRAEMLoss(nn.Module):
    """Mean squared error, plus one minus the structural similarity, plus the focal loss of the pixels' classes.

    The public code weights the three equally; so does this by default.

    Args:
        similarity_weight: of one minus the mean similarity (window 11, standard deviation 1.5, borders padded).
        focal_weight: of the focal loss.
        gamma: of the focal loss, see `softmax_focal`.

    Shape:
        the pair ``(repaired, logits)`` of ``(B, C, *spatial)`` and ``(B, 2, *spatial)``, and the pair ``(clean, mask)``
        of the scan before the synthesis, intensities 0..1, and ``(B, 1, *spatial)``, 0 or 1, to a scalar.

    Reference:
        Zavrtanik et al., ICCV 2021.
    """

    def __init__(self, similarity_weight: float = 1.0, focal_weight: float = 1.0, gamma: float = 2.0) -> None:
        super().__init__()
        self.similarity_weight, self.focal_weight, self.gamma = similarity_weight, focal_weight, gamma

    def forward(self, output: tuple[Tensor, Tensor], target: tuple[Tensor, Tensor]) -> Tensor:
        (repaired, logits), (clean, mask) = output, target
        repaired = repaired.float()
        loss = functional.mse_loss(repaired, clean)
        loss = loss + self.similarity_weight * (1 - gaussian_ssim(repaired, clean).mean())
        return loss + self.focal_weight * softmax_focal(logits, mask, self.gamma)
