"""How little a model's answer says that it is sure."""

from __future__ import annotations

from math import log

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["ACTIVATIONS", "CONFIDENCES", "doubt"]

CONFIDENCES = ("msp", "entropy", "energy")
ACTIVATIONS = ("softmax", "sigmoid")


def doubt(
    answer: Tensor, kind: str, several: bool = False, temperature: float = 1.0, are_probabilities: bool = False
) -> Tensor:
    """Doubt of an answer ``(B, K)`` or ``(B, K, *grid)``, ``(B,)`` or ``(B, *grid)``; higher is less sure.

    Args:
        answer: logits, or probabilities.
        kind: ``"msp"``, one minus the highest probability, 0..1; ``"entropy"``, as a share of the highest there can be,
            0..1; ``"energy"``, minus the temperature times the logarithm of the summed exponentials of the logits
            over it, of any sign.
        several: K labels, each of which is there or not, rather than K classes; their doubts are averaged. A label
            that is surely absent is as sure as one that is surely there: its logits are half of it and minus half.
        temperature: divides the logits.
        are_probabilities: of which the logarithm, or of several labels the log-odds, are then the logits.
    """
    several = several or answer.shape[1] == 1
    if are_probabilities:
        bounded = answer.clamp(1e-7, 1 - 1e-7)
        answer = torch.logit(bounded) if several else bounded.log()
    # (B, classes, labels, *grid): each of several labels is two classes
    logits = torch.stack([answer / 2, -answer / 2], 1) if several else answer.unsqueeze(2)
    logits = logits / temperature
    if kind == "energy":
        return (-temperature * torch.logsumexp(logits, 1)).mean(1)
    if kind == "entropy":
        logarithms = functional.log_softmax(logits, 1)
        return -(logarithms.exp() * logarithms).sum(1).mean(1) / log(logits.shape[1])
    return (1 - torch.softmax(logits, 1).amax(1)).mean(1)
