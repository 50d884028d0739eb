"""PatchCL-AE's terms, against a plain computation."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from medad_plugins.methods.patchcl_ae import PatchCLAE, PatchCLAETerms

CPU = torch.device("cpu")


def _network(dims: int) -> PatchCLAE:
    torch.manual_seed(0)
    return PatchCLAE(dims, 1, 16, width=4, blocks=1, critic_width=4, dimensions=6).double()


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("adversarial", ["bce", "lsgan"])
@torch.no_grad()
def test_terms_are_the_papers(dims: int, adversarial: str) -> None:
    network = _network(dims)
    image = torch.rand(2, 1, *[16] * dims, dtype=torch.float64)
    terms = PatchCLAETerms(noise=0.0, places=10000, temperature=0.1, adversarial=adversarial)
    found = {name: float(term) for name, term in terms.generator(network, {"image": image}).items()}
    critic = {name: float(term) for name, term in terms.discriminator(network, {"image": image}).items()}

    scan = image * 2 - 1
    rebuilt = network.rebuild(scan)
    patch = 0.0
    for depth, projection in enumerate(network.projections):
        vectors = [projection(network.encoder(x)[depth].flatten(2).transpose(1, 2)) for x in (rebuilt, scan)]
        query, key = (functional.normalize(each, dim=2) for each in vectors)
        # all places were drawn, in whatever order: every place against all of its own scan
        logits = torch.einsum("bpd,bqd->bpq", query, key) / 0.1
        patch -= float(torch.diagonal(logits - logits.exp().sum(2, keepdim=True).log(), dim1=1, dim2=2).mean())
    assert found["patch"] == pytest.approx(patch)

    real, generated = network.discriminator(scan).tolist(), network.discriminator(rebuilt).tolist()
    assert len(real) == 2
    if adversarial == "lsgan":
        assert found["fooled"] == pytest.approx(sum((logit - 1) ** 2 for logit in generated) / 2)
        assert critic["generated"] == pytest.approx(sum(logit**2 for logit in generated) / 2)
    else:
        assert found["fooled"] == pytest.approx(sum(math.log(1 + math.exp(-logit)) for logit in generated) / 2)
        assert critic["real"] == pytest.approx(sum(math.log(1 + math.exp(-logit)) for logit in real) / 2)


def test_places_are_drawn_without_repetition_and_all_where_there_are_few() -> None:
    drawn = PatchCLAETerms(places=256).draw([[32, 32], [8, 8]], CPU)
    assert [len(set(places.tolist())) for places in drawn] == [256, 64]
    assert int(drawn[0].max()) < 1024 and set(drawn[1].tolist()) == set(range(64))


def test_who_learns_from_what() -> None:
    network = _network(2)
    batch = {"image": torch.rand(2, 1, 16, 16, dtype=torch.float64)}
    terms = PatchCLAETerms(places=16)
    torch.stack(list(terms.discriminator(network, batch).values())).sum().backward()
    assert {n.split(".")[0] for n, p in network.named_parameters() if p.grad is not None} == {"discriminator"}
    network.zero_grad()
    terms.generator(network, batch)["patch"].backward()
    trained = {name.split(".")[0] for name, p in network.named_parameters() if p.grad is not None}
    assert trained == {"encoder", "decoder", "projections"}


def test_places_of_another_scan_are_no_negatives() -> None:
    network = _network(2)
    image = torch.rand(2, 1, 16, 16, dtype=torch.float64)
    terms = PatchCLAETerms(noise=0.0, places=10000)
    together = float(terms.generator(network, {"image": image})["patch"])
    alone = [float(terms.generator(network, {"image": each[None]})["patch"]) for each in image]
    assert together == pytest.approx(sum(alone) / 2)


def test_senseless_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="places at least 2"):
        PatchCLAETerms(places=1)
