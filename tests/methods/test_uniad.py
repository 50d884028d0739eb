"""UniAD by its paper: what is joined, what is trained, the map and the score."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from plain_resnet import varied_taps
from torch import Tensor
from torch.nn import functional

from medad_plugins.losses import ResidualLoss
from medad_plugins.methods.uniad import UniAD


def _uniad(spatial_dims: int = 2, image_size: int = 64, **settings: Any) -> UniAD:
    torch.manual_seed(0)
    values: dict[str, Any] = {"width": 16, "heads": 2, "hidden": 16, "encoder_layers": 1, "decoder_layers": 2}
    return UniAD(spatial_dims, 1, image_size, "resnet10", "none", **{**values, **settings})


def _scans(*size: int, batch: int = 2, seed: int = 0) -> Tensor:
    return torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", [(64, 64), (37, 50), (32, 32, 48)])
@torch.no_grad()
def test_the_map_is_the_distance_of_the_features(size: tuple[int, ...]) -> None:
    network = _uniad(len(size)).eval()
    image = _scans(*size)
    mode = "bilinear" if len(size) == 2 else "trilinear"
    taps = network.features(image)
    grid = [-(-edge // 16) for edge in size]
    joined = torch.cat([functional.interpolate(tap, grid, mode=mode, align_corners=True) for tap in taps], 1)
    assert joined.shape[1] == 64 + 128 + 256
    distance = (network.transformer(joined) - joined).norm(dim=1, keepdim=True)
    fine = functional.interpolate(distance, size, mode=mode, align_corners=True)
    found = network(image)
    assert found.shape == image.shape and found.dtype == torch.float32
    # the score is the highest mean over a window of a cell, and the map differs from the paper's by a factor
    pool = functional.avg_pool2d if len(size) == 2 else functional.avg_pool3d
    expected = pool(fine, 16, 1).flatten(1).amax(1)
    torch.testing.assert_close(network.pool(found), expected, rtol=1e-4, atol=1e-5)
    factor = (expected / fine.flatten(1).amax(1)).reshape([-1] + [1] * (fine.dim() - 1))
    torch.testing.assert_close(found, fine * factor, rtol=1e-4, atol=1e-4)


def test_the_loss_is_the_mean_squared_error_of_clean_features() -> None:
    network = _uniad(dropout=0.0, jitter=20.0).train()
    image = _scans(64, 64)
    torch.manual_seed(5)
    rebuilt, features = network(image)
    torch.manual_seed(5)
    noisy = network.transformer.jitter(features.flatten(2).transpose(1, 2))
    clean = network.align(network.features(image))
    assert torch.equal(features, clean), "what is to be rebuilt has no noise"
    assert float((noisy - clean.flatten(2).transpose(1, 2)).norm() / clean.norm()) == pytest.approx(
        20 / clean.shape[1] ** 0.5, rel=0.05
    )
    loss = ResidualLoss("l2")((rebuilt, features))
    torch.testing.assert_close(loss, (rebuilt - clean).square().mean())
    loss.backward()
    learning = {name.split(".")[0] for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert learning == {"transformer"} and not network.features.training


def test_what_makes_it_uniad() -> None:
    network = UniAD(2, 1, 224, "resnet18", "none")
    transformer = network.transformer
    assert transformer.layerwise and transformer.neighbourhood == 7
    assert transformer.jitter.scale == 20 and transformer.jitter.probability == 1
    assert [len(part) for part in (transformer.encoder, transformer.decoder, transformer.queries)] == [4, 4, 4]
    assert all(queries.queries.shape == (196, 256) for queries in transformer.queries)
    assert UniAD(2, 1, 224, weights="none").features.layers == [2, 4, 10]
    places, shared = network.place_parameters(), network.shared_parameters()
    assert len(places) == 2 + 4 and len(places) + len(shared) == len(list(transformer.parameters()))


@pytest.mark.costly
def test_it_learns_normal_features(tmp_path: Any) -> None:
    """Normal scans are alike; what another has in one place is not rebuilt there after a short training."""
    path = tmp_path / "resnet10.pth"
    torch.save(varied_taps("resnet10").state_dict(), path)
    torch.manual_seed(0)
    network = UniAD(
        2, 1, 64, "resnet10", str(path), scaling="standard", width=32, heads=2, hidden=32, encoder_layers=1,
        decoder_layers=2, neighbourhood=3, dropout=0.0,
    )  # fmt: skip
    base = _scans(64, 64, batch=1)
    normal = (base + 0.05 * torch.randn(12, 1, 64, 64)).clamp(0, 1)
    changed = normal[8:].clone()
    changed[:, :, 8:30, 34:56] = 1 - changed[:, :, 8:30, 34:56]

    def apart() -> float:
        network.eval()
        with torch.no_grad():
            return float(network.pool(network(changed)).min() / network.pool(network(normal[8:])).max())

    network.train()
    with torch.no_grad():
        network(normal[:8])
    before = apart()
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=2e-3)
    network.train()
    for _ in range(40):
        loss = ResidualLoss("l2")(network(normal[:8]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = apart()
    assert after > max(1.2, 1.2 * before), (before, after)
    with torch.no_grad():
        found = network(changed)
    assert float(found[:, :, 8:30, 34:56].mean()) > 1.3 * float(found[:, :, 34:, :24].mean())


def test_a_map_does_not_depend_on_batch_mates() -> None:
    network, image = _uniad(scaling="standard").eval(), _scans(64, 64, batch=3)
    with torch.no_grad():
        together = network(image)
        for i in range(3):
            torch.testing.assert_close(network(image[i : i + 1])[0], together[i], rtol=1e-4, atol=1e-5)


def test_scripted_it_gives_the_same_map() -> None:
    network, image = _uniad().eval(), _scans(64, 64)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.script(network)(image), network(image), rtol=1e-5, atol=1e-6)
