"""Terms of DDAD-ASR's two phases."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from medad_plugins.losses import softmax_focal
from medad_plugins.methods.ddad_asr.network import DDADASR
from medad_plugins.networks.blocks.norm_layers import require_several

__all__ = ["ddad_ensembles", "ddad_refinement"]

_ENTROPY_WEIGHT = 0.0002


def _member_loss(member: nn.Module, scaled: Tensor) -> Tensor:
    """Squared error; in its variance, where the member says one; with the entropy of a memory's weights."""
    mean, log_variance, weights = member(scaled)
    error = (mean.float() - scaled.float()).square()
    loss = (error * torch.exp(-log_variance.float()) + log_variance.float()).mean()
    if weights.shape[1] > 0:
        entropy = -(weights.float() * (weights.float() + 1e-12).log()).sum(1).mean()
        loss = loss + _ENTROPY_WEIGHT * entropy
    return loss


def ddad_ensembles(network: DDADASR, batch: dict[str, Any]) -> dict[str, Tensor]:
    """Terms ``normal`` and, with a second ensemble, ``mixed``: sums of its members' losses.

    The target is the clean scans, the mask and, for the second ensemble, as many unlabelled scans: it learns from both.
    """
    clean = batch["target"][0]
    require_several(clean)
    terms = {"normal": torch.stack([_member_loss(member, 2 * clean - 1) for member in network.normal]).sum()}
    if len(network.mixed) > 0:
        both = 2 * torch.cat([clean, batch["target"][2]]) - 1
        terms["mixed"] = torch.stack([_member_loss(member, both) for member in network.mixed]).sum()
    return terms


def ddad_refinement(network: DDADASR, batch: dict[str, Any]) -> dict[str, Tensor]:
    """Term ``focal``: of ASR-Net's logits, against where the synthetic anomalies are."""
    return {"focal": softmax_focal(network.training_output(batch["image"]), batch["target"][1])}
