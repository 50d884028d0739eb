"""Self-attention by loops over pairs of locations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medad_plugins.networks import GatedSelfAttention


@pytest.mark.parametrize("grid", [(3, 4), (2, 3, 2)])
def test_every_location_takes_up_the_values_of_all_by_the_softmax_of_unscaled_products(grid: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    attention = GatedSelfAttention(16, len(grid))
    torch.nn.init.constant_(attention.gate, 0.7)
    x = torch.randn(2, 16, *grid)
    with torch.no_grad():
        out = attention(x).double().numpy().reshape(2, 16, -1)
    parts = []
    for layer in (attention.query, attention.key, attention.value):
        kernel = layer.weight.detach().double().numpy().reshape(layer.out_channels, 16)
        assert layer.bias is not None and layer.weight[0, 0].numel() == 1
        parts.append((kernel, layer.bias.detach().double().numpy()))
    assert [kernel.shape[0] for kernel, _ in parts] == [2, 2, 16]
    values = x.double().numpy().reshape(2, 16, -1)
    for case in range(2):
        query, key, value = ([kernel @ place + bias for place in values[case].T] for kernel, bias in parts)
        for here in range(values.shape[2]):
            weights = np.exp([query[here] @ there for there in key])
            taken = sum(w * v for w, v in zip(weights / weights.sum(), value, strict=True))
            expected = 0.7 * np.asarray(taken) + values[case, :, here]
            np.testing.assert_allclose(out[case, :, here], expected, rtol=1e-4, atol=1e-5)


def test_at_the_start_the_gate_is_closed_and_learns() -> None:
    attention, x = GatedSelfAttention(8), torch.randn(1, 8, 4, 4)
    assert torch.equal(attention(x), x)
    attention(x).square().sum().backward()
    assert attention.gate.grad is not None and float(attention.gate.grad.abs()) > 0
