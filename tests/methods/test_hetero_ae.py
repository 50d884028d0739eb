"""Hetero-AE: the attention to patches, the hybrid decoder, the loss and the map, each written out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from plain_resnet import varied_taps
from torch import Tensor
from torch.nn import functional

from medad_plugins.errors import InputError
from medad_plugins.methods.hetero_ae import FeatureSimilarityLoss, HeteroAE, HybridDecoder, PatchAttention


def _hetero(spatial_dims: int = 2, image_size: int = 64, weights: str = "none") -> HeteroAE:
    torch.manual_seed(0)
    return HeteroAE(spatial_dims, 1, image_size, "resnet10", weights, sigma=1.5)


def _scans(*size: int, batch: int = 2, seed: int = 0) -> Tensor:
    return torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_half_of_the_heads_asks_patches_of_each_size() -> None:
    torch.manual_seed(0)
    attention: Any = PatchAttention([4, 6], 8, heads=4, patches=(1, 2)).eval()
    x = torch.randn(2, 8, 4, 6)
    tokens = x.flatten(2).transpose(1, 2) + attention.positions([4, 6])
    queries = attention.query(tokens)
    answers = []
    for head in range(4):
        kind = head // 2
        own = slice(2 * (head % 2), 2 * (head % 2) + 2)
        # a patch is one product of all its values
        edge = kind + 1
        windows = functional.unfold(x, edge, stride=edge).transpose(1, 2)
        embed = attention.embed[kind]
        patches = windows @ embed.weight.flatten(1).T + embed.bias
        assert patches.shape == (2, 24 // edge**2, 8)
        keys, values = attention.key[kind](patches)[..., own], attention.value[kind](patches)[..., own]
        query = queries[..., 2 * head : 2 * head + 2]
        weights = torch.softmax(query @ keys.transpose(1, 2) / 2**0.5, 2)
        answers.append(weights @ values)
    tokens = tokens + attention.out(attention.norm1(torch.cat(answers, 2)))
    tokens = tokens + attention.perceptron(attention.norm2(tokens))
    torch.testing.assert_close(attention(x), tokens.transpose(1, 2).reshape(x.shape), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_the_decoder_mirrors_the_maps(spatial_dims: int) -> None:
    decoder = HybridDecoder([64] * spatial_dims, [64, 64, 128, 256], [4, 4, 8, 16]).eval()
    blocks: Any = decoder.blocks
    attentions = [block.far[1] for block in blocks]
    assert [attention.attend.heads * 2 for attention in attentions] == [8, 4, 2]
    assert [attention.patches for attention in attentions] == [[1, 2], [2, 4], [4, 8]]
    assert [attention.share * 2 for attention in attentions] == [128, 64, 32]
    sizes = [[16] * spatial_dims, [15] * spatial_dims, [8] * spatial_dims]
    maps = decoder(torch.rand([1, 256] + [4] * spatial_dims), sizes)
    assert [list(each.shape[2:]) for each in maps] == sizes and [each.shape[1] for each in maps] == [64, 64, 128]


@pytest.mark.parametrize("size", [(64, 64), (37, 50), (32, 32, 32)])
@torch.no_grad()
def test_the_map_is_the_sum_of_the_cosine_distances(size: tuple[int, ...]) -> None:
    network = _hetero(len(size)).eval()
    image = _scans(*size)
    taps = network.features(image)
    assert network.features.layers == [0, 1, 2, 3]
    rebuilt = network.decoder(taps[-1], [list(tap.shape[2:]) for tap in taps[:-1]])
    mode = "bilinear" if len(size) == 2 else "trilinear"
    expected = torch.zeros_like(image)
    for one, other in zip(rebuilt, taps[:-1], strict=True):
        distance = 1 - (functional.normalize(one, dim=1) * functional.normalize(other, dim=1)).sum(1, keepdim=True)
        expected += functional.interpolate(distance, size, mode=mode, align_corners=False)
    expected = network.fusion.to_image.smoothing(expected)
    found = network(image)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(network.pool(found), expected.flatten(1).amax(1), rtol=1e-4, atol=1e-4)


def test_the_loss_weighs_cosine_and_squared_error() -> None:
    torch.manual_seed(0)
    rebuilt = [torch.randn(2, 3, 4, 4, requires_grad=True), torch.randn(2, 5, 2, 2, requires_grad=True)]
    true = [torch.randn(2, 3, 4, 4, requires_grad=True), torch.randn(2, 5, 2, 2, requires_grad=True)]
    expected = torch.zeros(())
    for one, other in zip(rebuilt, true):
        cosine = (one * other).sum(1) / (one.norm(dim=1) * other.norm(dim=1))
        expected = expected + (0.7 * (1 - cosine) + 0.3 * (one - other).square().mean(1)).mean()
    loss = FeatureSimilarityLoss(0.7)((rebuilt, true))
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert all(each.grad is not None for each in rebuilt) and all(each.grad is None for each in true)
    with pytest.raises(ValueError, match="cosine_share must lie in 0..1, got 1.5"):
        FeatureSimilarityLoss(1.5)


@pytest.mark.costly
def test_it_learns_normal_features(tmp_path: Path) -> None:
    """What one scan has in one place, and no normal one, is rebuilt worse after a short training."""
    path = tmp_path / "resnet10.pth"
    torch.save(varied_taps("resnet10").state_dict(), path)
    network = _hetero(weights=str(path))
    base = functional.interpolate(torch.rand(1, 1, 8, 8), (64, 64), mode="bilinear", align_corners=False)
    normal = (base + 0.02 * torch.randn(12, 1, 64, 64)).clamp(0, 1)
    changed = normal[8:].clone()
    changed[:, :, 8:30, 34:56] = 1 - changed[:, :, 8:30, 34:56]

    def apart() -> float:
        network.eval()
        with torch.no_grad():
            found, usual = (network(image)[:, :, 8:30, 34:56].mean((1, 2, 3)) for image in (changed, normal[8:]))
            return float(found.min() / usual.max())

    before = apart()
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=2e-3)
    network.train()
    for _ in range(30):
        loss = FeatureSimilarityLoss()(network(normal[:8]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert not network.features.training
    after = apart()
    assert after > max(1.1, 1.1 * before), (before, after)


def test_a_map_does_not_depend_on_batch_mates_and_can_be_scripted() -> None:
    network, image = _hetero().eval(), _scans(64, 64, batch=3)
    with torch.no_grad():
        together = network(image)
        for i in range(3):
            torch.testing.assert_close(network(image[i : i + 1])[0], together[i], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(torch.jit.script(network)(image), together, rtol=1e-5, atol=1e-6)


def test_wrong_arguments() -> None:
    with pytest.raises(InputError, match=r"one feature map is decoded to others: layers .*found \[8\].*\[2,5,8\]"):
        HeteroAE(2, 1, 224, "dinov2_vits14", "none")
    with pytest.raises(ValueError, match="the heads must be even and divide the width, got 3 and 8"):
        PatchAttention([4, 4], 8, 3, (1, 2))
    with pytest.raises(ValueError, match="channels and strides must be those of two maps or more"):
        HybridDecoder([64, 64], [64], [4])
