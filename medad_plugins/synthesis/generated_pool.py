"""A folder of generated scans to take anomalies' content from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from medad_plugins.data import ScanFormat, cached_dataset, find_cases
from medad_plugins.synthesis.sources import SourcePool
from medad_plugins.transforms import ScanPreprocessing

__all__ = ["generated_pool"]


def generated_pool(folder: str | os.PathLike[str] | None, scan: ScanFormat) -> SourcePool | None:
    """The scans below a folder, e.g. one that a diffusion model wrote, at the size of the training scans.

    They are not cropped: what was generated is as it would be after cropping.

    Args:
        folder: with the scans; None or an empty text stands for no pool.
        scan: how the training scans come to the network; its crop and intensities are not used.

    Raises:
        InputError: the folder does not exist, or fewer than two scans of these dimensions are in it.
    """
    if not folder:
        return None
    cases = [{**case, "case_id": f"generated {case['case_id']}"} for case in find_cases(Path(folder), split="all")]
    plain = ScanFormat(scan.spatial_dims, scan.edges, scan.in_channels, scan.slice_axis, orientation=scan.orientation)
    dataset: Any = cached_dataset(cases, ScanPreprocessing(plain))
    return SourcePool(dataset)
