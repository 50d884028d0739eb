"""Linear attention against the weights written out, and how many heads a width has."""

from __future__ import annotations

import pytest
import torch

from medad_plugins.networks.blocks.linear_attention import LinearAttention, head_count


@torch.no_grad()
def test_it_is_attention_with_other_weights() -> None:
    torch.manual_seed(0)
    attention, x = LinearAttention(12, 3).double(), torch.randn(2, 7, 12).double()
    found = attention(x)
    for case in range(2):
        query, key, value = attention.qkv(x[case]).chunk(3, 1)
        heads = []
        for head in range(3):
            part = slice(4 * head, 4 * head + 4)
            raised = [torch.where(y > 0, y + 1, y.exp()) for y in (query[:, part], key[:, part])]
            weights = raised[0] @ raised[1].T
            heads.append(weights / weights.sum(1, keepdim=True) @ value[:, part])
        torch.testing.assert_close(found[case], attention.proj(torch.cat(heads, 1)))


@torch.no_grad()
def test_keys_far_below_zero_do_not_divide_by_zero() -> None:
    attention = LinearAttention(4, 1)
    attention.qkv.bias.fill_(-200.0)
    assert bool(torch.isfinite(attention(torch.randn(1, 3, 4))).all())


@pytest.mark.parametrize(("width", "heads"), [(384, 6), (768, 12), (1024, 16), (152, 2), (472, 4), (40, 1)])
def test_heads_divide_the_width(width: int, heads: int) -> None:
    assert head_count(width) == heads and width % heads == 0
