"""The noise on features in training: its size, and when there is none."""

from __future__ import annotations

import pytest
import torch

from medad_plugins.networks.blocks.feature_jitter import FeatureJitter


def test_the_noise_of_a_token_is_as_large_as_its_length() -> None:
    torch.manual_seed(0)
    tokens = torch.randn(2, 3, 4000) * torch.tensor([1.0, 2.0, 4.0])[:, None]
    noise = FeatureJitter(20.0).train()(tokens) - tokens
    expected = tokens.norm(dim=2) / 4000 * 20
    torch.testing.assert_close(noise.std(2), expected, rtol=0.05, atol=0)
    assert float(noise.mean(2).abs().max()) < 0.1 * float(expected.max())


def test_batches_are_changed_with_the_probability() -> None:
    torch.manual_seed(0)
    tokens, jitter = torch.ones(1, 2, 3), FeatureJitter(5.0, probability=0.3).train()
    changed = [not torch.equal(jitter(tokens), tokens) for _ in range(400)]
    assert sum(changed) / 400 == pytest.approx(0.3, abs=0.07)


def test_without_training_or_size_there_is_none() -> None:
    tokens = torch.ones(1, 2, 3)
    assert torch.equal(FeatureJitter(20.0).eval()(tokens), tokens)
    assert torch.equal(FeatureJitter(0.0).train()(tokens), tokens)


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="jitter must not be negative and its probability lie in 0..1"):
        FeatureJitter(-1.0)
