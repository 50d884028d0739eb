"""How a network that marks anomalies begins."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["say_rare"]

_RARE = -3.0  # a logit: one voxel in twenty


def say_rare(last: nn.Module) -> None:
    """Let a network begin with how rare anomalies are, as detectors of rare objects do.

    Of its last layer, whose last channel is the logit of being abnormal, the bias is set; others, if any, get 0.
    Of a scan an anomaly is some hundredths. From a logit of 0 on, the first hundred iterations or two would teach
    nothing else.

    Raises:
        ValueError: the layer has no bias.

    Reference:
        Lin et al., "Focal loss for dense object detection", ICCV 2017, section 4.1.
    """
    bias = getattr(last, "bias", None)
    if not isinstance(bias, Tensor):
        raise ValueError(f"what a network ends with must have a bias, {type(last).__name__} has none.")
    with torch.no_grad():
        bias.zero_()
        bias[-1] = _RARE
