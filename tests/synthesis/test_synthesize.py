"""The synthesizer and every published recipe: what each must hold whatever it makes."""

from __future__ import annotations

import json
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import Dataset, MetaTensor
from numpy.random import RandomState
from numpy.typing import NDArray

from medad_plugins.data import IterationLoader
from medad_plugins.errors import InputError
from medad_plugins.synthesis import (
    Cuboid,
    Mix,
    Paste,
    PlacedRegion,
    Recipe,
    SourcePool,
    SynthesizeAnomalyd,
    Uniform,
    published,
)
from medad_plugins.synthesis.host import Host, Region
from medad_plugins.synthesis.sources import Foreign
from synthesis.textured_scans import SHAPES, body, cases, scan

RECIPES: list[Recipe] = [
    published.fpi(),
    published.pii(),
    published.cutpaste("box"),
    published.cutpaste("scar"),
    published.anatpaste(),
    published.nsa(overlap=0.3),
    published.circle(),
    *published.many_tasks(),
    *published.disyre(),
    *published.pasted_squares(),
    published.pasted_piece(),
    published.noise_blend(),
    published.glass(),
]
EVERY = pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
BOTH = pytest.mark.parametrize("spatial_dims", [2, 3])


class Constant:
    """One intensity as content."""

    takes_foreign = False

    def __init__(self, value: float) -> None:
        self.value = value

    def __call__(self, rng: RandomState, host: Host, region: Region, foreign: Foreign) -> NDArray[np.float32]:
        return np.full((len(host.image), *region.alpha.shape), self.value, dtype=np.float32)


def _synthesizer(recipes: list[Recipe], spatial_dims: int, channels: int = 1, **options: Any) -> SynthesizeAnomalyd:
    pool = SourcePool(cases(spatial_dims, channels=channels))
    values = {"prob": 1.0, "source_pool": pool, "spatial_dims": spatial_dims, **options}
    return SynthesizeAnomalyd(recipes, **values)


@EVERY
@BOTH
@pytest.mark.parametrize("channels", [1, 3])
def test_every_synthetic_case_is_what_it_says(recipe: Recipe, spatial_dims: int, channels: int) -> None:
    synthesizer = _synthesizer([recipe], spatial_dims, channels).set_random_state(3)
    case = cases(spatial_dims, channels=channels)[0]
    before = case["image"].copy()
    made = [synthesizer(case) for _ in range(8)]
    assert np.array_equal(case["image"], before), "the input is not written to"
    assert sum(one["is_anomalous"] for one in made) >= 6
    for one in made:
        mask, target = one["mask"].numpy(), one["target"].numpy()
        assert mask.shape == target.shape == (1, *SHAPES[spatial_dims])
        assert np.array_equal(one["clean"], before)
        assert np.array_equal((one["image"] != before).any(0), mask[0] == 1), "changed exactly where the mask says"
        assert set(np.unique(mask)) <= {0.0, 1.0}
        assert target.min() >= 0 and target.max() <= 1 and not target[mask == 0].any()
        assert (target.max() > 0) == bool(mask.any()) == bool(one["is_anomalous"])
        assert one["image"].dtype == np.float32 and np.isfinite(one["image"]).all()
        record: dict[str, Any] = {"recipe": recipe.name, "boxes": []}
        record.update(json.loads(one["synthesis"] or "{}"))
        assert record["recipe"] == recipe.name and len(record["boxes"]) == one["pseudo_class"]
        inside_boxes = np.zeros(SHAPES[spatial_dims], dtype=bool)
        for box in record["boxes"]:
            inside_boxes[tuple(slice(*ends) for ends in box)] = True
        assert not (mask[0].astype(bool) & ~inside_boxes).any()


@EVERY
@BOTH
def test_nothing_is_changed_outside_the_body(recipe: Recipe, spatial_dims: int) -> None:
    synthesizer = _synthesizer([recipe], spatial_dims, body_key="body").set_random_state(1)
    made = [synthesizer(cases(spatial_dims)[1]) for _ in range(6)]
    assert any(one["is_anomalous"] for one in made)
    assert not any(one["mask"].numpy()[0][~body(spatial_dims)].any() for one in made)


@EVERY
@BOTH
def test_an_empty_body_leaves_the_scan_as_it_is(recipe: Recipe, spatial_dims: int) -> None:
    case = cases(spatial_dims)[0]
    case["body"] = np.zeros_like(case["body"])
    made = _synthesizer([recipe], spatial_dims, body_key="body").set_random_state(0)(case)
    assert np.array_equal(made["image"], case["image"])
    assert (made["is_anomalous"], made["pseudo_class"], made["synthesis"]) == (0, 0, "")
    assert not made["mask"].any() and not made["target"].any()


@EVERY
@BOTH
def test_a_record_makes_the_same_case_again(recipe: Recipe, spatial_dims: int) -> None:
    first = _synthesizer(RECIPES, spatial_dims).set_random_state(5)
    case = cases(spatial_dims)[2]
    made = [first(case) for _ in range(4)]
    other = _synthesizer(RECIPES, spatial_dims).set_random_state(99)
    for one in made:
        again = other.rebuild(case, one["synthesis"])
        assert again["synthesis"] == one["synthesis"]
        for key in ("image", "mask", "target"):
            assert np.array_equal(again[key], one[key])
    pickle.loads(pickle.dumps(first))


@BOTH
def test_every_recipe_is_drawn_as_often_as_its_weight_says(spatial_dims: int) -> None:
    recipes = [Recipe(name, PlacedRegion(Cuboid()), Mix(), Constant(0.5)) for name in ("often", "seldom", "never")]
    synthesizer = _synthesizer(recipes, spatial_dims, weights=[3, 1, 0], prob=0.5).set_random_state(0)
    case = cases(spatial_dims)[0]
    names = [json.loads(r)["recipe"] if r else "" for r in (synthesizer(case)["synthesis"] for _ in range(400))]
    assert names.count("") == pytest.approx(200, abs=40)
    assert names.count("often") == pytest.approx(150, abs=35)
    assert names.count("seldom") == pytest.approx(50, abs=25)
    assert names.count("never") == 0


def _batches(num_workers: int) -> list[dict[str, Any]]:
    clean = cases(2)
    pool = SourcePool(clean)
    synthesizer = SynthesizeAnomalyd(RECIPES, prob=0.7, source_pool=pool)
    loader = IterationLoader(Dataset(clean, synthesizer), 3, epoch_length=4, seed=7, num_workers=num_workers)
    return list(loader)


def test_the_same_batches_for_any_number_of_workers() -> None:
    alone, together = _batches(0), _batches(2)
    assert sum(int(batch["is_anomalous"].sum()) for batch in alone) >= 5
    assert len({record for batch in alone for record in batch["synthesis"]}) >= 6, "no two cases are made alike"
    for one, other in zip(alone, together, strict=True):
        assert one["synthesis"] == other["synthesis"]
        for key in ("image", "clean", "mask", "target", "is_anomalous"):
            assert torch.equal(torch.as_tensor(one[key]), torch.as_tensor(other[key]))


def test_meta_data_and_further_images_come_along() -> None:
    affine = torch.diag(torch.tensor([2.0, 3.0, 1.0, 1.0]))
    case = {"image": MetaTensor(scan(2, 0), affine=affine), "second": MetaTensor(scan(2, 1), affine=affine)}
    recipe = Recipe("constant", PlacedRegion(Cuboid()), Paste(), Constant(2))
    made = SynthesizeAnomalyd([recipe], keys=("image", "second"), prob=1.0).set_random_state(0)(case)
    mask = made["mask"][0] == 1
    for key in ("image", "second"):
        assert isinstance(made[key], MetaTensor) and torch.equal(made[key].affine, affine.to(made[key].affine))
        assert bool((made[key][0][mask] == 2).all())
        assert torch.equal(made[key][0][~mask], case[key][0][~mask])


@pytest.mark.parametrize("factor", [0.0, 1.0])
@BOTH
def test_limits_of_the_factor(factor: float, spatial_dims: int) -> None:
    recipe = Recipe("mix", PlacedRegion(Cuboid()), Mix(Uniform(factor, factor)), Constant(3))
    made = _synthesizer([recipe], spatial_dims).set_random_state(0)(cases(spatial_dims)[0])
    assert made["is_anomalous"] == int(factor)
    assert bool((torch.as_tensor(made["image"])[made["mask"] == 1] == 3).all())


@BOTH
def test_a_foreign_scan_is_never_the_host(spatial_dims: int) -> None:
    pool = cases(spatial_dims, 3)
    synthesizer = _synthesizer([published.fpi()], spatial_dims, source_pool=SourcePool(pool)).set_random_state(0)
    sources = [json.loads(synthesizer(pool[1])["synthesis"])["sources"] for _ in range(30)]
    assert {name for names in sources for name in names} == {"c0", "c2"}


# refusals


def test_a_pool_of_one_scan_is_refused() -> None:
    with pytest.raises(InputError, match="at least 2 normal cases, found 1"):
        SourcePool(cases(2, 1))


def test_a_recipe_that_needs_a_pool_says_so() -> None:
    with pytest.raises(InputError, match="recipe fpi takes content from other scans: source_pool"):
        SynthesizeAnomalyd([published.fpi()], prob=1.0)(cases(2)[0])


def test_a_pool_of_another_shape_is_refused() -> None:
    odd = [{"image": np.zeros((1, 20, 20), np.float32), "case_id": str(i)} for i in range(2)]
    with pytest.raises(InputError, match="source pool has another shape"):
        SynthesizeAnomalyd([published.fpi()], prob=1.0, source_pool=SourcePool(odd))(cases(2)[0])


def test_images_and_bodies_that_do_not_fit_are_refused() -> None:
    synthesizer = SynthesizeAnomalyd([published.cutpaste()], prob=1.0, body_key="body")
    with pytest.raises(InputError, match="an image has another shape: image"):
        synthesizer(cases(3)[0])
    with pytest.raises(InputError, match="body mask has another shape: body"):
        synthesizer({**cases(2)[0], "body": np.ones((1, 5, 5))})


@pytest.mark.parametrize("weights", [[1], [0, 0], [1, -1]])
def test_weights_that_cannot_be_used_are_refused(weights: list[float]) -> None:
    with pytest.raises(InputError, match="weights"):
        SynthesizeAnomalyd([published.cutpaste(), published.fpi()], weights=weights)
