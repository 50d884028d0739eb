"""The mixture of tokens as a method: its distances, its seed, and a spot that is unlike the normal."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from medad_plugins.methods.token_mixture import TokenMixtureAD


def _scans(*size: int, batch: int = 6, seed: int = 0) -> Tensor:
    return torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(seed))


def _fitted(scans: Tensor, seed: int = 0) -> TokenMixtureAD:
    torch.manual_seed(0)
    network = TokenMixtureAD(scans.dim() - 2, backbone="resnet10", components=8, passes=5, seed=seed, reduction="max")
    for batch in scans.split(4):
        network.collect(batch)
    network.fit()
    return network.eval()


@pytest.mark.parametrize("size", [(32, 48), (32, 32, 32)])
@torch.no_grad()
def test_the_score_is_the_distance_to_the_nearest_component(size: tuple[int, ...]) -> None:
    scans, image = _scans(*size), _scans(*size, batch=2, seed=1)
    network = _fitted(scans)
    tokens, _ = network.tokens.rows(image)
    means = functional.normalize(network.state_dict()["head.means"], dim=1)
    expected = torch.stack([(1 - tokens @ mean) for mean in means], 2).amin(2).amax(1)
    found = network(image)
    assert found.shape == image.shape
    torch.testing.assert_close(network.pool(found), expected, rtol=1e-3, atol=1e-6)


@torch.no_grad()
def test_the_seed_decides() -> None:
    scans, image = _scans(64, 64), _scans(64, 64, batch=2, seed=1)
    assert torch.equal(_fitted(scans)(image), _fitted(scans)(image))
    assert not torch.equal(_fitted(scans)(image), _fitted(scans, seed=1)(image))


@torch.no_grad()
def test_a_bright_spot_stands_out_where_it_is() -> None:
    base = _scans(64, 64, batch=1)
    network = _fitted((base + 0.05 * _scans(64, 64, batch=20, seed=1)).clamp(0, 1))
    image = (base + 0.05 * _scans(64, 64, batch=2, seed=2)).clamp(0, 1)
    image[1, :, 36:60, 4:28] = 1
    found = network(image)
    assert float(network.pool(found)[1]) > 1.5 * float(network.pool(found)[0])
    peak = int(found[1].argmax())
    assert 32 <= peak // 64 < 64 and 0 <= peak % 64 < 32
