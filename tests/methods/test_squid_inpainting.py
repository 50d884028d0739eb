"""Painting of feature patches, against a plain computation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from medad_plugins.errors import InputError
from medad_plugins.methods.squid import InpaintingBlock
from medad_plugins.methods.squid.inpainting import masked_shortcut
from medad_plugins.networks.blocks.memory_addressing import look_up


def _block(dims: int) -> InpaintingBlock:
    torch.manual_seed(0)
    return InpaintingBlock(dims, 2, channels=16, grid=[2] * dims, slots=6, top_k=3, heads=2).eval()


def _attended(block: InpaintingBlock, query: Tensor, keys: Tensor) -> Tensor:
    """Multi-head attention of one vector ``(D,)`` to ``(N, D)``, head by head."""
    attention = block.attention
    assert attention.in_proj_weight is not None and attention.in_proj_bias is not None
    weights, biases = attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3)
    q, k, v = (functional.linear(x, w, b) for x, w, b in zip((query, keys, keys), weights, biases, strict=True))
    parts = []
    for head in torch.arange(len(query)).chunk(attention.num_heads):
        share = torch.softmax(k[:, head] @ q[head] / len(head) ** 0.5, 0)
        parts.append(share @ v[:, head])
    return attention.out_proj(torch.cat(parts))


@pytest.mark.parametrize("dims", [2, 3])
@torch.no_grad()
def test_a_patch_is_painted_from_the_looked_up_ones_around_it(dims: int) -> None:
    block = _block(dims)
    positions = 2**dims
    x = torch.rand(2 * positions, 16, *[2] * dims)
    painted, queries = block(x)
    assert painted.shape == x.shape
    reduced = block.reduce(x)
    torch.testing.assert_close(queries, reduced.reshape(2, positions, -1))

    found = look_up(queries, block.queues.slots, 3)
    for case in range(2):
        for own in range(positions):
            # in a grid of two everybody else is a neighbour; the rest of the window lies beyond the scan and is zero
            others = [found[case, other] for other in range(positions) if other != own]
            beyond = [torch.zeros_like(found[0, 0])] * (3**dims - 1 - len(others))
            asked = _attended(block, queries[case, own], torch.stack(others + beyond))
            one = torch.relu(block.attention_norm(asked) + found[case, own])
            two = torch.relu(block.perceptron_norm(block.perceptron(one)) + one).reshape(reduced.shape[1:])
            digits = [own >> digit & 1 for digit in reversed(range(dims + 1))]
            code = torch.tensor(digits, dtype=torch.float32).reshape(-1, *[1] * dims).expand(-1, *[2] * dims)
            expected = block.restore(torch.cat([two, code])[None])[0]
            torch.testing.assert_close(painted[case * positions + own], expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_most_locations_are_painted_in_training() -> None:
    torch.manual_seed(0)
    painted, original = torch.ones(8, 3, 40, 40), torch.zeros(8, 3, 40, 40)
    mixed = masked_shortcut(painted, original, 0.95, positions=4)
    assert torch.equal(mixed[:, 0], mixed[:, 2]), "all channels of a location together"
    assert float(mixed.mean()) == pytest.approx(0.95, abs=0.01)
    block = _block(2)
    x = torch.rand(8, 16, 2, 2)
    assert not torch.equal(block(x)[0], x)
    block.masked_share = 0.0
    assert torch.equal(block(x)[0], block(x)[0]), "nothing is drawn in eval mode"
    assert torch.equal(block.train()(x)[0], x)


def test_a_patch_is_no_longer_than_allowed() -> None:
    assert InpaintingBlock(2, 2, 512, [4, 4]).queues.slots.shape == (4, 200, 2048), "the paper's"
    assert InpaintingBlock(3, 2, 256, [3, 3, 3], slots=5, max_length=512).queues.slots.shape == (8, 5, 16 * 27)
    with pytest.raises(InputError, match="do not fit the memory"):
        InpaintingBlock(2, 2, 16, [40, 40], max_length=1000)
