"""Held-out normal scans, each as it is and with synthetic anomalies, as files that any detector reads."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medad_plugins.data import Case, Scan, case_group, read_scan
from medad_plugins.data.nifti_output import write_nifti
from medad_plugins.errors import InputError
from medad_plugins.files import atomic_path, output_folder
from medad_plugins.start.first_data import judged_by
from medad_plugins.synthesis import Recipe, make_anomaly
from medad_plugins.synthesis.published import anatpaste, blob, many_tasks

__all__ = ["JudgingSet", "judging_recipes", "write_judging_set"]

logger = logging.getLogger(__name__)

_MOST = {2: 40, 3: 12}  # scans with every anomaly


@dataclass(frozen=True)
class JudgingSet:
    """Cases to judge detectors by.

    Attributes:
        clean: ``n`` held-out normal cases, as they are, written like the others.
        synthetic: by recipe, for each of them its case with an anomaly (and ``mask``), or None.
        groups: patient or group of copies of each.
    """

    clean: list[Case]
    synthetic: dict[str, list[Case | None]]
    groups: list[str]

    @property
    def cases(self) -> list[Case]:
        """All of them in one list."""
        return [*self.clean, *(case for cases in self.synthetic.values() for case in cases if case is not None)]


def judging_recipes(spatial_dims: int) -> list[Recipe]:
    """Ways to make an anomaly that take nothing from other scans: brighter or darker, sunken or swollen, displaced."""
    tasks = {recipe.name: recipe for recipe in many_tasks()}
    recipes = [blob(), tasks["intensity"], tasks["sink"], tasks["source"], anatpaste()]
    # a volume costs as much as many pictures
    return recipes if spatial_dims == 2 else recipes[:4]


def write_judging_set(held_out: Sequence[Case], folder: Path, spatial_dims: int, seed: int = 0) -> JudgingSet:
    """Write the set, the same for the same cases and seed; files of it that are there are kept.

    Args:
        held_out: normal cases.
        folder: where to, made where missing.
        spatial_dims: 2 or 3.
        seed: of the anomalies.

    Raises:
        InputError: no anomaly can be put into any of the scans, or they cannot be written.
    """
    recipes = judging_recipes(spatial_dims)
    chosen = judged_by(held_out, _MOST[spatial_dims])
    output_folder(folder)
    clean: list[Case] = []
    groups: list[str] = []
    synthetic: dict[str, list[Case | None]] = {recipe.name: [] for recipe in recipes}
    for number, case in enumerate(chosen):
        scan = read_scan(Path(str(case["image"])))
        name = f"{number:03d}"
        plain = np.asarray(scan.array, dtype=np.float32)
        clean.append(_case(_write(folder / name, plain, scan, case), name, 0))
        groups.append(case_group(case))
        for place, recipe in enumerate(recipes):
            own = f"{name}_{recipe.name}"
            made = make_anomaly(plain, scan.affine, [recipe], seed + 1000 * number + place, scan.has_channels)
            if made is None:
                synthetic[recipe.name].append(None)
                continue
            image = _write(folder / own, made["image"], scan, case)
            mask = _write(folder / f"{own}_mask", made["mask"] * 255, _plain(scan), case)
            synthetic[recipe.name].append({**_case(image, own, 1), "mask": mask})
    kept = {name: cases for name, cases in synthetic.items() if any(case is not None for case in cases)}
    if not kept:
        raise InputError(
            "no synthetic anomaly can be put into the held-out normal scans, so detectors cannot be compared by them",
            where=folder,
            expected="scans with a body brighter than their background",
        )
    return JudgingSet(clean, kept, groups)


def _case(image: str, name: str, label: int) -> Case:
    return {"image": image, "case_id": name, "label": label, "mask": ""}


def _plain(scan: Scan) -> Scan:
    """A grey scan of eight bits on the same grid."""
    shape = scan.array.shape[:-1] if scan.has_channels else scan.array.shape
    return Scan(np.zeros(shape, dtype=np.uint8), scan.affine, 8, False, scan.has_geometry)


def _write(stem: Path, values: NDArray[Any], scan: Scan, case: Case) -> str:
    """The scan as it is stored: 8-bit ones and others are scaled differently on reading."""
    array = np.rint(np.clip(values, 0, 255)).astype(np.uint8) if scan.stored_bits == 8 else values.astype(np.float32)
    if scan.has_channels or (array.ndim == 2 and scan.stored_bits == 8):
        path = stem.with_name(f"{stem.name}.png")
        if not path.is_file():
            picture = Image.fromarray(np.ascontiguousarray(array.swapaxes(0, 1)))
            with atomic_path(path) as temporary:
                picture.save(temporary, format="PNG")
        return str(path)
    path = stem.with_name(f"{stem.name}.nii.gz")
    if not path.is_file():
        write_nifti(path, array, scan.affine, str(case["image"]))
    return str(path)
