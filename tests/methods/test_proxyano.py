"""ProxyAno against plain computations: which network learns what, and what that finds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from short_trainings import auroc_of_scans
from torch import Tensor

from medad_plugins.methods.proxyano import ProxyAno, ProxyTerms
from medad_plugins.networks.blocks.superpixels import Superpixels

SIZES = [(16, 24), (16, 8, 16)]


def _network(size: tuple[int, ...]) -> ProxyAno:
    torch.manual_seed(0)
    return ProxyAno(len(size), 1, size, (4, 8), 6, 10, 0.1, features=(4, 8))


def _scans(*size: int, seed: int = 0) -> Tensor:
    return torch.rand(3, 1, *size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_map_is_the_residual_of_what_is_painted_into_pieces(size: tuple[int, ...]) -> None:
    network, scans = _network(size).eval(), _scans(*size)
    answers, _ = network.memory(network.bottleneck(network.encoder(2 * scans - 1)))
    pieces = (network.decoder(network.expansion(answers)) + 1) / 2
    anomaly_map = network(scans)
    torch.testing.assert_close(anomaly_map, (network.painter(pieces) - scans).abs())
    torch.testing.assert_close(network.pool(anomaly_map), anomaly_map.flatten(1).mean(1))
    torch.testing.assert_close(torch.jit.script(network)(scans), anomaly_map)


@pytest.mark.parametrize("size", SIZES)
def test_terms_are_of_clean_scans_whatever_is_pasted(size: tuple[int, ...]) -> None:
    network, clean, superpixels = _network(size).eval(), _scans(*size), Superpixels(4)
    mask = torch.zeros_like(clean)
    mask[0, :, 2:7, 1:5] = 1
    image = torch.where(mask > 0, 0.9, clean)
    terms = ProxyTerms(superpixels)(network, {"image": image, "target": (clean, mask)})
    with torch.no_grad():
        pieces, weights = network.proxy(clean)
        simple = superpixels(clean)
        pasted = simple.clone()
        pasted[mask > 0] = 0.9
        expected = {
            "proxy": (pieces - simple).abs().mean(),
            "painted": (network.paint(pasted) - clean).abs().mean(),
            "bridged": (network.paint(pieces) - clean).abs().mean(),
            "entropy": -(weights * (weights + 1e-12).log()).sum(1).mean(),
            "empty": (weights.sum(1) == 0).float().mean(),
        }
    assert {name: float(term.detach()) for name, term in terms.items()} == pytest.approx(
        {name: float(term) for name, term in expected.items()}, rel=1e-4, abs=1e-6
    )


def test_the_first_network_learns_from_superpixels_alone() -> None:
    network, clean = _network((16, 24)).train(), _scans(16, 24)
    terms = ProxyTerms(Superpixels(4))(network, {"image": clean, "target": (clean, torch.zeros_like(clean))})
    (terms["painted"] + terms["bridged"]).backward(retain_graph=True)
    assert {name.split(".")[0] for name, each in network.named_parameters() if each.grad is not None} == {"painter"}
    network.zero_grad()
    terms["proxy"].backward()
    learnt = {name.split(".")[0] for name, each in network.named_parameters() if each.grad is not None}
    assert learnt == {"encoder", "bottleneck", "memory", "expansion", "decoder"}


def _heads(number: int, seed: int, lesion: bool = False) -> Tensor:
    """Bright disks with a dark middle of nearly the same place; a lesion is a bright spot in the middle."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:32, :32]
    scans = []
    for _ in range(number):
        middle, radius = 16 + random.uniform(-0.3, 0.3, 2), 11.5
        away = np.hypot(rows - middle[0], columns - middle[1])
        scan = 0.7 * (away < radius) - 0.4 * (away < radius - 4)
        if lesion:
            place = middle + random.uniform(-3, 3, 2)
            scan = np.where(np.hypot(rows - place[0], columns - place[1]) < 3, 0.6, scan)
        scans.append(scan + random.normal(0, 0.02, scan.shape))
    return torch.from_numpy(np.stack(scans)[:, None]).float()


def test_it_learns_to_rebuild_normal_scans_and_not_lesions() -> None:
    torch.manual_seed(0)
    network = ProxyAno(2, 1, 32, (8, 16, 16), 16, 20, 0.05, features=(8, 16), reduction=0.05)
    terms_of = ProxyTerms(Superpixels(4))
    scans, labels = torch.cat([_heads(20, 1), _heads(20, 2, lesion=True)]), [0] * 20 + [1] * 20

    before, losses = auroc_of_scans(network, scans, labels), []
    optimizer = torch.optim.Adam(network.parameters(), 0.005)
    for step in range(80):
        clean = _heads(8, 100 + step)
        terms = terms_of(network.train(), {"image": clean, "target": (clean, torch.zeros_like(clean))})
        optimizer.zero_grad()
        (terms["proxy"] + terms["painted"] + terms["bridged"] + 0.0002 * terms["entropy"]).backward()
        optimizer.step()
        losses.append(float(terms["bridged"].detach()))
    after = auroc_of_scans(network, scans, labels)
    assert np.mean(losses[-10:]) < 0.3 * losses[0]
    assert after > 0.95 and after > before + 0.1, (before, after)
