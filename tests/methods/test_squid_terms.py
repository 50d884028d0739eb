"""SQUID's terms, against a plain computation."""

from __future__ import annotations

import math

import pytest
import torch

from medad_plugins.methods.squid import SQUID, squid_discriminator_terms, squid_generator_terms


@pytest.mark.parametrize("dims", [2, 3])
def test_terms_are_the_papers(dims: int) -> None:
    torch.manual_seed(0)
    network = SQUID(dims, 1, 16, width=8, critic_width=4, slots=6, max_length=64, masked_share=1.0).double()
    image = torch.rand(2, 1, *[16] * dims, dtype=torch.float64)
    network.discriminator.eval()
    with torch.no_grad():
        rebuilt = network.training_output(image)
        terms = {name: float(term) for name, term in squid_generator_terms(network, {"image": image}).items()}
        critic = {name: float(term) for name, term in squid_discriminator_terms(network, {"image": image}).items()}
        logits = network.discriminator(rebuilt.student)[0].tolist()
        real = network.discriminator(image)[0].tolist()

    assert terms["student"] == pytest.approx(float(((rebuilt.student - image) ** 2).mean()))
    assert terms["teacher"] == pytest.approx(float(((rebuilt.teacher - image) ** 2).mean()))
    pairs = zip(rebuilt.student_maps, rebuilt.teacher_maps, strict=True)
    assert terms["distillation"] == pytest.approx(sum(float(((s - t) ** 2).mean()) for s, t in pairs))
    assert len(rebuilt.student_maps) == len(network.down)
    taken_for_real = [1 / (1 + math.exp(-logit)) for logit in logits]
    assert terms["fooled"] == pytest.approx(-sum(map(math.log, taken_for_real)) / 2)
    assert critic["generated"] == pytest.approx(-sum(math.log(1 - share) for share in taken_for_real) / 2)
    assert critic["real"] == pytest.approx(sum(math.log(1 + math.exp(-logit)) for logit in real) / 2)
