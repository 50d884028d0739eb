"""Reading a list of scans without refusing what the audit is there to find."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from medad_plugins.data import Case, find_cases, sample_cohort
from medad_plugins.data.datalists import find_datalist, make_case_ids, read_rows
from medad_plugins.files import home_path

__all__ = ["read_leniently"]


def read_leniently(dataset_dir: str | Path = "", datalist: str | Path = "", spatial_dims: int = 2) -> list[Case]:
    """All cases of a data folder, as `read_datalist` gives them, also where a patient or a file is in two splits.

    Args:
        dataset_dir: a folder with a datalist or class folders, or one with scans in it; empty takes the sample cohort.
        datalist: file name in ``dataset_dir`` or path; empty looks for the usual names.
        spatial_dims: 2 or 3, which of the sample cohorts.

    Raises:
        InputError: the folder or list is missing or cannot be parsed, a label is not 0 or 1, a split is unknown.
    """
    folder: str | Path = dataset_dir if dataset_dir or datalist else sample_cohort(spatial_dims)
    path = find_datalist(folder, datalist)
    if path is None:
        return find_cases(folder, split="all")
    root = Path(home_path(folder)) if folder and Path(home_path(folder)).is_dir() else path.parent
    cases = read_rows(path, root)
    files = [os.path.realpath(case["image"]) for case in cases]
    first = {file: case["image"] for file, case in reversed(list(zip(files, cases)))}
    ids = dict(zip(first, make_case_ids(list(first.values()), root)))
    seen: Counter[str] = Counter()
    for file, case in zip(files, cases):
        seen[file] += 1
        case["case_id"] = ids[file] if seen[file] == 1 else f"{ids[file]}__{seen[file]}"
    return cases
