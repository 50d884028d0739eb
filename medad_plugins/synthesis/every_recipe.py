"""A scan and what every recipe makes of it, for networks that classify the recipes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import Dataset, MetaTensor
from monai.transforms import RandomizableTransform
from numpy.random import RandomState
from numpy.typing import NDArray

from medad_plugins.data import Case, cached_dataset
from medad_plugins.errors import InputError
from medad_plugins.synthesis.body import FindBodyd
from medad_plugins.synthesis.body_share import with_share
from medad_plugins.synthesis.contents import IntensityJitter
from medad_plugins.synthesis.recipe import Recipe
from medad_plugins.synthesis.sources import SourcePool
from medad_plugins.synthesis.synthesize import SynthesizeAnomalyd
from medad_plugins.transforms.drawn_slices import drawn_slices

__all__ = ["EveryRecipe", "versions_dataset"]


def _moved(values: NDArray[np.float32], steps: Sequence[int]) -> NDArray[np.float32]:
    """``(C, *spatial)`` moved by whole voxels, borders repeated."""
    places = [np.clip(np.arange(edge) - step, 0, edge - 1) for edge, step in zip(values.shape[1:], steps, strict=True)]
    return values[(slice(None), *np.ix_(*places))]


class EveryRecipe(RandomizableTransform):
    """Turns a normal case into a list: the scan, moved a little, slightly brighter or darker, and each recipe's work.

    Of a volume that a 2D network is to see, some slices are drawn first, and each is treated as a scan of its own.

    Args:
        recipes: ways to make an anomaly, in the order of their classes.
        in_body: placed in the mask ``body`` of the case alone.
        spatial_dims: axes of what the network sees.
        slice_axis: 0, 1 or 2 cuts volumes into slices along that axis, ``"all"`` along all three; None leaves scans
            whole.
        slices: how many are drawn of a volume.
        source_pool: for recipes that take foreign content.
        shift: largest movement, a fraction of each side.
        jitter: largest relative change of brightness and contrast.

    Returns of a call:
        cases with ``image`` ``(C, *spatial)`` and ``recipe_index``: 0 without an anomaly (also where a recipe found
        no place), else one more than the place of the recipe.
    """

    def __init__(
        self,
        recipes: Sequence[Recipe],
        in_body: bool = False,
        spatial_dims: int = 2,
        slice_axis: int | str | None = None,
        slices: int = 8,
        source_pool: SourcePool | None = None,
        shift: float = 1 / 16,
        jitter: float = 0.1,
    ) -> None:
        super().__init__(1.0)
        if not recipes:
            raise InputError("no recipe is given to make anomalies with", where="recipes")
        self.synthesizers = [
            SynthesizeAnomalyd(
                [recipe],
                prob=1.0,
                source_pool=source_pool,
                body_key="body" if in_body else None,
                spatial_dims=spatial_dims,
            )
            for recipe in recipes
        ]
        self.slice_axis, self.slices = slice_axis, slices
        self.shift, self.jitter = shift, IntensityJitter(jitter)

    def set_random_state(self, seed: int | None = None, state: RandomState | None = None) -> EveryRecipe:
        super().set_random_state(seed, state)
        return self

    def __call__(self, data: Mapping[Any, Any]) -> list[dict[str, Any]]:
        return [
            version
            for case in drawn_slices(data, self.slice_axis, self.slices, self.R)
            for version in self._versions(self._varied(case))
        ]

    def _varied(self, case: dict[Any, Any]) -> dict[Any, Any]:
        rng: RandomState = self.R
        image = case["image"]
        reach = [int(self.shift * edge) for edge in image.shape[1:]]
        steps = [int(rng.randint(-most, most + 1)) for most in reach]
        moved = _moved(np.asarray(image, dtype=np.float32), steps)
        varied = torch.from_numpy(self.jitter(rng, moved, moved))
        case["image"] = MetaTensor(varied, affine=image.affine) if isinstance(image, MetaTensor) else varied
        if "body" in case:
            case["body"] = torch.from_numpy(_moved(np.asarray(case["body"], dtype=np.float32), steps))
        return case

    def _versions(self, case: dict[Any, Any]) -> list[dict[str, Any]]:
        versions = [{"image": case["image"], "recipe_index": 0}]
        for number, synthesizer in enumerate(self.synthesizers, 1):
            record = json.dumps({"seed": int(self.R.randint(2**32, dtype=np.uint32))})
            made = synthesizer.rebuild(case, record)
            versions.append({"image": made["image"], "recipe_index": number * made["is_anomalous"]})
        return versions


def versions_dataset(
    data: Sequence[Case],
    preprocessing: Callable[..., Any],
    recipes: Sequence[Recipe],
    in_body: bool = False,
    spatial_dims: int = 2,
    slice_axis: int | str | None = None,
    body: Callable[..., Any] | None = None,
    share: Sequence[float] | None = None,
) -> Dataset:
    """Normal cases, each as `EveryRecipe` makes a list of it, other ones at every visit.

    A loader's batch size counts the cases; its batches hold as many times more scans as there are versions.

    Args:
        data: normal cases.
        preprocessing: of a case, e.g. `medad_plugins.transforms.ScanPreprocessing`.
        recipes: ways to make an anomaly.
        in_body: only in the body; otherwise everywhere.
        spatial_dims: axes of what the network sees.
        slice_axis: see `EveryRecipe`.
        body: transform that adds the mask ``body``; None is `FindBodyd`.
        share: of the body that anomalies fill, see `with_share`; None leaves the recipes' own sizes.

    Returns:
        dataset whose ``data`` are the prepared normal cases.

    Raises:
        InputError: no case has a body to make anything in, or as `SynthesizeAnomalyd` and `cached_dataset` do.
    """
    recipes = with_share(recipes, share)
    clean: Any = cached_dataset(data, [preprocessing, body or FindBodyd()])
    looked_at = [clean[index] for index in range(min(20, len(clean)))]
    if in_body and not any(bool(torch.as_tensor(case["body"]).any()) for case in looked_at):
        raise InputError(
            "no scan has a body to make anomalies in",
            found=f"empty masks in the first {len(looked_at)}",
            todo="look for another organ, or make anomalies everywhere",
        )
    pool = SourcePool(clean) if any(recipe.takes_foreign for recipe in recipes) else None
    return Dataset(clean, EveryRecipe(recipes, in_body, spatial_dims, slice_axis, source_pool=pool))
