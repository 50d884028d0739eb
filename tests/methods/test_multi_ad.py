"""Multi-AD: what is attended to, who learns from whom, both sides' losses, and the map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from plain_resnet import vary_norms
from short_trainings import alike_scans, standing_out, weights_of_varied_taps
from torch import Tensor
from torch.nn import functional

from medad_plugins.engines import parameters_of
from medad_plugins.losses import GlobalCosineLoss
from medad_plugins.methods.multi_ad import MultiAD, MultiADTerms


def _multi_ad(spatial_dims: int = 2, **others: Any) -> MultiAD:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"backbone": "resnet10", "weights": "none", "sigma": 0.0, "critic_width": 16} | others
    network = MultiAD(spatial_dims, 1, **settings)
    vary_norms(network)
    return network.eval()


def _scan(*size: int, batch: int = 2) -> Tensor:
    return torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(0))


def _attended(layer: Any, features: Tensor) -> Tensor:
    """Squeeze and excitation written out, added to what came in."""
    first, _, second, _ = layer.fc
    squeezed = features.flatten(2).mean(2)
    weights = torch.sigmoid(second(torch.relu(first(squeezed))))
    return features + features * weights.reshape([*weights.shape, *[1] * (features.dim() - 2)])


@pytest.mark.parametrize("size", [(64, 80), (40, 36, 33)])
def test_map_is_the_sum_of_the_distances_to_what_was_attended_to_twice(size: tuple[int, ...]) -> None:
    network, image = _multi_ad(len(size)), _scan(*size)
    mode = "bilinear" if len(size) == 2 else "trilinear"
    with torch.no_grad():
        taps, expected = network.teacher(image), torch.zeros(2, 1, *size)
        seen = [_attended(layer, tap) for layer, tap in zip(network.seen.scales, taps, strict=True)]
        students = network.student(network.bottleneck(seen), [list(tap.shape[2:]) for tap in taps])
        for layer, own, true in zip(network.rebuilt.scales, students, taps, strict=True):
            distance = 1 - functional.cosine_similarity(_attended(layer, own), true)[:, None]
            expected += functional.interpolate(distance, size, mode=mode, align_corners=True)
        torch.testing.assert_close(network(image), expected, rtol=1e-4, atol=1e-5)


def test_both_losses_written_out() -> None:
    network, image = _multi_ad(), _scan(64, 64)
    terms, batch = MultiADTerms("hinge"), {"image": image}
    with torch.no_grad():
        rebuilt, taps = network.training_output(image)
        teacher, student, fooled = 0.0, 0.0, 0.0
        for critic, own, true in zip(network.critics, rebuilt, taps, strict=True):
            channels = own.shape[1]
            real, fake = (
                critic(functional.normalize(part.movedim(1, -1).reshape(-1, channels), dim=1)) for part in (true, own)
            )
            teacher += float(torch.relu(1 - real).mean()) / 3
            student += float(torch.relu(1 + fake).mean()) / 3
            fooled -= float(fake.mean()) / 3
        of_critic, of_student = terms.critic(network, batch), terms.student(network, batch)
    assert float(of_critic["teacher"]) == pytest.approx(teacher, rel=1e-4)
    assert float(of_critic["student"]) == pytest.approx(student, rel=1e-4)
    assert float(of_student["fooled"]) == pytest.approx(fooled, rel=1e-4)
    assert float(of_student["distance"]) == pytest.approx(float(GlobalCosineLoss()((rebuilt, taps))), rel=1e-5)


def test_each_side_learns_by_its_own_loss() -> None:
    network, image = _multi_ad().train(), _scan(64, 64)
    critics = {id(parameter) for parameter in network.critics.parameters()}
    students = {id(parameter) for parameter in network.student_parameters()}
    assert not critics & students and not network.teacher.training
    assert len(critics | students) == sum(parameter.requires_grad for parameter in network.parameters())

    sum(MultiADTerms().critic(network, {"image": image}).values(), torch.zeros(())).backward()
    changed = {id(parameter) for parameter in network.parameters() if parameter.grad is not None}
    assert changed == critics
    network.zero_grad()
    MultiADTerms().student(network, {"image": image})["fooled"].backward()
    reached = {name.split(".")[0] for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert {"seen", "bottleneck", "student", "rebuilt"} <= reached, "the critics' judgement reaches all of the student"


def test_a_critic_tells_other_features_from_the_teacher_s() -> None:
    network, image = _multi_ad().train(), _scan(64, 64, batch=4)
    optimizer = torch.optim.Adam(parameters_of(network, "critics"), lr=0.01)
    losses: list[float] = []
    for _ in range(20):
        loss = torch.stack(list(MultiADTerms().critic(network, {"image": image}).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0], losses


@pytest.mark.costly
def test_it_learns_normal_features(tmp_path: Path) -> None:
    path = weights_of_varied_taps(tmp_path)
    torch.manual_seed(0)
    network, normal = MultiAD(2, 1, "resnet10", path, sigma=0.0, reduction=0.05, critic_width=16), alike_scans()
    changed = normal[8:].clone()
    changed[:, :, 8:40, 24:56] = torch.rand(2, 1, 32, 32)
    terms, batch = MultiADTerms(), {"image": normal[:8]}
    students = torch.optim.Adam(network.student_parameters(), lr=5e-3)
    critics = torch.optim.Adam(network.critics.parameters(), lr=2e-4)

    before = standing_out(network.eval(), changed, normal[8:])
    network.train()
    for _ in range(25):
        for optimizer, loss, weight in ((critics, terms.critic, 1.0), (students, terms.student, 0.1)):
            found = loss(network, batch)
            optimizer.zero_grad()
            sum(term * (weight if name == "fooled" else 1.0) for name, term in found.items()).backward()  # type: ignore[union-attr]
            optimizer.step()
    after = standing_out(network.eval(), changed, normal[8:])
    assert after > max(1.3, 1.3 * before), (before, after)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="squeeze must be 1 to 64"):
        _multi_ad(squeeze=65)
    with pytest.raises(ValueError, match="adversarial must be one of"):
        MultiADTerms("least squares")


def test_scripted_it_gives_the_same_map() -> None:
    network, image = _multi_ad(), _scan(64, 60)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.script(network)(image), network(image), rtol=1e-4, atol=1e-6)
