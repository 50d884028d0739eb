"""Lesions of volumes in millilitres."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy import ndimage

from medad_plugins.synthesis import SynthesizeAnomalyd, Uniform
from medad_plugins.synthesis.lesions import LESIONS, lesion_recipes
from medad_plugins.synthesis.published import held_out_recipes

SPACING = (2.0, 2.0, 3.0)


def _case() -> dict[str, object]:
    """A textured head of about 800 ml."""
    axes = [(np.arange(n) - (n - 1) / 2) / (0.45 * n) for n in (60, 70, 40)]
    body = sum(np.square(g) for g in np.meshgrid(*axes, indexing="ij")) <= 1
    texture = ndimage.gaussian_filter(np.random.RandomState(0).rand(60, 70, 40), 1.5)
    texture = (texture - texture.min()) / np.ptp(texture)
    image = MetaTensor(
        torch.from_numpy(np.where(body, 0.3 + 0.5 * texture, 0)[None]).float(), torch.diag(torch.tensor([*SPACING, 1]))
    )
    return {"image": image, "body": torch.from_numpy(body[None]).float()}


@pytest.mark.parametrize("name", LESIONS)
@pytest.mark.parametrize("millilitres", [1.0, 10.0])
def test_a_lesion_has_the_volume_that_is_asked_for_and_lies_in_the_body(name: str, millilitres: float) -> None:
    recipe = {one.name: one for one in lesion_recipes(Uniform(millilitres, millilitres))}[name]
    make, case = SynthesizeAnomalyd([recipe], prob=1, body_key="body", spatial_dims=3), _case()
    volumes = []
    for seed in range(4):
        made = make.set_random_state(seed)(case)
        assert made["is_anomalous"] and not bool((made["mask"] > case["body"]).any())
        changed = made["image"].as_tensor() != made["clean"].as_tensor()
        assert torch.equal(changed, made["mask"] > 0)
        volumes.append(float(made["mask"].sum()) * np.prod(SPACING) / 1000)
    # a mass pushes aside less than its whole region, visibly
    low = 0.3 if name == "lesion_mass" else 0.6
    assert low * millilitres < np.mean(volumes) < 1.2 * millilitres
    again = make.set_random_state(3)(case)
    assert torch.equal(again["image"], made["image"])


def test_no_method_is_trained_with_them() -> None:
    assert not {recipe.name for recipe in held_out_recipes()} & set(LESIONS)


def test_a_resection_is_dark_and_a_blob_may_be_either() -> None:
    recipes = {one.name: one for one in lesion_recipes(Uniform(5, 5))}
    case, changes = _case(), []
    for name in ("lesion_resection", "lesion_blob"):
        make = SynthesizeAnomalyd([recipes[name]], prob=1, body_key="body", spatial_dims=3)
        made = [make.set_random_state(seed)(case) for seed in range(8)]
        changes.append([float((one["image"] - one["clean"])[one["mask"] > 0].mean()) for one in made])
    assert max(changes[0]) < -0.03 and min(changes[1]) < 0 < max(changes[1])
