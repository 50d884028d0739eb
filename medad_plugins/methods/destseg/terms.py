"""Terms of DeSTSeg's two phases."""

from __future__ import annotations

from typing import Any

import torch
from monai.losses.focal_loss import FocalLoss
from torch import Tensor
from torch.nn import functional

from medad_plugins.losses import LocalCosineLoss
from medad_plugins.methods.destseg.network import DeSTSeg

__all__ = ["DeSTSegSegmentation", "destseg_student"]


def destseg_student(network: DeSTSeg, batch: dict[str, Any]) -> dict[str, Tensor]:
    """Term ``cosine``: the student's features of the image are to be the teacher's of the clean one, place by place."""
    clean, _ = batch["target"]
    with torch.no_grad():
        teacher = network.teacher(clean)
    return {"cosine": LocalCosineLoss()((network.student(batch["image"]), teacher))}


class DeSTSegSegmentation:
    """Terms of the segmentation: ``focal``, the focal loss, and ``absolute``, the mean absolute error.

    The mask is brought to the network's grid by linear interpolation and is 1 above a half.

    Args:
        gamma: of the focal loss.
    """

    def __init__(self, gamma: float = 4.0) -> None:
        self.focal = FocalLoss(gamma=gamma)

    def __call__(self, network: DeSTSeg, batch: dict[str, Any]) -> dict[str, Tensor]:
        logits = network.training_output(batch["image"]).float()
        mode = "bilinear" if logits.dim() == 4 else "trilinear"
        _, mask = batch["target"]
        mask = functional.interpolate(mask.float(), list(logits.shape[2:]), mode=mode, align_corners=False)
        mask = (mask > 0.5).to(logits.dtype)
        absolute = functional.l1_loss(torch.sigmoid(logits), mask)
        return {"focal": self.focal(logits, mask), "absolute": absolute}
