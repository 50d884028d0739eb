"""Training set of scans with made anomalies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from monai.data import Dataset

from medad_plugins.data import Case, cached_dataset
from medad_plugins.synthesis.body import FindBodyd
from medad_plugins.synthesis.recipe import Recipe
from medad_plugins.synthesis.sources import SourcePool
from medad_plugins.synthesis.synthesize import SynthesizeAnomalyd

__all__ = ["made_dataset"]


def made_dataset(
    data: Sequence[Case],
    preprocessing: Callable[..., Any],
    recipes: Sequence[Recipe],
    prob: float = 0.5,
    in_body: bool = False,
    spatial_dims: int = 2,
    weights: Sequence[float] | None = None,
    body: Callable[..., Any] | None = None,
) -> Dataset:
    """Normal cases, in a share of which an anomaly is made, another one at every visit.

    The prepared scans and their body masks are cached; they are also what recipes take foreign content from.

    Args:
        data: normal cases.
        preprocessing: of a case, e.g. `medad_plugins.transforms.ScanPreprocessing`.
        recipes: ways to make an anomaly.
        prob: share of the visits at which one is made.
        in_body: only in the body; otherwise everywhere.
        spatial_dims: 2 or 3.
        weights: how often each recipe is chosen; None chooses them equally often.
        body: transform that adds the mask ``body``; None is `FindBodyd`.

    Returns:
        dataset of what `SynthesizeAnomalyd` adds to a case.

    Raises:
        InputError: as `SynthesizeAnomalyd`, `SourcePool` and `medad_plugins.data.cached_dataset` do.
    """
    clean: Any = cached_dataset(data, [preprocessing, body or FindBodyd()])
    pool = SourcePool(clean) if any(recipe.takes_foreign for recipe in recipes) else None
    made = SynthesizeAnomalyd(
        recipes,
        weights=weights,
        prob=prob,
        source_pool=pool,
        body_key="body" if in_body else None,
        spatial_dims=spatial_dims,
    )
    return Dataset(clean, made)
