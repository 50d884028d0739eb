"""SQUID: the score, what learns from what, and the queues."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from medad_plugins.engines import ModelFile, NamedOptimizers, Phase, PhasedTrainer, parameters_of, save_model
from medad_plugins.errors import InputError
from medad_plugins.methods.squid import SQUID, squid_discriminator_terms, squid_generator_terms

REST = ("stem", "down", "inpainting", "student", "teacher")


def _network(dims: int = 2, size: int = 32, **others: Any) -> SQUID:
    torch.manual_seed(0)
    values = {"width": 8, "critic_width": 4, "slots": 6, "max_length": 64, **others}
    return SQUID(dims, 1, size, **values)


def _scans(dims: int = 2, size: int = 32, count: int = 2) -> Tensor:
    return torch.rand((count, 1, *[size] * dims), generator=torch.Generator().manual_seed(1))


def test_the_papers_network() -> None:
    network = SQUID()
    assert len(network.down) == 4 and network.inpainting.queues.slots.shape == (4, 200, 2048)
    # pieces of 4x4x256 and 8x8x128, four places each
    memories = [parameter for name, parameter in network.student.named_parameters() if name.endswith("memory.slots")]
    assert [tuple(memory.shape) for memory in memories] == [(4, 200, 4096), (4, 200, 8192)]
    assert not [name for name, _ in network.teacher.named_parameters() if "memory" in name]
    assert network.discriminator.trunk.channels == [16, 32, 64, 128, 128]


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("reduction", ["mean", "max", 0.1])
@torch.no_grad()
def test_the_score_is_the_papers(dims: int, reduction: str | float) -> None:
    network, scans = _network(dims, 16, reduction=reduction).eval(), _scans(dims, 16, 6)
    network.collect(scans[:4])
    network.collect(scans[4:])
    network.fit()
    ratings = [float(network.discriminator(network.reconstruct(scan[None]))[0]) for scan in scans]
    mean = sum(ratings) / 6
    deviation = math.sqrt(sum((rating - mean) ** 2 for rating in ratings) / 6)
    scores = network.pool(network(scans))
    for rating, score in zip(ratings, scores, strict=True):
        assert float(score) == pytest.approx(1 - 1 / (1 + math.exp(-(rating - mean) / deviation)), rel=1e-3)
    residual = (network.reconstruct(scans) - scans).abs()
    ratio = (network(scans) / residual).flatten(1)
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio), rtol=1e-3, atol=1e-6)


@torch.no_grad()
def test_the_residual_may_be_the_score_instead() -> None:
    network, scans = _network(score="residual", reduction="max").eval(), _scans()
    residual = (network.reconstruct(scans) - scans).abs()
    torch.testing.assert_close(network(scans), residual)
    with pytest.raises(ValueError, match="score must be one of"):
        SQUID(score="luck")


@torch.no_grad()
def test_a_scan_is_rated_by_its_own_statistics_in_training_as_in_scoring() -> None:
    """With running statistics, a mixture of real and rebuilt batches, ratings told nothing: AUROC 0.3 to 0.5."""
    network, scans = _network(critic_norm="instance"), _scans(count=4)
    rated = network.train().discriminator(scans)[0]
    torch.testing.assert_close(network.eval().discriminator(scans)[0], rated)
    torch.testing.assert_close(network.discriminator(scans[:1])[0], rated[:1])


def test_scans_that_look_real_score_low() -> None:
    network = _network().eval()
    network.normality.mean, network.normality.deviation = torch.tensor(2.0), torch.tensor(0.5)
    ratings = torch.tensor([1.0, 2.0, 3.0])
    network.rating = lambda rebuilt: ratings  # type: ignore[method-assign]
    with torch.no_grad():
        scores = network.pool(network(_scans(count=3)))
    torch.testing.assert_close(scores, torch.sigmoid(torch.tensor([2.0, 0.0, -2.0])))


def test_the_teacher_teaches_the_encoder_nothing() -> None:
    network = _network()
    rebuilt = network.training_output(_scans())
    rebuilt.teacher.sum().backward()
    assert all(parameter.grad is None for parameter in [*network.stem.parameters(), *network.down.parameters()])
    assert all(parameter.grad is not None for parameter in network.teacher.parameters())


def test_the_discriminators_terms_teach_it_alone() -> None:
    network = _network()
    torch.stack(list(squid_discriminator_terms(network, {"image": _scans()}).values())).sum().backward()
    trained = {name.split(".")[0] for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert trained == {"discriminator"}


def test_a_step_of_the_generator_writes_the_queues_once() -> None:
    network, scans = _network(), _scans()
    queues = network.inpainting.queues
    optimizer = NamedOptimizers(
        generator=torch.optim.Adam(parameters_of(network, *REST), lr=0.0),
        discriminator=torch.optim.Adam(parameters_of(network, "discriminator")),
    )
    phases = [
        Phase("discriminator", squid_discriminator_terms, "discriminator"),
        Phase("generator", squid_generator_terms, "generator", every=2, after=lambda *_: network.remember()),
    ]
    places: list[int] = []

    class Watch:
        def attach(self, engine: Any) -> None:
            from ignite.engine import Events

            engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: places.append(int(queues.place)))

    PhasedTrainer("cpu", 1, [{"image": scans}] * 4, network, optimizer, phases, train_handlers=[Watch()]).run()
    assert places == [2, 2, 4, 4], "two scans at the first and at the third iteration"
    with torch.no_grad():
        network.eval()(scans)
    assert int(queues.place) == 4 and network.to_remember is None


def test_a_memory_of_the_scans_brings_them_back() -> None:
    """What is in the queues is found again: an addressed patch is the stored one where it resembles it alone."""
    network = _network(slots=5).train()
    queues = network.inpainting.queues
    network.training_output(_scans(count=4))
    assert network.to_remember is not None
    stored = network.to_remember * 50
    queues.remember(stored)
    torch.testing.assert_close(queues(stored), stored, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dims", [2, 3])
@torch.no_grad()
def test_exported_code_gives_the_same_map(dims: int) -> None:
    network, scans = _network(dims, 32).eval(), _scans(dims, 32)
    exported: Any = torch.jit.script(network)
    torch.testing.assert_close(exported(scans), network(scans))
    with torch.autocast("cpu", torch.bfloat16):
        assert network(scans).dtype == torch.float32


def test_a_scan_that_cannot_be_cut_in_two_is_refused() -> None:
    with pytest.raises(InputError, match="a scan is cut in two along every axis"):
        SQUID(2, 1, (64, 33))


def test_other_numbers_of_scans_than_training_saw_are_fine() -> None:
    network = _network(2, 64).eval()
    with torch.no_grad():
        one, three = network(_scans(2, 64, 1)), network(_scans(2, 64, 3))
    assert one.shape == (1, 1, 64, 64) and three.shape == (3, 1, 64, 64)


def test_model_files_with_the_older_names_of_its_settings_are_read(tmp_path: Path) -> None:
    network, scans = _network(size=16, top_k=3, masked_share=0.5, score="residual").eval(), _scans(size=16)
    older = {"width": 8, "critic_width": 4, "slots": 6, "strongest": 3, "longest": 64, "share": 0.5}
    settings = {"spatial_dims": 2, "in_channels": 1, "image_size": 16, "score": "residual", **older}
    save_model(tmp_path / "model.pt", network, "squid", {"network": settings, "image_size": 16})
    rebuilt = ModelFile(tmp_path / "model.pt", "squid").rebuild(SQUID)
    assert torch.equal(rebuilt(scans), network(scans)) and rebuilt.inpainting.masked_share == 0.5
