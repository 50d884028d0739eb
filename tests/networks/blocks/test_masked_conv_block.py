"""The masked convolution block: what it sees, its gates, its term."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from medad_plugins.networks.blocks.masked_conv_block import ExcitationGate, MaskedConvBlock


@pytest.mark.parametrize(("spatial_dims", "kernel", "dilation"), [(2, 1, 1), (2, 2, 1), (3, 1, 2)])
def test_a_place_is_predicted_from_the_corners_around_it(spatial_dims: int, kernel: int, dilation: int) -> None:
    torch.manual_seed(0)
    block: Any = MaskedConvBlock(spatial_dims, 1, "sspcab", kernel, dilation)
    for corner in block.corners:  # none may be rectified away
        corner.weight.data.abs_()
    middle = 6
    features = torch.rand(1, 1, *[13] * spatial_dims, requires_grad=True)
    block.predicted(features)[(0, 0, *[middle] * spatial_dims)].backward()
    assert features.grad is not None
    seen = {tuple(where) for where in features.grad[0, 0].nonzero().tolist()}
    one_axis = [*range(middle - kernel - dilation, middle - dilation)]
    one_axis += range(middle + dilation + 1, middle + dilation + kernel + 1)
    assert seen == set(itertools.product(one_axis, repeat=spatial_dims))


def test_shapes_gate_and_term() -> None:
    torch.manual_seed(0)
    for gate in ("sspcab", "ssmctb"):
        block, features = MaskedConvBlock(2, 16, gate), torch.randn(3, 16, 4, 6)
        with torch.no_grad():
            found, terms = block.penalised(features)
            predicted = block.predicted(features)
            factors = block.gate(predicted.mean((2, 3)))
        assert factors.shape == (3, 16) and 0 < float(factors.min()) and float(factors.max()) < 1
        torch.testing.assert_close(found, predicted * factors[:, :, None, None])
        assert float(terms["block"]) == pytest.approx(float((found - features).square().mean()))
        assert torch.equal(block(features), found)


def test_the_attention_is_the_one_written_out() -> None:
    torch.manual_seed(0)
    gate: Any = MaskedConvBlock(2, 5, "ssmctb").gate
    means = torch.randn(1, 5)
    with torch.no_grad():
        tokens = means[0][:, None] @ gate.embedding.weight.T + gate.embedding.bias + gate.places
        merged = gate.merging.bias.clone().repeat(5, 1)
        query, key, value = gate.attention(tokens).chunk(3, 1)
        for head in range(5):
            part = slice(64 * head, 64 * head + 64)
            weights = (query[:, part] @ key[:, part].T / 8).softmax(1)
            merged += weights @ value[:, part] @ gate.merging.weight[:, part].T
        expected = merged.mean(1).sigmoid()
        torch.testing.assert_close(gate(means)[0], expected, rtol=1e-4, atol=1e-5)


def test_excitation_is_two_layers() -> None:
    gate = ExcitationGate(16)
    assert [tuple(p.shape) for p in gate.parameters()] == [(2, 16), (2,), (16, 2), (16,)]


def test_unknown_gate() -> None:
    with pytest.raises(ValueError, match="gate must be one of"):
        MaskedConvBlock(2, 4, "se")
