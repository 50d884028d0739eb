"""Regions of a stated share of the body."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.random import RandomState

from medad_plugins.errors import InputError
from medad_plugins.synthesis import Host, OfBody, SourcePool, SynthesizeAnomalyd, Uniform, synthetic_dataset, with_share
from medad_plugins.synthesis.published import anatpaste, cutpaste, fpi, glass, many_tasks, noise_blend, nsa, smooth
from medad_plugins.synthesis.shapes import Ball, Cuboid, EllipsoidUnion
from synthesis.textured_scans import body, cases

HOST = Host(np.zeros((1, *body(3).shape), dtype=np.float32), (1.0, 1.0, 2.0), body(3))


@pytest.mark.parametrize("shape", [Ball(), Cuboid(), EllipsoidUnion()])
@pytest.mark.parametrize("share", [0.02, 0.1])
def test_a_shape_fills_the_share_of_the_body_that_is_asked_for(shape: object, share: float) -> None:
    rng = RandomState(0)
    drawn = [OfBody(shape, Uniform(share, share))(rng, HOST) for _ in range(20)]  # type: ignore[arg-type]
    assert all(set(np.unique(alpha)) <= {0, 1} for alpha in drawn)
    found = np.mean([alpha.sum() for alpha in drawn]) / body(3).sum()
    assert found == pytest.approx(share, rel=0.25)


@pytest.mark.parametrize(
    "recipe", [nsa(), fpi(), anatpaste(), cutpaste(), noise_blend(), glass("noise"), smooth(), *many_tasks()]
)
def test_anomalies_of_every_recipe_fill_some_hundredths_of_the_body(recipe: object) -> None:
    items = cases(3)
    (sized,) = with_share([recipe], (0.05, 0.1))  # type: ignore[list-item]
    synthesis = SynthesizeAnomalyd([sized], prob=1, source_pool=SourcePool(items), body_key="body", spatial_dims=3)
    synthesis.set_random_state(1)
    made = [synthesis(items[number % 4]) for number in range(12)]
    shares = [float(case["mask"].sum()) / body(3).sum() for case in made if case["is_anomalous"]]
    assert len(shares) >= 10 and 0.02 < np.mean(shares) < 0.25


def test_scars_stay_thin_and_without_a_share_nothing_changes() -> None:
    scar, box = cutpaste("scar"), cutpaste()
    same, larger = with_share([scar, box], (0.05, 0.1))
    assert same.region.shape is scar.region.shape  # type: ignore[attr-defined]
    assert isinstance(larger.region.shape, OfBody) and not isinstance(box.region.shape, OfBody)  # type: ignore[attr-defined]
    assert with_share([scar, box], None) == [scar, box]


@pytest.mark.parametrize("share", [0.1, [0.1], [0.2, 0.1], [0, 0.1], [0.1, 2]])
def test_shares_that_cannot_be_are_refused(share: object) -> None:
    with pytest.raises(InputError, match="anomalies cannot have this size: share"):
        synthetic_dataset([], None, [smooth()], share=share)  # type: ignore[arg-type]
