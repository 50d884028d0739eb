"""Flow and reconstruction loss against its formula."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from medad_plugins.methods.ae_flow import FlowReconstructionLoss


@pytest.mark.parametrize("flow_weight", [0.5, 1.0, 0.0, 0.2])
def test_is_the_weighted_sum_of_bits_per_dimension_and_squared_error(flow_weight: float) -> None:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(2, 3, 2, 2, generator=generator)
    reconstruction, image = torch.rand(2, 2, 1, 4, 4, generator=generator)
    log_det = torch.tensor([1.5, -4.0])
    bits = []
    for case, volume in zip(z.numpy(), log_det.tolist(), strict=True):
        log_p = sum(math.log(math.exp(-0.5 * v * v) / math.sqrt(2 * math.pi)) for v in case.ravel().tolist())
        bits.append(-(log_p + volume) / (12 * math.log(2)))
    error = float(np.mean((reconstruction.numpy() - image.numpy()) ** 2))
    expected = flow_weight * float(np.mean(bits)) + (1 - flow_weight) * error
    loss = FlowReconstructionLoss(flow_weight)((z, log_det, reconstruction, image))
    assert loss.item() == pytest.approx(expected, rel=1e-5)
