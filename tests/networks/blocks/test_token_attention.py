"""Attention and its layers against PyTorch's own, which compute the same without positions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from medad_plugins.networks.blocks.token_attention import DecoderLayer, EncoderLayer, TokenAttention, TokenDropout


def _tokens(batch: int, places: int, width: int = 12, seed: int = 0) -> Tensor:
    return torch.randn(batch, places, width, generator=torch.Generator().manual_seed(seed))


def _copy_attention(ours: TokenAttention, theirs: nn.MultiheadAttention) -> None:
    parts = [ours.query, ours.key, ours.value]
    theirs.in_proj_weight.data = torch.cat([part.weight.data for part in parts])
    theirs.in_proj_bias.data = torch.cat([part.bias.data for part in parts])
    theirs.out_proj.load_state_dict(ours.out.state_dict())


def _copy(ours: EncoderLayer | DecoderLayer, theirs: nn.Module) -> None:
    own: dict[str, nn.Module] = dict(ours.named_children())
    if isinstance(ours, EncoderLayer):
        _copy_attention(ours.attention, theirs.get_submodule("self_attn"))  # type: ignore[arg-type]
    else:
        _copy_attention(ours.attention1, theirs.get_submodule("self_attn"))  # type: ignore[arg-type]
        _copy_attention(ours.attention2, theirs.get_submodule("multihead_attn"))  # type: ignore[arg-type]
    for name in ("norm1", "norm2", "norm3"):
        if name in own:
            theirs.get_submodule(name).load_state_dict(own[name].state_dict())
    theirs.get_submodule("linear1").load_state_dict(ours.perceptron[0].state_dict())
    theirs.get_submodule("linear2").load_state_dict(ours.perceptron[3].state_dict())


def _varied(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(1)
    for parameter in module.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return module.eval()


@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_pytorchs(masked: bool) -> None:
    ours = TokenAttention(12, heads=3)
    _varied(ours)
    theirs = nn.MultiheadAttention(12, 3, batch_first=True).eval()
    _copy_attention(ours, theirs)
    query, key, value = _tokens(2, 5), _tokens(2, 7, seed=1), _tokens(2, 7, seed=2)
    hidden = torch.rand(5, 7, generator=torch.Generator().manual_seed(3)) < 0.4 if masked else None
    expected = theirs(query, key, value, attn_mask=hidden, need_weights=False)[0]
    torch.testing.assert_close(ours(query, key, value, hidden), expected, rtol=1e-4, atol=1e-5)


def test_what_is_hidden_has_no_part_in_the_answer() -> None:
    attention = TokenAttention(12, heads=3).eval()
    hidden = torch.zeros(4, 4, dtype=torch.bool)
    hidden[0, 2] = True
    tokens = _tokens(1, 4)
    other = tokens.clone()
    other[:, 2] += 5
    apart = (
        (attention(tokens, other, other, hidden) - attention(tokens, tokens, tokens, hidden))
        .detach()
        .abs()
        .amax((0, 2))
    )
    assert float(apart[0]) == 0 and float(apart[1:].min()) > 0


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_layers_are_pytorchs(activation: str) -> None:
    encoder = EncoderLayer(12, 3, 20, 0.0, activation)
    decoder = DecoderLayer(12, 3, 20, 0.0, activation)
    their_encoder = nn.TransformerEncoderLayer(12, 3, 20, 0.0, activation, batch_first=True).eval()
    their_decoder = nn.TransformerDecoderLayer(12, 3, 20, 0.0, activation, batch_first=True).eval()
    for ours, theirs in ((encoder, their_encoder), (decoder, their_decoder)):
        _varied(ours)
        _copy(ours, theirs)
    tokens, memory = _tokens(2, 5), _tokens(2, 7, seed=1)
    torch.testing.assert_close(encoder(tokens), their_encoder(tokens), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(decoder(tokens, tokens, memory), their_decoder(tokens, memory), rtol=1e-4, atol=1e-5)


def test_positions_reach_queries_and_keys_and_not_values() -> None:
    layer = EncoderLayer(12, 3, 20, 0.0).eval()
    tokens, positions = _tokens(2, 5), _tokens(1, 5, seed=4)[0]
    placed = tokens + positions
    between = layer.norm1(tokens + layer.attention(placed, placed, tokens))
    expected = layer.norm2(between + layer.perceptron(between))
    torch.testing.assert_close(layer(tokens, positions), expected)


def test_dropout_in_training_keeps_the_mean_and_drops_the_share() -> None:
    dropout = TokenDropout(0.25).train()
    torch.manual_seed(0)
    ones = dropout(torch.ones(4, 100, 50))
    assert float((ones == 0).float().mean()) == pytest.approx(0.25, abs=0.01)
    assert float(ones.mean()) == pytest.approx(1, abs=0.02)
    assert torch.equal(dropout.eval()(torch.ones(2, 3)), torch.ones(2, 3))


def test_attention_drops_in_training_what_pytorch_would() -> None:
    """Without a share to drop, the path of training is that of scoring."""
    attention = TokenAttention(12, heads=3, dropout=1e-12)
    tokens, hidden = _tokens(2, 6), torch.eye(6, dtype=torch.bool)
    trained = attention.train()(tokens, tokens, tokens, hidden)
    torch.testing.assert_close(trained, attention.eval()(tokens, tokens, tokens, hidden), rtol=1e-4, atol=1e-5)


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="the width must be a multiple of the heads, got 12 and 5"):
        TokenAttention(12, 5)
    with pytest.raises(ValueError, match="dropout must lie in 0..1 without 1, got 1.0"):
        TokenDropout(1.0)
    with pytest.raises(ValueError, match="activation must be one of"):
        EncoderLayer(12, 3, 20, 0.0, "tanh")
