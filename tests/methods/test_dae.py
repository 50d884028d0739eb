"""DAE by its paper: noise in the body alone, none when a scan is judged, error in the eroded body, median filter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.errors import InputError
from medad_plugins.losses import ResidualLoss
from medad_plugins.methods.dae import DAE


def _dae(spatial_dims: int = 2, **others: Any) -> DAE:
    torch.manual_seed(0)
    network = DAE(spatial_dims, others.pop("in_channels", 1), width=8, **others)
    nn.init.normal_(network.unet.final_conv.weight, std=0.1)  # it begins at zero, where nothing would show
    return network


def _head(*size: int, channels: int = 1, batch: int = 2) -> Tensor:
    """Scans whose background is exactly zero."""
    image = 0.2 + 0.6 * torch.rand(batch, channels, *size, generator=torch.Generator().manual_seed(0))
    body = torch.zeros(size)
    body[tuple(slice(edge // 6, edge - edge // 6) for edge in size)] = 1
    return image * body


@pytest.mark.parametrize(("size", "channels"), [((32, 44), 2), ((20, 24, 16), 1)])
def test_map_by_plain_computation(size: tuple[int, ...], channels: int) -> None:
    network, image = _dae(len(size), in_channels=channels, median=3).eval(), _head(*size, channels=channels)
    with torch.no_grad():
        found = network(image)
        restored = image + network.unet(image)
    for one, clean, anomaly_map in zip(image.numpy(), restored.numpy(), found.numpy(), strict=True):
        share = ndimage.uniform_filter((one.sum(0) > 0.01).astype(float), 5, mode="nearest")
        error = np.abs(one - clean).mean(0) * (share > 0.95)
        expected = ndimage.median_filter(error.astype(np.float32), 3, mode="nearest")
        np.testing.assert_allclose(anomaly_map[0], expected, rtol=1e-4, atol=1e-6)
    assert found.dtype == torch.float32 and float(found.max()) > 0
    assert float(found[0, 0, :3].abs().max()) == 0, "nothing is said about the background"


def test_noise_is_coarse_and_stays_in_the_body() -> None:
    network, image = _dae(), _head(128, 128, batch=8)
    torch.manual_seed(0)
    added = network.noised(image) - image
    assert float(added[image == 0].abs().max()) == 0
    inside = added[:, :, 30:98, 30:98]
    # between the grid's points, 8 pixels apart, it is interpolated: neighbours are alike, and nothing is centred anew
    assert 0.08 < float(inside.std()) < 0.2 and abs(float(inside.mean())) < 0.03
    assert float(inside.diff(dim=-1).std()) < 0.35 * float(inside.std())
    assert not torch.equal(added[0], added[1])
    fine = _dae(noise_points=64)
    assert float((fine.noised(image) - image)[:, :, 30:98, 30:98].diff(dim=-1).std()) > 0.5 * float(inside.std())


def test_loss_is_of_the_clean_scan_in_the_body() -> None:
    network, image = _dae(), _head(32, 32)
    network.train()
    torch.manual_seed(3)
    output = network(image)
    torch.manual_seed(3)
    noised = network.noised(image)
    body = (image.sum(1, keepdim=True) > 0.01).float()
    expected = (body * (noised + network.unet(noised) - image).square()).mean()
    loss = ResidualLoss("l2")(output)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_too_small_scans_and_wrong_widths_are_refused() -> None:
    with pytest.raises(InputError, match="too small"):
        _dae().eval()(torch.rand(1, 1, 32, 8))
    with pytest.raises(InputError, match="no such width"):
        DAE(width=12)


@pytest.mark.costly
def test_it_learns_to_take_away_what_is_too_bright() -> None:
    torch.manual_seed(0)
    network = DAE(2, 1, width=8, noise_deviation=0.4, erosion=1)
    texture = functional.interpolate(torch.rand(1, 1, 6, 6), (32, 32), mode="bilinear")
    normal = (0.3 + 0.2 * texture + 0.02 * torch.randn(10, 1, 32, 32)).clamp(0.05, 1)
    changed = normal[8:].clone()
    changed[:, :, 8:16, 16:24] += 0.4

    def apart() -> float:
        network.eval()
        with torch.no_grad():
            found = network(changed)
        return float(found[:, :, 8:16, 16:24].mean() / found[:, :, 20:].mean())

    assert float(network.eval()(changed).detach().max()) == 0, "it begins with taking nothing off"
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    network.train()
    for _ in range(60):
        optimizer.zero_grad()
        ResidualLoss("l2")(network(normal[:8])).backward()
        optimizer.step()
    assert apart() > 3


def test_scripted_it_gives_the_same_map() -> None:
    network, image = _dae().eval(), _head(32, 36)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.script(network)(image), network(image), rtol=1e-5, atol=1e-6)
