"""DDAD-ASR by its paper: what the ensembles learn, the discrepancies, the refinement, and the map."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from plain_resnet import vary_norms
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional

from medad_plugins.data import DrawnBesided
from medad_plugins.errors import InputError
from medad_plugins.methods.ddad_asr import DDADASR, ddad_ensembles, ddad_refinement

EDGE = 16


def _ddad(spatial_dims: int = 2, **others: Any) -> DDADASR:
    torch.manual_seed(0)
    small: dict[str, Any] = {
        "channels": (4, 6),
        "hidden_size": 8,
        "latent_size": 3,
        "members": 3,
        "width": 5,
        "items": 4,
    }
    network = DDADASR(spatial_dims, 1, EDGE, **small | {"unlabelled": True} | others)
    vary_norms(network)
    return network.eval()


def _scan(spatial_dims: int = 2, seed: int = 0) -> Tensor:
    return torch.rand(3, 1, *[EDGE] * spatial_dims, generator=torch.Generator().manual_seed(seed))


def _outputs(network: DDADASR, members: Any, image: Tensor) -> tuple[np.ndarray, np.ndarray, list[Tensor]]:
    """Of every member the rebuilt scan and its variance, intensities -1..1, and a memory's weights, layer by layer."""
    rebuilt, variances, weights = [], [], []
    for member in members:
        latent = member.bottleneck(member.encoder(2 * image - 1))
        if member.remembers:
            chances = torch.softmax(latent @ member.memory.items.T, 1)
            latent = chances @ member.memory.items
            weights.append(chances)
        both = member.decoder(member.expansion(latent))
        rebuilt.append(both[:, :1].numpy())
        variances.append(both[:, 1:].exp().numpy() if both.shape[1] == 2 else np.ones_like(rebuilt[-1]))
    return np.stack(rebuilt), np.stack(variances), weights


@pytest.mark.parametrize("kind", ["ae", "ae_u", "memae"])
@pytest.mark.parametrize("dims", [2, 3])
@torch.no_grad()
def test_discrepancies_and_maps(kind: str, dims: int) -> None:
    network, image = _ddad(dims, kind=kind), _scan(dims)
    own, variances, _ = _outputs(network, network.normal, image)
    other, _, _ = _outputs(network, network.mixed, image)
    variance, scaled = variances.mean(0), 2 * image.numpy() - 1
    assert float(variance.std()) > 1e-3 or kind != "ae_u"
    intra = own.std(0, ddof=1) / np.sqrt(variance)
    residual = (scaled - own.mean(0)) ** 2 / variance
    inter = np.abs(own.mean(0) - other.mean(0)) / np.sqrt(variance)
    for score, expected in (("intra", intra), ("residual", residual), ("inter", inter)):
        network.score = score
        np.testing.assert_allclose(network(image).numpy(), expected, rtol=1e-3, atol=1e-5)
    network.score = "refined"
    x = torch.from_numpy(np.concatenate([inter, intra], 1))
    convolve = functional.conv2d if dims == 2 else functional.conv3d
    layer: Any
    for number, layer in enumerate(network.refiner):
        x = convolve(x, layer.weight, layer.bias, padding=1) if number in (0, 3, 6) else layer(x)
    odds = torch.exp(x[:, 1:] - x[:, :1])
    torch.testing.assert_close(network(image), odds / (1 + odds), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(network(image[1:]), network(image)[1:], rtol=1e-3, atol=1e-5)


@torch.no_grad()
def test_what_is_compared_is_smoothed_before() -> None:
    network, image = _ddad(sigma=1.5), _scan()
    sharp, scaled = _outputs(network, network.normal, image)[0], 2 * image.numpy() - 1

    def smooth(values: np.ndarray) -> np.ndarray:
        axes = (values.ndim - 2, values.ndim - 1)
        return np.asarray(gaussian_filter(values, 1.5, mode="nearest", axes=axes))

    own = smooth(sharp)
    found = network.discrepancies(image)
    np.testing.assert_allclose(found[0].numpy(), own.std(0, ddof=1), rtol=1e-2, atol=1e-3)
    np.testing.assert_allclose(found[1].numpy(), (smooth(scaled) - own.mean(0)) ** 2, rtol=1e-2, atol=1e-3)
    both = torch.cat([_scan(), _scan(seed=1)], 1)
    torch.testing.assert_close(network.smoothed(both)[:, 1:], network.smoothed(both[:, 1:]))


@pytest.mark.parametrize("kind", ["ae", "ae_u", "memae"])
def test_each_ensemble_learns_its_own_scans(kind: str) -> None:
    network, clean, unlabelled = _ddad(kind=kind), _scan(), _scan(seed=1)
    terms = ddad_ensembles(network, {"image": _scan(seed=2), "target": (clean, torch.zeros_like(clean), unlabelled)})
    with torch.no_grad():
        for name, members, scans in (
            ("normal", network.normal, clean),
            ("mixed", network.mixed, torch.cat([clean, unlabelled])),
        ):
            rebuilt, variances, weights = _outputs(network, members, scans)
            error = (rebuilt - (2 * scans.numpy() - 1)) ** 2
            expected = (error / variances + np.log(variances)).mean((1, 2, 3, 4)).sum()
            entropies = [float(-(each * each.log()).sum(1).mean()) for each in weights]
            assert float(terms[name]) == pytest.approx(expected + 2e-4 * sum(entropies), rel=1e-4)
    (terms["normal"] + terms["mixed"]).backward()
    learning = {n.split(".")[0] for n, p in network.named_parameters() if p.grad is not None}
    assert learning == {"normal", "mixed"}


def test_the_refinement_learns_where_anomalies_are_and_nothing_else_does() -> None:
    network, mask = _ddad(), torch.zeros(3, 1, EDGE, EDGE)
    mask[0, :, 4:9, 4:12] = 1
    loss = ddad_refinement(network, {"image": _scan(), "target": (_scan(seed=1), mask)})["focal"]
    probability = network(_scan()).detach()
    right = torch.where(mask > 0, probability, 1 - probability)
    assert float(loss.detach()) == pytest.approx(float((-((1 - right) ** 2) * right.log()).mean()), rel=1e-3)
    loss.backward()
    assert {n.split(".")[0] for n, p in network.named_parameters() if p.grad is not None} == {"refiner"}


def test_without_unlabelled_scans_the_intra_discrepancy_is_refined_alone() -> None:
    network, clean = _ddad(unlabelled=False), _scan()
    assert len(network.mixed) == 0 and len(network.discrepancies(clean)) == 2
    assert set(ddad_ensembles(network, {"image": clean, "target": (clean, torch.zeros_like(clean))})) == {"normal"}
    first: Any = network.refiner[0]
    assert first.in_channels == 1 and network(clean).shape == clean.shape


def test_what_is_refused() -> None:
    for wrong in ({"kind": "vae"}, {"score": "best"}, {"members": 1}, {"score": "inter", "unlabelled": False}):
        with pytest.raises(InputError):
            _ddad(**wrong)
    one = _scan()[:1]
    with pytest.raises(InputError, match="batch_size"):
        ddad_ensembles(_ddad(), {"image": one, "target": (one, one, one)})


def test_members_disagree_where_a_scan_is_not_as_those_that_they_learnt() -> None:
    torch.manual_seed(0)
    base = functional.interpolate(torch.rand(1, 1, 4, 4), (EDGE, EDGE), mode="bilinear")
    scans = (base + 0.03 * torch.randn(24, 1, EDGE, EDGE)).clamp(0, 1)
    changed = scans[16:].clone()
    changed[:, :, 3:9, 5:11] = 1 - changed[:, :, 3:9, 5:11].round()
    network = DDADASR(2, 1, EDGE, (8, 16), 32, 4, members=3, width=8, score="residual")
    optimizer = torch.optim.Adam(network.normal.parameters(), 3e-3)
    network.train()
    for _ in range(60):
        optimizer.zero_grad()
        terms = ddad_ensembles(network, {"image": scans[:16], "target": (scans[:16], scans[:16])})
        terms["normal"].backward()
        optimizer.step()
    network.eval()
    with torch.no_grad():
        for score in ("residual", "intra"):
            network.score = score
            assert network(changed).mean((1, 2, 3)).mean() > 1.5 * network(scans[16:]).mean((1, 2, 3)).mean()


@pytest.mark.parametrize("kind", ["ae_u", "memae"])
def test_scripted_it_gives_the_same_map(kind: str) -> None:
    network, image = _ddad(kind=kind), _scan()
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.script(network)(image), network(image), rtol=1e-4, atol=1e-6)


def test_scans_are_drawn_beside_others_by_the_random_state() -> None:
    pool = [{"image": number, "label": 1} for number in range(5)]
    drawn = []
    for seed in (0, 0, 1):
        beside = DrawnBesided(pool)
        beside.set_random_state(seed)
        drawn.append([beside({"image": -1})["unlabelled"] for _ in range(20)])
    assert drawn[0] == drawn[1] != drawn[2] and set(drawn[0]) == set(range(5))
    assert beside({"image": -1, "label": 0}).keys() == {"image", "label", "unlabelled"}
    with pytest.raises(ValueError, match="no scan"):
        DrawnBesided([])
