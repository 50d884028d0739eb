"""Cases held out of training, whole patients at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medad_plugins.data.datalists import Case
from medad_plugins.errors import InputError

__all__ = ["case_group", "folds_of", "hold_out"]


def hold_out(cases: Sequence[Case], fraction: float, seed: int) -> tuple[list[Case], list[Case]]:
    """Split cases in two, whole patients (else clusters) at a time: the same for a seed in whatever order they come.

    Groups are drawn in random order and held out as long as they fit into ``fraction`` of the cases; where not even
    the smallest fits, it is held out.

    Returns:
        the cases that stay and those held out, each in the given order, neither empty.

    Raises:
        InputError: the fraction is not between 0 and 1, or there is only one patient (or cluster or case).

    Example:
        >>> cases = [{"case_id": f"{patient}{scan}", "patient": patient} for patient in "abcd" for scan in (1, 2)]
        >>> stay, held_out = hold_out(cases, 0.25, seed=0)
        >>> len(stay), len(held_out), len({case["patient"] for case in held_out})
        (6, 2, 1)
    """
    if not 0 < fraction < 1:
        raise InputError(
            "the share to hold out is out of range",
            where="validation_fraction",
            expected="more than 0 and less than 1",
            found=fraction,
        )
    groups: dict[str, list[str]] = {}
    for case in cases:
        groups.setdefault(case_group(case), []).append(case["case_id"])
    if len(groups) < 2:
        raise InputError(
            "no normal case can be held out for calibration",
            expected="normal training cases of two patients or more",
            found=f"{len(cases)} of one",
            todo="add normal cases with split val",
        )
    names = sorted(groups, key=lambda name: min(groups[name]))
    drawn = [names[index] for index in np.random.RandomState(seed).permutation(len(names))]
    target = max(1, round(fraction * len(cases)))
    held: set[str] = set()
    for name in drawn:
        # one group stays to train on, whatever the fraction
        if len(held) + len(groups[name]) <= target and len(held) + len(groups[name]) < len(cases):
            held.update(groups[name])
    if not held:
        held.update(groups[min(drawn, key=lambda name: len(groups[name]))])
    stay = [case for case in cases if case["case_id"] not in held]
    return stay, [case for case in cases if case["case_id"] in held]


def folds_of(cases: Sequence[Case], count: int, seed: int) -> list[list[Case]]:
    """Split cases into folds of about equal size, whole patients (else clusters) at a time.

    Args:
        cases: normal cases.
        count: of folds; where there are fewer patients, one for each.
        seed: draws which patients come together.

    Raises:
        InputError: there is only one patient (or cluster or case).

    Example:
        >>> cases = [{"case_id": f"{patient}{scan}", "patient": patient} for patient in "abcde" for scan in (1, 2)]
        >>> [len(fold) for fold in folds_of(cases, 3, seed=0)]
        [4, 4, 2]
    """
    groups: dict[str, list[Case]] = {}
    for case in cases:
        groups.setdefault(case_group(case), []).append(case)
    if len(groups) < 2:
        todo = "add normal cases"
        raise InputError("there are no folds to make", expected="normal cases of two patients or more", todo=todo)
    names = sorted(groups, key=lambda name: min(case["case_id"] for case in groups[name]))
    drawn = [groups[names[index]] for index in np.random.RandomState(seed).permutation(len(names))]
    folds: list[list[Case]] = [[] for _ in range(min(count, len(names)))]
    for group in sorted(drawn, key=len, reverse=True):  # stable: the large first, so that folds come out even
        min(folds, key=len).extend(group)
    return folds


def case_group(case: Case) -> str:
    """What a case must not be separated from: its patient, else its cluster of similar images, else itself."""
    for column in ("patient", "cluster", "case_id"):
        if case.get(column):
            return f"{column} {case[column]}"
    return ""
