"""The network after SALAD, by plain computation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from medad_plugins.errors import InputError
from medad_plugins.methods.salad import SALAD

SIZES = [(16, 24), (16, 8, 24)]


def _network(size: tuple[int, ...], **keys: object) -> SALAD:
    torch.manual_seed(0)
    network = SALAD(len(size), 2, size, width=4, widest=8, latent_size=6, norm="group", **keys)  # type: ignore[arg-type]
    with torch.no_grad():
        # DCGAN's start makes everything nearly nothing
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return network.eval()


def _scans(size: tuple[int, ...], cases: int = 5) -> Tensor:
    return torch.rand(cases, 2, *size, generator=torch.Generator().manual_seed(1))


def _code(network: SALAD, scans: Tensor) -> Tensor:
    """Latents of scans of -1..1, brought to mean 0 and variance 1 one by one."""
    latents = []
    for latent in network.encoder(scans):
        centred = latent - latent.mean()
        latents.append(centred / (centred.square().mean() + 1e-5).sqrt())
    return torch.stack(latents)


def _errors(network: SALAD, scans: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Residuals ``(B, *spatial)`` and squared latent differences, by the parts alone."""
    latent = _code(network, 2 * scans - 1)
    again = network.decoder(latent)
    second = _code(network, again)
    residual = ((again + 1) / 2 - scans).abs().double().numpy().mean(1)
    return residual, ((latent - second).double().numpy() ** 2).mean(1)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("reduction", ["mean", "max", 0.1])
@torch.no_grad()
def test_score_is_the_weighted_sum_of_both_standardised_errors(size: tuple[int, ...], reduction: str | float) -> None:
    network, normal, scans = _network(size, image_share=0.3, reduction=reduction), _scans(size, 8), _scans(size, 3)
    for part in normal.split(3):
        network.collect(part)
    network.fit()

    def pooled(residual: np.ndarray) -> np.ndarray:
        values = np.sort(residual.reshape(len(residual), -1), 1)[:, ::-1]
        count = {"mean": values.shape[1], "max": 1}.get(str(reduction), round(0.1 * values.shape[1]))
        return values[:, :count].mean(1)

    residual, gap = _errors(network, normal)
    means, deviations = (f(pooled(residual)) for f in (np.mean, np.std))
    found_residual, found_gap = _errors(network, scans)
    standardised = 0.3 * (pooled(found_residual) - means) / deviations + 0.7 * (found_gap - gap.mean()) / gap.std()
    anomaly_map = network(scans)
    scores = network.pool(anomaly_map).double().numpy()
    # the same but for a factor and a shift that all scans share
    shift = 0.3 * means + 0.7 * deviations * gap.mean() / gap.std()
    np.testing.assert_allclose((scores - shift) / deviations, standardised, rtol=2e-3, atol=2e-3)
    flat = (0.7 * deviations / gap.std() * found_gap).reshape([-1] + [1] * len(size))
    np.testing.assert_allclose(anomaly_map[:, 0].numpy(), 0.3 * found_residual + flat, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(torch.jit.script(network)(scans), anomaly_map)
    torch.testing.assert_close(network(scans[1:2]), anomaly_map[1:2], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_what_training_gives(size: tuple[int, ...]) -> None:
    network, scans, damaged = _network(size), _scans(size), 0.5 * _scans(size)
    restored, latent, second = network.training_output(torch.cat([scans, damaged], 1))
    torch.testing.assert_close(restored, network.reconstruct(damaged))
    torch.testing.assert_close(latent, network.embed(scans))
    torch.testing.assert_close(second, network.embed(network.reconstruct(scans)))


@torch.no_grad()
def test_before_it_is_fitted_errors_are_as_they_are() -> None:
    network, scans = _network((16, 16)), _scans((16, 16))
    residual, gap = _errors(network, scans)
    expected = 0.5 * residual + 0.5 * gap[:, None, None]
    np.testing.assert_allclose(network(scans)[:, 0].numpy(), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_centre_and_what_was_fitted_travel_in_the_state() -> None:
    network, other, scans = _network((16, 16)), SALAD(2, 2, 16, 4, 8, 6, "group").eval(), _scans((16, 16))
    network.set_centre(torch.arange(6.0).double())
    network.collect(scans)
    network.fit()
    other.load_state_dict(network.state_dict())
    assert torch.equal(other.centre, torch.arange(6.0)) and not list(
        filter(lambda p: p is other.centre, other.parameters())
    )
    torch.testing.assert_close(other(scans), network(scans))


def test_what_there_is_not() -> None:
    with pytest.raises(ValueError, match="image_share must lie in"):
        SALAD(image_share=1.5)
    with pytest.raises(InputError, match="too small to be halved"):
        SALAD(image_size=6)
    with pytest.raises(InputError, match="at least two normal scans"):
        _network((16, 16)).fit()
