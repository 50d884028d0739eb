"""A folder of generated scans to take anomalies' content from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from medad_plugins.data import cached_dataset, find_cases
from medad_plugins.synthesis.sources import SourcePool
from medad_plugins.transforms import ScanPreprocessing

__all__ = ["generated_pool"]


def generated_pool(
    folder: str | os.PathLike[str] | None, spatial_dims: int = 2, image_size: Any = 256, in_channels: int = 1
) -> SourcePool | None:
    """The scans below a folder, e.g. one that a diffusion model wrote, at the size of the training scans.

    They are not cropped: what was generated is as it would be after cropping.

    Args:
        folder: with the scans; None or an empty text stands for no pool.
        spatial_dims: 2 or 3.
        image_size: see `medad_plugins.transforms.ScanPreprocessing`.
        in_channels: channels of the training scans.

    Raises:
        InputError: the folder does not exist, or fewer than two scans of these dimensions are in it.
    """
    if not folder:
        return None
    cases = [{**case, "case_id": f"generated {case['case_id']}"} for case in find_cases(Path(folder), split="all")]
    dataset: Any = cached_dataset(cases, ScanPreprocessing(spatial_dims, image_size, in_channels))
    return SourcePool(dataset)
