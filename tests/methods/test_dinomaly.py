"""Dinomaly by its paper: bottleneck, decoder, groups, map and score."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from plain_resnet import varied_taps
from torch import Tensor
from torch.nn import functional

from medad_plugins.engines import StableAdamW
from medad_plugins.errors import InputError
from medad_plugins.losses import ShareMinedCosineLoss
from medad_plugins.methods.dinomaly import Dinomaly
from medad_plugins.networks import TapCache
from medad_plugins.networks.families.token_reconstruction import rebuilt_layers
from medad_plugins.scorers.smoothing import GaussianSmoothing


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("weights") / "resnet10.pth"
    torch.save(varied_taps("resnet10").state_dict(), path)
    return str(path)


def _scan(*size: int, batch: int = 2, seed: int = 0) -> Tensor:
    return torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(seed))


def _network(backbone: str = "resnet10", weights: str = "none", spatial_dims: int = 2, **others: Any) -> Dinomaly:
    torch.manual_seed(0)
    network = Dinomaly(spatial_dims, 1, backbone, weights, **{"sigma": 0.0, **others})
    # at its start the decoder hardly does anything
    for parameter in network.decoder.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape)
    return network.eval()


def _norm(x: Tensor, layer: Any) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    unit: Tensor = centred / (centred.square().mean(-1, keepdim=True) + 1e-8).sqrt()
    return unit * layer.weight + layer.bias


def _linear(x: Tensor, layer: Any) -> Tensor:
    y: Tensor = x @ layer.weight.T + layer.bias
    return y


def _decoded(network: Any, tokens: Tensor) -> list[Tensor]:
    """Bottleneck and blocks of one scan's tokens ``(N, D)``, written out."""
    gelu = functional.gelu
    x = _linear(gelu(_linear(tokens, network.bottleneck.fc1)), network.bottleneck.fc2)
    found = []
    for block in network.decoder:
        query, key, value = _linear(_norm(x, block.norm1), block.attn.qkv).chunk(3, 1)
        heads = []
        parts = (y.chunk(network.heads, 1) for y in (query, key, value))
        for q, k, v in zip(*parts, strict=True):
            w = (functional.elu(q) + 1) @ (functional.elu(k) + 1).T
            heads.append(w / w.sum(1, keepdim=True) @ v)
        x = x + _linear(torch.cat(heads, 1), block.attn.proj)
        x = x + _linear(gelu(_linear(_norm(x, block.norm2), block.mlp.fc1)), block.mlp.fc2)
        found.append(x)
    return found


@torch.no_grad()
def test_the_map_is_the_mean_over_two_groups_of_a_transformers_blocks() -> None:
    network = _network("dinov2_vits14", layers=[0, 1, 2, 3], sigma=1.5).double()
    image = _scan(42, 56).double()
    taps = network.features(image)
    found = network(image)
    maps = []
    for case in range(2):
        blocks = [tap[case].flatten(1).T for tap in taps]
        decoded = _decoded(network, torch.stack(blocks).mean(0))
        pairs = [
            ((decoded[2] + decoded[3]) / 2, (blocks[0] + blocks[1]) / 2),
            ((decoded[0] + decoded[1]) / 2, (blocks[2] + blocks[3]) / 2),
        ]
        distances = [1 - (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)) for a, b in pairs]
        maps.append(torch.stack(distances).mean(0).reshape(1, 3, 4))
    expected = functional.interpolate(torch.stack(maps).float(), (42, 56), mode="bilinear", align_corners=False)
    expected = GaussianSmoothing(2, 1.5)(expected)
    assert found.shape == image.shape and found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    highest = expected.flatten(1).topk(24).values  # 1 % of 2,352
    torch.testing.assert_close(network.pool(found), highest.mean(1), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_volumes_by_a_convolutional_network(weights: str) -> None:
    network, image = _network(weights=weights, spatial_dims=3), _scan(32, 48, 32)
    rebuilt, targets = network.rebuild(network.features(image))
    assert [tuple(target.shape) for target in targets] == [(2, 128, 2, 3, 2), (2, 256, 2, 3, 2)]
    taps = network.features(image)
    fine = functional.interpolate(taps[0], (2, 3, 2), mode="trilinear", align_corners=False)
    tokens = torch.cat([fine, taps[1]], 1).flatten(2).mT
    decoded = _decoded(network, tokens[1])
    torch.testing.assert_close(rebuilt[0][1].flatten(1).T, (decoded[2] + decoded[3])[:, :128] / 2, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(rebuilt[1][1].flatten(1).T, (decoded[0] + decoded[1])[:, 128:] / 2, rtol=1e-3, atol=1e-4)
    assert network(image).shape == image.shape


def test_the_backbone_is_frozen_and_the_rest_learns_with_noise(weights: str) -> None:
    network, image = _network(weights=weights).train(), _scan(48, 48)
    with torch.no_grad():
        one, two = network(image), network(image)
    assert not torch.equal(one[0][0], two[0][0]), "dropout"
    assert torch.equal(one[1][0], two[1][0]), "the same targets"
    ShareMinedCosineLoss()(network(image)).backward()
    for name, parameter in network.named_parameters():
        assert (parameter.grad is None) == name.startswith("features."), name


@torch.no_grad()
def test_features_of_training_scans_are_computed_once(weights: str) -> None:
    network, image = _network(weights=weights).train(), _scan(48, 48)
    cache = network.features.cache = TapCache(2)
    cache.current = ["one", "other"]
    first, second = network.training_output(image), network.training_output(image)
    assert (cache.computed, cache.given) == (2, 2)
    torch.testing.assert_close(second[1], first[1], rtol=1e-2, atol=1e-3)
    network.eval()(image)
    assert cache.given == 2, "scans to be judged are not looked up"


@pytest.mark.costly
def test_it_learns_to_rebuild_what_it_is_shown(weights: str) -> None:
    torch.manual_seed(0)
    network = Dinomaly(2, 1, "resnet10", weights, [1], depth=2, dropout=0.1, sigma=0.0)
    scans = _scan(64, 64, batch=4)
    scans[:, :, 16:48, 16:48] *= 0.2
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer, loss = StableAdamW(parameters, 0.002, amsgrad=True), ShareMinedCosineLoss(0.5)
    with torch.no_grad():
        before = network.eval()(scans)
    network.train()
    for _ in range(40):
        optimizer.zero_grad()
        loss(network(scans)).backward()
        optimizer.step()
    changed = scans.clone()
    changed[:, :, 24:40, 24:40] = 1.0
    with torch.no_grad():
        after, odd = network.eval()(scans), network(changed)
    assert float(after.mean()) < float(before.mean()) / 3
    rise = (odd - after)[:, 0]
    assert float(rise[:, 24:40, 24:40].mean()) > 2 * float(rise[:, :16].mean().abs())


@torch.no_grad()
def test_recentred_tokens_are_those_minus_the_class_token() -> None:
    plain = _network("dinov2_vits14", layers=[0, 1])
    network = _network("dinov2_vits14", layers=[0, 1], recentre=True)
    network.load_state_dict(plain.state_dict())
    image = _scan(28, 42)
    maps, tokens = plain.features.with_class_tokens(image)  # type: ignore[operator]
    centred = [one - token.reshape(2, 384, 1, 1) for one, token in zip(maps, tokens, strict=True)]
    torch.testing.assert_close(network.features(image), centred)
    torch.testing.assert_close(network(image), plain.fusion(*plain.rebuild(centred), image.shape[2:]))
    with pytest.raises(InputError, match="class token, and this backbone has none: resnet10 "):
        Dinomaly(backbone="resnet10", weights="none", recentre=True)


@torch.no_grad()
@pytest.mark.parametrize(("backbone", "recentre"), [("resnet10", False), ("dinov2_vits14", True)])
def test_scripted_it_gives_the_same_map(backbone: str, recentre: bool) -> None:
    network, image = _network(backbone, layers=[1, 2], recentre=recentre), _scan(37, 50)
    torch.testing.assert_close(torch.jit.script(network)(image), network(image), rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_half_precision_is_near_and_a_map_of_float32(weights: str) -> None:
    network, image = _network(weights=weights), _scan(64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        half = network(image)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, network(image), rtol=0.05, atol=0.02)


def test_layers_of_each_kind_of_backbone(tmp_path: Path) -> None:
    assert rebuilt_layers("dinov2_vitb14_reg") == [7, 8]
    assert rebuilt_layers("dinov2_vitl14") == [16, 17]
    assert rebuilt_layers("efficientnet_lite0") == [4, 10]
    assert rebuilt_layers("resnet18") == [2, 3]
    with pytest.raises(InputError, match="volumes slice by slice"):
        Dinomaly(3, 1, "dinov2_vits14", "none")
