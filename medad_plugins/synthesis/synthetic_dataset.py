"""Training set of scans with synthetic anomalies."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from monai.data import Dataset
from monai.transforms import Compose

from medad_plugins.data import Case, cached_dataset
from medad_plugins.errors import InputError
from medad_plugins.synthesis.body import FindBodyd
from medad_plugins.synthesis.body_share import with_share
from medad_plugins.synthesis.recipe import Recipe
from medad_plugins.synthesis.sources import SourcePool
from medad_plugins.synthesis.synthesize import SynthesizeAnomalyd

__all__ = ["synthetic_dataset"]


def synthetic_dataset(
    data: Sequence[Case],
    preprocessing: Callable[..., Any],
    recipes: Sequence[Recipe],
    prob: float = 0.5,
    in_body: bool = False,
    spatial_dims: int = 2,
    weights: Sequence[float] | None = None,
    body: Callable[..., Any] | None = None,
    augment: Callable[..., Any] | None = None,
    source_pool: SourcePool | None = None,
    share: Sequence[float] | None = None,
) -> Dataset:
    """Normal cases, a share of them with a synthetic anomaly, a new one at every visit.

    The prepared scans and their body masks are cached; they are also what recipes take foreign content from.

    Args:
        data: normal cases.
        preprocessing: of a case, e.g. `medad_plugins.transforms.ScanPreprocessing`.
        recipes: ways to make an anomaly.
        prob: share of the visits with an anomaly.
        in_body: only in the body; otherwise everywhere.
        spatial_dims: 2 or 3.
        weights: how often each recipe is chosen; None takes the recipes' own weights.
        body: transform that adds the mask ``body``; None is `FindBodyd`.
        augment: random transform of a case with ``image`` and ``body`` before the synthesis; its output is what
            ``clean`` then holds. Sources are not augmented.
        source_pool: where recipes take foreign content from; None takes the prepared scans themselves.
        share: of the body that anomalies fill, see `with_share`; None leaves the recipes' own sizes.

    Returns:
        dataset of what `SynthesizeAnomalyd` adds to a case.

    Raises:
        InputError: no anomaly can be made in any of the scans tried, or as `SynthesizeAnomalyd`, `SourcePool` and
            `medad_plugins.data.cached_dataset` do.
    """
    recipes = with_share(recipes, share)
    clean: Any = cached_dataset(data, [preprocessing, body or FindBodyd()])
    if source_pool is None and any(recipe.takes_foreign for recipe in recipes):
        source_pool = SourcePool(clean)
    synthesis = SynthesizeAnomalyd(
        recipes,
        weights=weights,
        prob=prob,
        source_pool=source_pool,
        body_key="body" if in_body else None,
        spatial_dims=spatial_dims,
    )
    _require_anomalies(clean, synthesis)
    return Dataset(clean, synthesis if augment is None else Compose([augment, synthesis]))


def _require_anomalies(clean: Sequence[Any], synthesis: SynthesizeAnomalyd, tries: int = 40) -> None:
    """Refuse to begin where no recipe ever changes a scan: a network would learn that all is normal."""
    for number in range(tries):
        if synthesis.rebuild(clean[number % len(clean)], json.dumps({"seed": number}))["is_anomalous"]:
            return
    bodies = "" if synthesis.body_key is None else " in the mask of the body, which may be empty"
    raise InputError(
        f"no anomaly could be made in {tries} tries{bodies}",
        where=", ".join(recipe.name for recipe in synthesis.recipes),
        todo="look at the scans with tools/synthesis_gallery.py, or make anomalies everywhere (in_body false)",
    )
