"""The terms of the method after SALAD, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from medad_plugins.methods.salad import SALAD, SALADTerms


def _network(dims: int = 2) -> SALAD:
    torch.manual_seed(0)
    network = SALAD(dims, 1, 16, width=4, widest=8, latent_size=6, norm="group").double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    network.set_centre(torch.linspace(-1, 1, 6))
    return network.eval()


def _joined(dims: int = 2) -> Tensor:
    return torch.rand(3, 2, *[16] * dims, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def _code(network: SALAD, scans: Tensor) -> Tensor:
    """Latents of scans of -1..1, brought to mean 0 and variance 1 one by one."""
    latent = network.encoder(scans)
    centred = latent - latent.mean(1, keepdim=True)
    return centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()


def _similarity(one: np.ndarray, other: np.ndarray) -> float:
    """Mean structural similarity, zeros beyond the border, by another library's filter."""

    def smooth(image: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(image, 1.5, mode="constant", radius=5)

    means = smooth(one), smooth(other)
    variances = smooth(one**2) - means[0] ** 2 + smooth(other**2) - means[1] ** 2
    covariance = smooth(one * other) - means[0] * means[1]
    luminance = (2 * means[0] * means[1] + 1e-4) / (means[0] ** 2 + means[1] ** 2 + 1e-4)
    return float((luminance * (2 * covariance + 9e-4) / (variances + 9e-4)).mean())


@pytest.mark.parametrize("dims", [2, 3])
@torch.no_grad()
def test_terms(dims: int) -> None:
    network, joined = _network(dims), _joined(dims)
    found = SALADTerms()(network, {"image": joined})
    scan, damaged = joined[:, :1], joined[:, 1:]
    restored = ((network.decoder(_code(network, 2 * damaged - 1)) + 1) / 2).numpy()
    latent = _code(network, 2 * scan - 1)
    second = _code(network, network.decoder(latent)).numpy()
    pairs = zip(restored[:, 0], scan[:, 0].numpy(), strict=True)
    assert found["structure"].item() == pytest.approx(1 - np.mean([_similarity(a, b) for a, b in pairs]))
    assert found["residual"].item() == pytest.approx(np.abs(restored - scan.numpy()).mean())
    assert found["cycle"].item() == pytest.approx(((second - latent.numpy()) ** 2).mean())
    centre = np.linspace(-1, 1, 6)
    assert found["centre"].item() == pytest.approx(((latent.numpy() - centre) ** 2).mean(), rel=1e-6)
    assert found["spread"].item() == pytest.approx(latent.numpy().var(0).mean())


def test_before_images_are_learnt_latents_are_not_compared() -> None:
    network, joined = _network(), _joined()
    terms, alone = SALADTerms()(network, {"image": joined}), SALADTerms(latents=False)(network, {"image": joined})
    assert set(alone) == {"structure", "residual"} and set(terms) == {*alone, "cycle", "centre", "spread"}
    assert all(value.item() == pytest.approx(terms[name].item()) for name, value in alone.items())
    assert not terms["spread"].requires_grad


def test_who_learns_from_what() -> None:
    network, joined = _network(), _joined()
    for name, expected in (
        ("structure", {"encoder", "decoder"}),
        ("cycle", {"encoder", "decoder"}),
        ("centre", {"encoder"}),
    ):
        network.zero_grad()
        SALADTerms()(network, {"image": joined})[name].backward()
        trained = {n.split(".")[0] for n, p in network.named_parameters() if p.grad is not None and p.grad.any()}
        assert trained == expected, name


def test_cycle_teaches_both_codings() -> None:
    network, joined = _network(), _joined()
    weight = next(network.encoder.parameters())
    SALADTerms()(network, {"image": joined})["cycle"].backward()
    assert weight.grad is not None
    place, step, values = (0, 0, 1, 1), 1e-5, []
    with torch.no_grad():
        for sign in (1, -1):
            weight[place] += sign * step
            values.append(SALADTerms()(network, {"image": joined})["cycle"].item())
            weight[place] -= sign * step
    assert weight.grad[place].item() == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-4)


@torch.no_grad()
def test_similarity_is_not_computed_in_half_precision() -> None:
    network, joined = _network().float(), _joined().float()
    exact = SALADTerms()(network, {"image": joined})["structure"].item()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = SALADTerms()(network, {"image": joined})["structure"]
    assert found.dtype == torch.float32 and found.item() == pytest.approx(exact, abs=0.01)
