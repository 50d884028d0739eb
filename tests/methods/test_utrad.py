"""UTRAD by its paper: blocks of tokens, the way down and up, the predicted error, the map and the loss."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from plain_resnet import varied_taps
from torch import Tensor
from torch.nn import functional

from medad_plugins.methods.utrad import (
    UTRAD,
    BlockMeans,
    UTRADLoss,
    UTransformer,
    into_blocks,
    level_blocks,
    out_of_blocks,
)


def _utrad(spatial_dims: int = 2, image_size: int = 64, weights: str = "none", **settings: Any) -> UTRAD:
    torch.manual_seed(0)
    values: dict[str, Any] = {"width": 16, "heads": 2, "hidden": 16, "depth": 1, "dropout": 0.0}
    return UTRAD(spatial_dims, 1, image_size, "resnet10", weights, [1, 2, 3], **{**values, **settings})


def _scans(*size: int, batch: int = 2, seed: int = 0) -> Tensor:
    return torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("grid", "blocks"),
    [([64, 64], [4, 4, 4]), ([32, 32], [4, 4, 2]), ([14, 16], [4, 4]), ([5, 5, 5], [4, 2]), ([1, 1], [2])],
)
def test_levels_go_down_to_one_token(grid: list[int], blocks: list[int]) -> None:
    assert level_blocks(grid) == blocks


@pytest.mark.parametrize("grid", [(4, 6), (2, 4, 4)])
def test_blocks_hold_neighbours(grid: tuple[int, ...]) -> None:
    x = torch.rand(2, *grid, 3)
    blocks = into_blocks(x, 2)
    starts = itertools.product(range(2), *(range(0, edge, 2) for edge in grid))
    for block, (case, *start) in zip(blocks, starts, strict=True):
        part = x[case]
        for axis, first in enumerate(start):
            part = part.narrow(axis, first, 2)
        assert torch.equal(block, part.flatten(0, -2))
    assert torch.equal(out_of_blocks(blocks, 2, list(grid)), x)


@torch.no_grad()
def test_down_and_up_are_what_is_written_out() -> None:
    torch.manual_seed(0)
    network: Any = UTransformer([8, 8], 5, width=8, heads=2, hidden=8, layers=2, dropout=0.0).eval()
    assert network.sizes == [4, 2]
    features = torch.randn(1, 5, 8, 8)
    x = features[0].permute(1, 2, 0) @ network.inwards.weight.T + network.positions.queries.reshape(8, 8, 8)
    passed, latent = {}, torch.empty(2, 2, 8)
    low, high = network.down
    for i, j in itertools.product(range(2), range(2)):
        block = x[4 * i : 4 * i + 4, 4 * j : 4 * j + 4].reshape(1, 16, 8) + low.positions.queries
        tokens = torch.cat([torch.zeros(1, 1, 8), block], 1)
        for layer in low.layers:
            tokens = layer(tokens)
        tokens = network.encoder_norm(tokens)
        latent[i, j], passed[i, j] = tokens[0, 0], low.bottleneck(tokens[:, 1:])
    tokens = torch.cat([torch.zeros(1, 1, 8), latent.reshape(1, 4, 8) + high.positions.queries], 1)
    for layer in high.layers:
        tokens = layer(tokens)
    tokens = network.encoder_norm(tokens)
    # the way up, from one token
    memory = torch.cat([tokens[:, :1], high.bottleneck(tokens[:, 1:])], 1)
    first, second = network.up
    x = first.queries.queries[None]
    for layer in first.layers:
        x = layer(x, x, memory)
    coarse = network.decoder_norm(x).reshape(2, 2, 8)
    expected = torch.empty(8, 8, 8)
    for i, j in itertools.product(range(2), range(2)):
        memory = torch.cat([coarse[i, j].reshape(1, 1, 8), passed[i, j]], 1)
        x = second.queries.queries[None]
        for layer in second.layers:
            x = layer(x, x, memory)
        expected[4 * i : 4 * i + 4, 4 * j : 4 * j + 4] = network.decoder_norm(x).reshape(4, 4, 8)
    rebuilt, tokens = network(features)
    torch.testing.assert_close(tokens[0], expected.permute(2, 0, 1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        rebuilt[0], (expected @ network.outwards.weight.T).permute(2, 0, 1), rtol=1e-4, atol=1e-5
    )


def test_block_means_are_the_mean_over_windows() -> None:
    x = torch.rand(2, 1, 8, 8)
    expected = torch.stack(
        [
            functional.interpolate(functional.avg_pool2d(x, edge), (8, 8), mode="bilinear", align_corners=False)
            for edge in (1, 4, 8)
        ]
    ).mean(0)
    torch.testing.assert_close(BlockMeans(2, [4, 2])(x), expected)


@pytest.mark.parametrize("size", [(64, 64), (37, 50), (32, 32, 24)])
@torch.no_grad()
def test_the_map_is_the_error_over_the_predicted_one(size: tuple[int, ...]) -> None:
    network = _utrad(len(size), size[0], floor=0.25, scaling="none").eval()
    image = _scans(*size)
    taps = network.features(image)
    grid = list(taps[0].shape[2:])
    joined = torch.cat([functional.interpolate(tap, grid, mode="nearest") for tap in taps], 1)
    whole = [-(-edge // network.transformer.multiple) * network.transformer.multiple for edge in grid]
    for axis, edge in enumerate(whole):
        last = joined.narrow(2 + axis, joined.shape[2 + axis] - 1, 1)
        repeats = [last] * (edge - joined.shape[2 + axis])
        joined = torch.cat([joined, *repeats], 2 + axis)
    rebuilt, tokens = network.transformer(joined)
    error = (rebuilt - joined).square().mean(1, keepdim=True).sqrt()
    relative = error / network.scale(tokens).abs().clamp_min(0.25)
    means = network.means(relative)[(slice(None), slice(None), *(slice(0, edge) for edge in grid))]
    mode = "bilinear" if len(size) == 2 else "trilinear"
    expected = functional.interpolate(means, size, mode=mode, align_corners=False)
    found = network(image)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert found.shape == image.shape and found.dtype == torch.float32
    torch.testing.assert_close(network.pool(found), expected.flatten(1).amax(1), rtol=1e-4, atol=1e-5)


def test_the_loss_and_what_its_terms_reach() -> None:
    network = _utrad().train()
    rebuilt, features, scale = network(_scans(64, 64))
    error = (rebuilt - features).square().mean(1, keepdim=True).sqrt()
    loss = UTRADLoss()((rebuilt, features, scale))
    torch.testing.assert_close(loss, (rebuilt - features).square().mean() + (scale - error).square().mean())
    (scale - error.detach()).square().mean().backward()
    reached = {name.split(".")[0] for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert reached == {"scale"}, "the predicted error teaches nothing else"
    UTRADLoss()(network(_scans(64, 64))).backward()
    reached = {name.split(".")[0] for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert reached == {"scale", "transformer"} and not network.features.training


@pytest.mark.costly
def test_it_learns_normal_features(tmp_path: Any) -> None:
    """What one scan has in one place, and no normal one, is rebuilt worse after a short training."""
    path = tmp_path / "resnet10.pth"
    torch.save(varied_taps("resnet10").state_dict(), path)
    network = _utrad(weights=str(path), width=32, hidden=32)
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
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=3e-3, betas=(0.5, 0.999))
    network.train()
    for _ in range(60):
        loss = UTRADLoss()(network(normal[:8]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = apart()
    assert after > max(1.1, 1.1 * before), (before, after)


def test_a_map_does_not_depend_on_batch_mates_and_can_be_scripted() -> None:
    network, image = _utrad().eval(), _scans(64, 64, batch=3)
    with torch.no_grad():
        together = network(image)
        for i in range(3):
            torch.testing.assert_close(network(image[i : i + 1])[0], together[i], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(torch.jit.script(network)(image), together, rtol=1e-5, atol=1e-6)


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="floor must be positive, got 0"):
        _utrad(floor=0)
    with pytest.raises(ValueError, match="layers must be at least 1, got 0"):
        _utrad(depth=0)
