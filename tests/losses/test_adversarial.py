"""Adversarial pairs, penalties, feature matching and divergence against plain formulas."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from medad_plugins.losses import (
    discriminator_loss,
    feature_matching,
    gaussian_divergence,
    generator_loss,
    gradient_penalty,
    latent_distance,
)

Formula = Callable[[float], float]
REAL, FAKE = [0.5, 2.0, -1.5], [-0.25, 1.25, -3.0]


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize(
    ("kind", "real", "fake", "generator"),
    [
        (
            "bce",
            lambda x: -math.log(_sigmoid(x)),
            lambda x: -math.log(1 - _sigmoid(x)),
            lambda x: -math.log(_sigmoid(x)),
        ),
        (
            "saturating",
            lambda x: -math.log(_sigmoid(x)),
            lambda x: -math.log(1 - _sigmoid(x)),
            lambda x: math.log(1 - _sigmoid(x)),
        ),
        ("lsgan", lambda x: (x - 1) ** 2, lambda x: x**2, lambda x: (x - 1) ** 2),
        ("hinge", lambda x: max(0, 1 - x), lambda x: max(0, 1 + x), lambda x: -x),
        ("wasserstein", lambda x: -x, lambda x: x, lambda x: -x),
    ],
)
def test_pairs(kind: str, real: Formula, fake: Formula, generator: Formula) -> None:
    found = discriminator_loss(torch.tensor(REAL), torch.tensor(FAKE), kind)
    expected = [sum(map(f, values)) / 3 for f, values in ((real, REAL), (fake, FAKE))]
    assert [float(value) for value in found] == pytest.approx(expected, rel=1e-5)
    assert float(generator_loss(torch.tensor(FAKE), kind)) == pytest.approx(
        sum(map(generator, FAKE)) / 3,
        rel=1e-5,
    )


@pytest.mark.parametrize("kind", ["bce", "saturating", "lsgan", "hinge", "wasserstein"])
def test_a_discriminator_rates_real_ones_high_and_a_generator_wants_that(kind: str) -> None:
    """The sign convention: both losses fall in these directions."""
    real, fake = torch.zeros(2, requires_grad=True), torch.zeros(2, requires_grad=True)
    torch.stack(discriminator_loss(real, fake, kind)).sum().backward()
    assert real.grad is not None and float(real.grad.max()) < 0
    assert kind == "lsgan" or (fake.grad is not None and float(fake.grad.min()) > 0)
    generated = torch.zeros(2, requires_grad=True)
    generator_loss(generated, kind).backward()
    assert generated.grad is not None and float(generated.grad.max()) < 0


def test_large_logits_stay_finite_in_half_precision() -> None:
    logits = torch.tensor([80.0, -80.0], dtype=torch.bfloat16)
    for value in (*discriminator_loss(logits, logits), generator_loss(logits)):
        assert value.dtype == torch.float32 and bool(torch.isfinite(value))


def test_unknown_kinds_are_refused() -> None:
    with pytest.raises(ValueError, match="adversarial loss must be one of"):
        generator_loss(torch.zeros(1), "gan")


class Quadratic(nn.Module):
    """A critic whose gradient at x is ``2 * scale * x``."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * x.square().flatten(1).sum(1)


@pytest.mark.parametrize("shape", [(4, 3), (4, 1, 5, 5), (4, 2, 3, 3, 3)])
def test_gradient_penalty_is_over_all_values_of_a_case(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    real, fake = torch.rand(shape, generator=generator), torch.rand(shape, generator=generator)
    critic = Quadratic(0.7)
    torch.manual_seed(3)
    found = gradient_penalty(critic, real, fake)
    torch.manual_seed(3)
    shares = torch.rand(shape[0], *[1] * (len(shape) - 1))
    assert len(shares.unique()) == 4, "one for each case"
    expected = []
    for r, f, share in zip(real, fake, shares.flatten().tolist(), strict=True):
        point = (r + share * (f - r)).flatten().tolist()
        expected.append((math.sqrt(sum((2 * 0.7 * value) ** 2 for value in point)) - 1) ** 2)
    assert float(found.detach()) == pytest.approx(sum(expected) / 4, rel=1e-4)
    # the critic learns from it: a second derivative
    found.backward()
    assert critic.scale.grad is not None and float(critic.scale.grad.abs()) > 0


def test_penalties_give_no_gradient_to_the_generator() -> None:
    generated = torch.rand(2, 3, requires_grad=True)
    gradient_penalty(Quadratic(1.0), torch.rand(2, 3), generated * 2).backward()
    assert generated.grad is None


def test_penalties_work_in_half_precision_and_without_gradients_around() -> None:
    critic = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    real, fake = torch.rand(2, 2, 3)
    torch.manual_seed(0)
    expected = float(gradient_penalty(critic, real, fake).detach())
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        assert float(gradient_penalty(critic, real, fake)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("norm", ["l1", "l2"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_distances(norm: str, reduction: str) -> None:
    one, other = torch.rand(2, 3, 2), torch.rand(2, 3, 2)
    values = [
        abs(a - b) ** (1 if norm == "l1" else 2) for a, b in zip(one.flatten().tolist(), other.flatten().tolist())
    ]
    expected = sum(values) / (12 if reduction == "mean" else 2)
    assert float(latent_distance(one, other, norm, reduction)) == pytest.approx(expected, rel=1e-5)
    assert float(feature_matching(one, other, norm, reduction)) == pytest.approx(expected, rel=1e-5)
    several = feature_matching([one, one[:1]], [other, other[:1]], norm, reduction)
    first = latent_distance(one[:1], other[:1], norm, reduction)
    assert float(several) == pytest.approx((expected + float(first)) / 2, rel=1e-5)


def test_feature_matching_moves_the_generated_ones_only_and_case_by_case() -> None:
    real, fake = torch.rand(2, 3, requires_grad=True), torch.rand(2, 3, requires_grad=True)
    feature_matching(real, fake).backward()
    assert real.grad is None and fake.grad is not None
    rows = torch.tensor([[0.0], [1.0]])
    assert float(feature_matching(rows, rows.flip(0))) == 1.0, "not of the batch's means, which are equal"


@pytest.mark.parametrize("shape", [(3, 4), (3, 2, 2, 2)])
def test_divergence(shape: tuple[int, ...]) -> None:
    mean, log_variance = torch.randn(shape), torch.randn(shape)
    values = []
    for m, v in zip(mean.flatten().tolist(), log_variance.flatten().tolist(), strict=True):
        own, standard = torch.distributions.Normal(m, math.exp(v / 2)), torch.distributions.Normal(0.0, 1.0)
        values.append(float(torch.distributions.kl_divergence(own, standard)))
    assert float(gaussian_divergence(mean, log_variance)) == pytest.approx(sum(values) / len(values), rel=1e-4)
    assert float(gaussian_divergence(mean, log_variance, "sum")) == pytest.approx(sum(values) / 3, rel=1e-4)
    assert float(gaussian_divergence(torch.zeros(shape), torch.zeros(shape))) == 0


def test_reductions_are_named() -> None:
    for call in (
        lambda: latent_distance(torch.zeros(1, 1), torch.zeros(1, 1), "l3"),
        lambda: latent_distance(torch.zeros(1, 1), torch.zeros(1, 1), "l1", "max"),
        lambda: gaussian_divergence(torch.zeros(1, 1), torch.zeros(1, 1), "max"),
    ):
        with pytest.raises(ValueError, match="must be"):
            call()
