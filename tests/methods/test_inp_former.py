"""INP-Former by its paper: prototypes, decoder, loss, maps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from plain_resnet import varied_taps
from torch import Tensor
from torch.nn import functional

from medad_plugins.engines import StableAdamW
from medad_plugins.errors import InputError
from medad_plugins.losses import DistanceMinedCosineLoss
from medad_plugins.methods.inp_former import INPFormer, PrototypeLoss
from medad_plugins.methods.inp_former.prototypes import gather_distance
from medad_plugins.networks import TapCache


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("weights") / "resnet10.pth"
    torch.save(varied_taps("resnet10").state_dict(), path)
    return str(path)


def _scan(*size: int, batch: int = 2, seed: int = 0) -> Tensor:
    return torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(seed))


def _network(backbone: str = "resnet10", weights: str = "none", spatial_dims: int = 2, **others: Any) -> INPFormer:
    torch.manual_seed(0)
    network = INPFormer(spatial_dims, 1, backbone, weights, **{"sigma": 0.0, **others})
    # at their start blocks hardly do anything
    for part in (network.extractor, network.decoder):
        for parameter in part.parameters():
            parameter.data += 0.05 * torch.randn(parameter.shape)
    return network.eval()


def _norm(x: Tensor, layer: Any) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    unit: Tensor = centred / (centred.square().mean(-1, keepdim=True) + 1e-8).sqrt()
    return unit * layer.weight + layer.bias


def _linear(x: Tensor, layer: Any) -> Tensor:
    y: Tensor = x @ layer.weight.T + layer.bias
    return y


def _perceptron(x: Tensor, mlp: Any) -> Tensor:
    return _linear(functional.gelu(_linear(x, mlp.fc1)), mlp.fc2)


def _heads(x: Tensor, seen: Tensor, attn: Any, heads: int) -> list[tuple[Tensor, ...]]:
    key, value = _linear(seen, attn.kv).chunk(2, 1)
    return list(zip(*(y.chunk(heads, 1) for y in (_linear(x, attn.q), key, value)), strict=True))


def _prototypes(network: Any, tokens: Tensor) -> Tensor:
    """Of one scan's tokens ``(N, D)``, written out."""
    part = network.extractor
    x = part.queries
    attended = []
    for q, k, v in _heads(_norm(x, part.norm1), _norm(tokens, part.norm1), part.attn, network.heads):
        w = torch.exp(q @ k.T / q.shape[1] ** 0.5)
        attended.append(w / w.sum(1, keepdim=True) @ v)
    x = x + _linear(torch.cat(attended, 1), part.attn.proj)
    return x + _perceptron(_norm(x, part.norm2), part.mlp)


def _decoded(network: Any, tokens: Tensor, prototypes: Tensor) -> list[Tensor]:
    """Bottleneck and blocks of one scan's tokens ``(N, D)``, written out."""
    x, found = _perceptron(tokens, network.bottleneck), []
    for block in network.decoder:
        attended = []
        split = _heads(_norm(x, block.norm1), _norm(prototypes, block.norm1), block.attn, network.heads)
        for head, (q, k, v) in enumerate(split):
            cosines = (q / q.norm(dim=1, keepdim=True)) @ (k / k.norm(dim=1, keepdim=True)).T
            attended.append((cosines * block.scale[head]).clamp_min(0) @ v)
        x = _linear(torch.cat(attended, 1), block.attn.proj)
        x = x + _perceptron(_norm(x, block.norm2), block.mlp)
        found.append(x)
    return found


@torch.no_grad()
def test_tokens_are_rebuilt_from_the_scans_own_prototypes() -> None:
    network = _network("dinov2_vits14", layers=[0, 1, 2], depth=2).double()
    network.decoder[0].get_parameter("scale").data[1] = -0.7
    image = _scan(42, 56).double()
    blocks = [tap[1].flatten(1).T for tap in network.features(image)]
    tokens = torch.stack(blocks).mean(0)
    decoded = _decoded(network, tokens, _prototypes(network, tokens))
    pairs = [(decoded[1], blocks[0]), (decoded[0], (blocks[1] + blocks[2]) / 2)]
    distances = [1 - (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)) for a, b in pairs]
    grid_map = torch.stack(distances).mean(0).reshape(1, 1, 3, 4).float()
    expected = functional.interpolate(grid_map, (42, 56), mode="bilinear", align_corners=False)
    torch.testing.assert_close(network(image)[1:], expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("size", [(48, 64), (32, 48, 32)])
def test_the_distance_to_the_prototypes_is_a_map_too(weights: str, size: tuple[int, ...]) -> None:
    network = _network(weights=weights, spatial_dims=len(size), map_of="gathered", prototypes=3)
    image = _scan(*size)
    tokens, _ = network.groups(network.features(image))
    prototypes = _prototypes(network, tokens[1])
    assert prototypes.shape == (3, 384)
    distances = [
        min(1 - float(functional.cosine_similarity(token, prototype, 0)) for prototype in prototypes)
        for token in tokens[1]
    ]
    found = gather_distance(tokens, network.extractor(tokens))
    np.testing.assert_allclose(found[1], distances, rtol=1e-3, atol=1e-5)
    mode = "bilinear" if len(size) == 2 else "trilinear"
    grid_map = found.reshape(2, 1, *[edge // 16 for edge in size])
    expected = functional.interpolate(grid_map, size, mode=mode, align_corners=False)
    torch.testing.assert_close(network(image), expected, rtol=1e-4, atol=1e-5)


def test_the_loss_is_that_of_the_groups_and_a_share_of_the_distances(weights: str) -> None:
    network, image = _network(weights=weights).train(), _scan(48, 48)
    rebuilt, targets, distances = network.training_output(image)
    expected = 0.0
    for a, b in zip(rebuilt, targets, strict=True):
        cosines = [functional.cosine_similarity(x.flatten(), y.flatten(), 0) for x, y in zip(a, b, strict=True)]
        expected += (1 - float(sum(c.item() for c in cosines)) / 2) / 2
    expected += 0.3 * float(distances.detach().mean())
    assert float(PrototypeLoss(0.3)(network(image)).detach()) == pytest.approx(expected, rel=1e-4)


def test_all_but_the_backbone_learns_and_prototypes_by_the_distances(weights: str) -> None:
    network, image = _network(weights=weights).train(), _scan(48, 48)
    loss = PrototypeLoss()
    loss(network(image)).backward()
    for name, parameter in network.named_parameters():
        assert (parameter.grad is None) == name.startswith("features."), name
    both = network.extractor.queries.grad
    assert both is not None
    both = both.clone()
    network.zero_grad()
    rebuilt, targets, distances = network.training_output(image)
    DistanceMinedCosineLoss(3.0)((rebuilt, targets)).backward(retain_graph=True)
    (0.2 * distances.mean()).backward()
    torch.testing.assert_close(network.extractor.queries.grad, both)


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
    network = INPFormer(2, 1, "resnet10", weights, [1], depth=2, sigma=0.0)
    scans = _scan(64, 64, batch=4)
    scans[:, :, 16:48, 16:48] *= 0.2
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer, loss = StableAdamW(parameters, 0.002, amsgrad=True), PrototypeLoss()
    with torch.no_grad():
        before = network.eval()(scans)
        far = network.training_output(scans)[2].mean()
    network.train()
    for _ in range(40):
        optimizer.zero_grad()
        loss(network(scans)).backward()
        optimizer.step()
    changed = scans.clone()
    changed[:, :, 24:40, 24:40] = 1.0
    with torch.no_grad():
        after, odd = network.eval()(scans), network(changed)
        near = network.training_output(scans)[2].mean()
    assert float(after.mean()) < float(before.mean()) / 3 and float(near) < float(far) / 2
    rise = (odd - after)[:, 0]
    assert float(rise[:, 24:40, 24:40].mean()) > 2 * float(rise[:, :16].mean().abs())


@torch.no_grad()
@pytest.mark.parametrize("map_of", ["rebuilt", "gathered"])
def test_scripted_it_gives_the_same_map(map_of: str) -> None:
    network, image = _network(map_of=map_of), _scan(37, 50)
    torch.testing.assert_close(torch.jit.script(network)(image), network(image), rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_half_precision_is_near_and_a_map_of_float32(weights: str) -> None:
    for map_of in ("rebuilt", "gathered"):
        network, image = _network(weights=weights, map_of=map_of), _scan(64, 64)
        with torch.autocast("cpu", torch.bfloat16):
            half = network(image)
        assert half.dtype == torch.float32
        torch.testing.assert_close(half, network(image), rtol=0.05, atol=0.02)


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match=r"map_of one of \('rebuilt', 'gathered'\), got 6 and 'both'"):
        INPFormer(backbone="resnet10", weights="none", map_of="both")
    with pytest.raises(InputError, match="tokens are recentred by the class token"):
        INPFormer(backbone="resnet10", weights="none", recentre=True)
