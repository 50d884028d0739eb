"""Cases whose label and mask contradict each other, by name."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medad_plugins.data.datalists import Case
from medad_plugins.data.scan_files import read_scan
from medad_plugins.errors import InputError

__all__ = ["warn_of_contradictions", "warn_of_outlined_normals"]

logger = logging.getLogger(__name__)
_NAMED = 5


def warn_of_contradictions(outlined_normals: Sequence[str], empty_masks: Sequence[str]) -> None:
    """Log a line for each kind of contradiction that there is.

    Args:
        outlined_normals: ids of cases of label 0 whose mask marks something.
        empty_masks: ids of cases of label 1 whose mask marks nothing.
    """
    for ids, what in (
        (outlined_normals, "label 0 and a mask that is not empty"),
        (empty_masks, "label 1 and an empty mask"),
    ):
        if ids:
            more = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
            logger.warning(
                "%d case%s with %s: %s%s. One of the two is wrong; the label is taken.",
                len(ids),
                "" if len(ids) == 1 else "s",
                what,
                ", ".join(ids[:_NAMED]),
                more,
            )


def warn_of_outlined_normals(cases: Sequence[Case]) -> None:
    """Name the cases of label 0 whose mask marks something; only masks of normal cases are read, few lists have any.

    A mask that cannot be read is named too: whether it marks anything is not known.
    """
    outlined = []
    for case in cases:
        if case.get("label") == 0 and case.get("mask"):
            try:
                marks = bool(np.any(read_scan(Path(case["mask"])).array))
            except InputError as error:
                logger.warning("the mask of a normal case cannot be read: %s", error)
                continue
            if marks:
                outlined.append(case["case_id"])
    warn_of_contradictions(outlined, [])
