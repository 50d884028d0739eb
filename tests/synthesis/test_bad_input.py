"""What a training set of synthetic anomalies refuses, and what it puts up with, in workers too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.transforms import MapTransform
from numpy.random import RandomState
from numpy.typing import NDArray

from medad_plugins.data import IterationLoader
from medad_plugins.errors import InputError
from medad_plugins.synthesis import (
    Cuboid,
    ForeignHere,
    Mix,
    PlacedRegion,
    Recipe,
    Uniform,
    synthetic_dataset,
)
from synthesis.textured_scans import SHAPES, cases

BOTH = pytest.mark.parametrize("spatial_dims", [2, 3])


class _Prepared:
    """The case as it is; its body may be made empty."""

    def __init__(self, empty: bool = False) -> None:
        self.empty = empty

    def __call__(self, case: dict[str, Any]) -> dict[str, Any]:
        body = np.zeros_like(case["body"]) if self.empty else case["body"]
        return {**case, "image": torch.from_numpy(case["image"]), "body": torch.from_numpy(body)}


class _BodyAsItIs(MapTransform):
    def __init__(self) -> None:
        super().__init__("body")

    def __call__(self, data: Any) -> dict[Any, Any]:
        return dict(data)


def _recipe(side: float = 0.4, labeller: Any = None) -> Recipe:
    region = PlacedRegion(Cuboid(Uniform(side, side)))
    options = {} if labeller is None else {"labeller": labeller}
    return Recipe("mixed", region, Mix(Uniform(0.5, 0.5)), ForeignHere(), **options)


def _loaded(spatial_dims: int, recipe: Recipe, num_workers: int = 2, **options: Any) -> dict[str, Any]:
    dataset = synthetic_dataset(cases(spatial_dims), _Prepared(), [recipe], 1.0, spatial_dims=spatial_dims, **options)
    (batch,) = IterationLoader(dataset, 4, 1, num_workers=num_workers)
    return dict(batch)


@BOTH
@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_region_larger_than_the_image_is_cut_to_it(spatial_dims: int, num_workers: int) -> None:
    batch = _loaded(spatial_dims, _recipe(3.0), num_workers)
    assert batch["mask"].shape == (4, 1, *SHAPES[spatial_dims])
    assert bool((batch["is_anomalous"] == 1).all()) and float(batch["mask"].mean()) > 0.3


@BOTH
def test_scans_that_all_have_an_empty_body_are_refused(spatial_dims: int) -> None:
    options: dict[str, Any] = {"spatial_dims": spatial_dims, "body": _BodyAsItIs(), "in_body": True}
    with pytest.raises(InputError, match="no anomaly could be made in 40 tries in the mask of the body.*: mixed"):
        synthetic_dataset(cases(spatial_dims), _Prepared(empty=True), [_recipe()], **options)
    assert synthetic_dataset(cases(spatial_dims), _Prepared(), [_recipe()], **options)[0]["body"].any()


@BOTH
def test_one_scan_with_an_empty_body_stays_as_it_is(spatial_dims: int) -> None:
    """A worker meets it in the middle of a training, which goes on."""
    listed = cases(spatial_dims)
    listed[0]["body"] = np.zeros_like(listed[0]["body"])
    options: dict[str, Any] = {"spatial_dims": spatial_dims, "body": _BodyAsItIs(), "in_body": True}
    dataset = synthetic_dataset(listed, _Prepared(), [_recipe()], 1.0, **options)
    for batch in IterationLoader(dataset, 4, 3, num_workers=2):
        empty = torch.tensor([name == "c0" for name in batch["case_id"]])
        assert batch["is_anomalous"].tolist() == (~empty).int().tolist()
        assert torch.equal(batch["image"][empty], batch["clean"][empty]) and not batch["target"][empty].any()


class _Everywhere:
    """A labeller that does not care where something changed."""

    def __init__(self, value: float) -> None:
        self.value = value

    def __call__(
        self, difference: NDArray[np.float32], changed: NDArray[np.bool_], factor: float
    ) -> NDArray[np.float32]:
        return np.full(changed.shape, self.value, dtype=np.float32)


@BOTH
def test_a_label_where_nothing_changed_is_0(spatial_dims: int) -> None:
    """Where host and source are alike the box cannot be seen, and the label must not reveal it."""
    listed = cases(spatial_dims)
    half = slice(0, SHAPES[spatial_dims][0] // 2)
    for case in listed:
        case["image"][:, half] = 0
    dataset = synthetic_dataset(listed, _Prepared(), [_recipe(3.0, _Everywhere(1.0))], 1.0, spatial_dims=spatial_dims)
    made = [dataset[number % len(listed)] for number in range(8)]
    assert all(torch.equal(m["target"], m["mask"]) and not m["target"][:, half].any() for m in made)
    assert any(m["mask"].any() for m in made), "a box at the edge may lie in the empty half, but not all of them"


@pytest.mark.parametrize("value", [1.5, -0.1, float("nan")])
def test_labels_that_are_no_shares_are_refused(value: float) -> None:
    with pytest.raises(InputError, match="the labels of the recipe mixed leave 0..1: _Everywhere"):
        _loaded(2, _recipe(labeller=_Everywhere(value)))


class _FailsLater:
    """A labeller of somebody's own that fails on faint changes, which a worker meets first."""

    def __call__(
        self, difference: NDArray[np.float32], changed: NDArray[np.bool_], factor: float
    ) -> NDArray[np.float32]:
        if torch.utils.data.get_worker_info() is not None:
            raise InputError("the change is too faint to be labelled", where="made by hand")
        return changed.astype(np.float32)


def test_what_goes_wrong_in_a_worker_is_reported_in_its_own_words() -> None:
    with pytest.raises(InputError, match="the change is too faint to be labelled: made by hand"):
        _loaded(2, _recipe(labeller=_FailsLater()))


def test_a_part_may_draw_nothing() -> None:
    def nowhere(rng: RandomState, host: Any) -> None:
        return None

    with pytest.raises(InputError, match="no anomaly could be made in 40 tries: nowhere"):
        synthetic_dataset(cases(2), _Prepared(), [Recipe("nowhere", nowhere, Mix(), ForeignHere())])
