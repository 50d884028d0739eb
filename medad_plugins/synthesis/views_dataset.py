"""Training set for contrastive methods: every recipe's work on a scan, each in two views."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from monai.data import Dataset
from monai.transforms import Compose

from medad_plugins.data import Case
from medad_plugins.synthesis.every_recipe import versions_dataset
from medad_plugins.synthesis.recipe import Recipe
from medad_plugins.transforms import TwoViews

__all__ = ["views_dataset"]


def views_dataset(
    data: Sequence[Case],
    preprocessing: Callable[..., Any],
    recipes: Sequence[Recipe],
    view: Callable[..., Any] | Sequence[Callable[..., Any]],
    in_body: bool = False,
    spatial_dims: int = 2,
    slice_axis: int | str | None = None,
) -> Dataset:
    """Normal cases, each as `EveryRecipe` makes a list of it, and each of these twice, see `TwoViews`.

    A loader's batch size counts the cases; its batches hold twice as many more scans as there are versions.

    Args:
        data, preprocessing, recipes, in_body, spatial_dims, slice_axis: see `versions_dataset`.
        view: random transforms of a version.

    Returns:
        dataset whose ``data`` are the prepared normal cases.

    Raises:
        InputError: as `versions_dataset` does.
    """
    versions = versions_dataset(data, preprocessing, recipes, in_body, spatial_dims, slice_axis)
    return Dataset(versions.data, Compose([versions.transform, TwoViews(view)], map_items=False))
