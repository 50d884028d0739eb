"""The synthesizer: a dictionary transform that turns normal scans into scans with synthetic anomalies."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config.type_definitions import KeysCollection
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing
from monai.transforms import MapTransform, RandomizableTransform
from numpy.random import RandomState
from numpy.typing import NDArray

from medad_plugins.errors import InputError
from medad_plugins.synthesis.host import Host
from medad_plugins.synthesis.recipe import Recipe, SyntheticAnomaly
from medad_plugins.synthesis.sources import SourcePool

__all__ = ["SynthesizeAnomalyd"]


def _spacing(image: Any, dims: int) -> tuple[float, ...]:
    """Millimetres a voxel where the image knows them, ones where it does not."""
    if not isinstance(image, MetaTensor):
        return (1.0,) * dims
    # a 2D scan lies anywhere in space
    spacing = affine_to_spacing(image.affine, r=len(image.affine) - 1)
    values = tuple(float(step) for step in np.asarray(spacing)[:dims])
    return values if all(np.isfinite(values)) and min(values) > 0 else (1.0,) * dims


class SynthesizeAnomalyd(RandomizableTransform, MapTransform):
    """Makes an anomaly in a share of the scans that pass, and says where and what.

    All randomness of a case hangs on one number, drawn from the state that MONAI seeds and kept in the record: the same
    seed gives the same cases for any number of workers, and `rebuild` makes any of them again.

    Args:
        recipes: ways to make an anomaly.
        keys: the image; of several, each is changed in the same places.
        weights: how often each recipe is chosen; None takes the recipes' own weights, which are equal by default.
        prob: share of the cases that get an anomaly.
        source_pool: other normal scans, for recipes that need them.
        body_key: key of a mask ``(1, *spatial)`` outside of which nothing is changed; None allows everywhere.
        spatial_dims: 2 or 3.

    Adds to a case (the first of several keys):
        ``clean``: the image as it came. ``mask``: ``(1, *spatial)`` float32, 1 where it was changed. ``target``:
        ``(1, *spatial)`` float32, 0..1. ``is_anomalous``: 0 or 1. ``pseudo_class``: how many regions changed something.
        ``recipe_index``: 0 without an anomaly, else one more than the place of the recipe. ``synthesis``: the
        record, JSON, empty without an anomaly.

    Raises:
        InputError: if images of the case or of the pool do not fit each other, or a needed pool is missing.

    Example:
        >>> from medad_plugins.synthesis.published import cutpaste
        >>> synthesize = SynthesizeAnomalyd([cutpaste()], prob=1.0).set_random_state(0)
        >>> case = synthesize({"image": torch.rand(1, 64, 64)})
        >>> case["is_anomalous"], case["recipe_index"], tuple(case["mask"].shape)
        (1, 1, (1, 64, 64))
        >>> again = synthesize.rebuild({"image": case["clean"]}, case["synthesis"])
        >>> torch.equal(again["image"], case["image"])
        True
    """

    def __init__(
        self,
        recipes: Sequence[Recipe],
        keys: KeysCollection = "image",
        weights: Sequence[float] | None = None,
        prob: float = 0.5,
        source_pool: SourcePool | None = None,
        body_key: str | None = None,
        spatial_dims: int = 2,
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        if not recipes:
            raise InputError("no recipe is given to make anomalies with", where="recipes")
        if weights is not None and (len(weights) != len(recipes) or min(weights) < 0 or sum(weights) <= 0):
            raise InputError(
                "the recipes' weights cannot be used",
                where="weights",
                expected=f"{len(recipes)} numbers, none negative",
                found=list(weights),
            )
        chances = np.array([recipe.weight for recipe in recipes] if weights is None else weights, dtype=float)
        self.recipes, self.chances = list(recipes), chances / chances.sum()
        self.source_pool, self.body_key, self.spatial_dims = source_pool, body_key, spatial_dims
        self.seed = 0

    def set_random_state(self, seed: int | None = None, state: RandomState | None = None) -> SynthesizeAnomalyd:
        super().set_random_state(seed, state)
        return self

    def randomize(self, data: Any = None) -> None:
        super().randomize(data)
        self.seed = int(self.R.randint(2**32, dtype=np.uint32))

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        self.randomize(data)
        return self._with_anomaly(dict(data), self.seed if self._do_transform else None)

    def rebuild(self, data: Mapping[Any, Any], record: str) -> dict[Any, Any]:
        """The anomalous version of a clean case, from its record."""
        return self._with_anomaly(dict(data), json.loads(record)["seed"] if record else None)

    def _with_anomaly(self, case: dict[Any, Any], seed: int | None) -> dict[Any, Any]:
        first = self.keys[0]
        host = self._host(case)
        anomaly, record, index = None, "", 0
        if seed is not None:
            anomaly, record, index = self._make(host, seed, str(case["case_id"]) if "case_id" in case else None)
        original = case[first]
        case["clean"] = original.clone() if isinstance(original, torch.Tensor) else np.array(original)
        empty = np.zeros(host.shape, dtype=np.float32)
        mask = empty if anomaly is None else anomaly.mask.astype(np.float32)
        target = empty if anomaly is None else anomaly.target
        if anomaly is not None and anomaly.regions:
            self._write(case, anomaly)
        case["mask"], case["target"] = torch.from_numpy(mask[None].copy()), torch.from_numpy(target[None].copy())
        case["is_anomalous"] = int(anomaly is not None and anomaly.regions > 0)
        case["pseudo_class"] = 0 if anomaly is None else anomaly.regions
        case["recipe_index"] = index if case["is_anomalous"] else 0
        case["synthesis"] = record if case["is_anomalous"] else ""
        return case

    def _make(self, host: Host, seed: int, host_id: str | None) -> tuple[SyntheticAnomaly, str, int]:
        rng = RandomState(seed)
        index = int(rng.choice(len(self.recipes), p=self.chances))
        recipe = self.recipes[index]
        sources: list[str] = []

        def foreign() -> NDArray[np.float32]:
            if self.source_pool is None:
                raise InputError(
                    f"the recipe {recipe.name} takes content from other scans",
                    where="source_pool",
                    expected="a SourcePool",
                    todo="give one, or choose a recipe that needs none",
                )
            source_id, image = self.source_pool.draw(rng, host_id)
            if image.shape != host.image.shape:
                raise InputError(
                    "a scan of the source pool has another shape",
                    where=source_id,
                    expected=host.image.shape,
                    found=image.shape,
                    todo="pass both through the same preprocessing",
                )
            sources.append(source_id)
            return image

        anomaly = recipe(rng, host, foreign)
        record = {
            "recipe": recipe.name,
            "seed": seed,
            "sources": sources,
            "boxes": anomaly.boxes,
            "factor": round(anomaly.factor, 6),
        }
        return anomaly, json.dumps(record), index + 1

    def _host(self, case: Mapping[Any, Any]) -> Host:
        first = case[self.keys[0]]
        images = [np.asarray(case[key], dtype=np.float32) for key in self.keys]
        for key, image in zip(self.keys, images):
            if image.ndim != self.spatial_dims + 1 or image.shape[1:] != images[0].shape[1:]:
                expected = f"a channel and {self.spatial_dims} spatial axes"
                expected += f", the latter {images[0].shape[1:]}" if key != self.keys[0] else ""
                raise InputError("an image has another shape", where=str(key), expected=expected, found=image.shape)
        body = None
        if self.body_key is not None:
            body = np.asarray(case[self.body_key])[0] > 0.5
            if body.shape != images[0].shape[1:]:
                raise InputError(
                    "the body mask has another shape",
                    where=self.body_key,
                    expected=(1, *images[0].shape[1:]),
                    found=np.asarray(case[self.body_key]).shape,
                )
        return Host(np.concatenate(images), _spacing(first, self.spatial_dims), body)

    def _write(self, case: dict[Any, Any], anomaly: SyntheticAnomaly) -> None:
        start = 0
        for key in self.keys:
            original = case[key]
            channels = len(original)
            values = anomaly.image[start : start + channels]
            start += channels
            if isinstance(original, torch.Tensor):
                changed = original.clone()
                changed[...] = torch.from_numpy(values).to(changed)
                case[key] = changed
            else:
                case[key] = values.astype(np.asarray(original).dtype)
