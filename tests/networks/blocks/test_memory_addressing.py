"""Reading from memories, against plain loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from medad_plugins.networks import hard_shrink, look_up


def _one_by_one(query: list[float], slots: list[list[float]], strongest: int) -> list[float]:
    products = [sum(q * s for q, s in zip(query, slot, strict=True)) for slot in slots]
    powers = [math.exp(product - max(products)) for product in products]
    weights = [power / sum(powers) for power in powers]
    least = sorted(weights, reverse=True)[strongest - 1]
    kept = [weight if weight > least else 0.0 for weight in weights]
    return [
        sum(w / sum(kept) * slot[index] for w, slot in zip(kept, slots, strict=True)) for index in range(len(query))
    ]


def test_what_is_read_is_the_sum_of_the_few_strongest() -> None:
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(3, 2, 4, generator=generator, dtype=torch.float64)
    slots = torch.randn(2, 7, 4, generator=generator, dtype=torch.float64)
    found = look_up(queries, slots, 3)
    for case in range(3):
        for position in range(2):
            expected = _one_by_one(queries[case, position].tolist(), slots[position].tolist(), 3)
            torch.testing.assert_close(found[case, position], torch.tensor(expected, dtype=torch.float64))


def test_shrinking_keeps_what_exceeds_the_threshold() -> None:
    weights = torch.tensor([[0.5, 0.3, 0.2], [0.2, 0.2, 0.2]])
    expected = torch.tensor([[0.625, 0.375, 0.0], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(hard_shrink(weights, torch.tensor(0.2)), expected)
    torch.testing.assert_close(hard_shrink(weights, torch.tensor([[0.4], [0.1]]))[1], torch.full((3,), 1 / 3))


def test_the_gradient_passes_as_if_all_slots_counted() -> None:
    generator = torch.Generator().manual_seed(1)
    queries = torch.randn(2, 1, 3, generator=generator, requires_grad=True)
    slots = torch.randn(1, 5, 3, generator=generator)

    def gradient(output: Tensor) -> Tensor:
        return torch.autograd.grad((output * output.detach().cos()).sum(), queries)[0]

    hard = look_up(queries, slots, 2)
    soft = torch.softmax(queries[:, 0] @ slots[0].t(), 1) @ slots[0]
    (expected,) = torch.autograd.grad((soft * hard.detach()[:, 0].cos()).sum(), queries)
    torch.testing.assert_close(gradient(hard), expected)
    assert float(expected.abs().max()) > 0


def test_half_precision_around_it_changes_nothing() -> None:
    generator = torch.Generator().manual_seed(2)
    queries, slots = torch.rand(2, 2, 256, generator=generator), torch.rand(2, 9, 256, generator=generator)
    with torch.autocast("cpu", torch.bfloat16):
        found = look_up(queries, slots, 4)
    assert found.dtype == torch.float32
    assert torch.equal(found, look_up(queries, slots, 4))


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_very_even_and_very_uneven_weights_stay_finite(scale: float) -> None:
    queries = torch.randn(4, 1, 8, generator=torch.Generator().manual_seed(3)) * scale
    assert bool(torch.isfinite(look_up(queries, torch.randn(1, 6, 8), 5)).all())
