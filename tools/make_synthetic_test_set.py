"""Gives normal scans a test set with synthetic anomalies, to try a method where there are no lesions.

    python tools/make_synthetic_test_set.py --dataset_dir NORMAL_SCANS --output_dir FOLDER [--recipes sink,blob]
        [--blob_radius 0.08,0.16] [--every true] [--seed 0]
    python tools/make_synthetic_test_set.py --dataset_dir VOLUMES --output_dir FOLDER --recipes lesions --every true
        [--millilitres 0.5,20]

Every normal case of the split test is written twice: as it is (label 0), and with one anomaly (label 1), by the recipes
in turn, with its mask and the recipe's name as its class; with --every once by every recipe. "lesions" are blobs,
spots, resections and masses in volumes, of sizes in millilitres, with which no method here is trained. The list says
how many millilitres an anomaly has, and in from_2_ml (1 for normal scans) whether these are 2 or more. Train and
validation cases are listed where they are. What a method is trained with is no test of it: name other recipes.
tools/synthesis_gallery.py shows them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medad_plugins.command_line import run_tool
from medad_plugins.data import Case, find_cases, read_scan
from medad_plugins.data.nifti_output import write_nifti
from medad_plugins.errors import InputError
from medad_plugins.files import output_folder, write_csv
from medad_plugins.synthesis import Recipe, make_anomaly
from medad_plugins.synthesis.lesions import LESIONS, lesion_recipes
from medad_plugins.synthesis.published import blob, held_out_recipes
from medad_plugins.synthesis.sizes import LogUniform

__all__ = ["make_anomaly", "make_synthetic_test_set"]


def _chosen(
    recipes: str | Iterable[str], blob_radius: tuple[float, float], millilitres: tuple[float, float]
) -> list[Recipe]:
    """Recipes that take nothing from other scans, which may be of other sizes."""
    ways = [blob(blob_radius), *held_out_recipes(), *lesion_recipes(LogUniform(*millilitres))]
    known = {recipe.name: recipe for recipe in ways if not recipe.takes_foreign}
    given = [recipes] if isinstance(recipes, str) else list(recipes)
    names = [name for one in given for name in (LESIONS if one == "lesions" else [one])]
    if unknown := [name for name in names if name not in known]:
        found = ", ".join(unknown)
        raise InputError("a recipe is not known", where="recipes", expected=f"some of {', '.join(known)}", found=found)
    return [known[name] for name in names]


def _require_range(given: object, what: str, where: str, most: float) -> None:
    numbers = given if isinstance(given, Sequence) and len(given) == 2 else (0, 0)
    if not 0 < numbers[0] <= numbers[1] <= most:
        expected = f"smallest,largest, more than 0 and at most {most:g}"
        raise InputError(f"{what} is out of range", where=where, expected=expected, found=str(given))


def make_synthetic_test_set(
    dataset_dir: str,
    output_dir: str,
    recipes: str | Iterable[str] = ("blob", "sink", "source", "intensity"),
    blob_radius: tuple[float, float] = (0.08, 0.16),
    millilitres: tuple[float, float] = (0.5, 20.0),
    every: bool = False,
    datalist: str = "",
    seed: int = 0,
) -> None:
    """Write the data set.

    Args:
        dataset_dir: folder with a datalist.
        output_dir: where to write images, masks and ``datalist.csv``.
        recipes: names of recipes that need no other scan, or "lesions" for the four of volumes.
        blob_radius: smallest and largest of the recipe ``blob``, fractions of a scan's shortest side.
        millilitres: smallest and largest volume of a lesion.
        every: change every normal scan by every recipe, not by one of them in turn.
        datalist: the list's name, if not the usual one.
        seed: of the anomalies.
    """
    _require_range(blob_radius, "the radius of the balls", "blob_radius", 0.5)
    _require_range(millilitres, "the volume of the lesions", "millilitres", 1000)
    ways = _chosen(recipes, blob_radius, millilitres)
    folder = output_folder(output_dir)
    for name in ("images", "masks"):
        output_folder(folder / name)
    rows: list[tuple[Any, ...]] = []
    for case in find_cases(dataset_dir, datalist, "all"):
        if case.get("split") in ("train", "val"):  # a list may have no val
            rows.append(_row(case, case["image"], case.get("label", ""), "", case["split"], case.get("class", "")))
    normal = [case for case in find_cases(dataset_dir, datalist, "test") if case.get("label") == 0]
    if not normal:
        todo = "give a list with a column label, 0 for normal scans"
        raise InputError("there is no normal test scan to change", where=dataset_dir or "the sample cohort", todo=todo)
    for number, case in enumerate(normal):
        scan = read_scan(Path(str(case["image"])))
        if any(way.name in LESIONS for way in ways) and np.ndim(scan.array) != 3:
            raise InputError("lesions in millilitres are of volumes", where=case["image"], todo="choose other recipes")
        plain = np.asarray(scan.array, dtype=np.float32)
        turn = number % len(ways)
        turned = ways[turn:] + ways[:turn]
        tries = [[way] for way in ways] if every else [turned]
        seeds = [seed + number * len(tries) + place for place in range(len(tries))]
        found = [make_anomaly(plain, scan.affine, *one) for one in zip(tries, seeds)]
        made = [one for one in found if one is not None]
        if len(made) < len(found):
            print(f"no place for {len(found) - len(made)} of {len(found)} anomalies in {case['case_id']}: left out")
        if not made:
            continue
        # all are written, as the source is stored: 8-bit scans and others are scaled differently on reading
        stored = partial(_as_stored, is_8_bit=scan.stored_bits == 8)
        name, affine, source = f"images/{case['case_id']}.nii.gz", scan.affine, str(case["image"])
        write_nifti(folder / name, stored(plain), affine, source)
        rows.append(_row(case, name, 0, "", "test", "normal"))
        for one in made:
            end = f"{case['case_id']}_{one['recipe'] if every else 'synthetic'}.nii.gz"
            image, mask = f"images/{end}", f"masks/{end}"
            write_nifti(folder / image, stored(one["image"]), affine, source)
            write_nifti(folder / mask, one["mask"], affine, source)
            voxel = abs(float(np.linalg.det(np.asarray(affine)[:3, :3]))) / 1000 if plain.ndim == 3 else 0.0
            rows.append(_row(case, image, 1, mask, "test", one["recipe"], voxel * float(one["mask"].sum())))
    columns = ("image", "label", "mask", "split", "class", "patient", "ml", "from_2_ml")
    write_csv(folder / "datalist.csv", [columns, *rows])
    print(f"{len(rows)} rows in {folder / 'datalist.csv'}")


def _as_stored(values: NDArray[np.float32], is_8_bit: bool) -> NDArray:
    return np.rint(values.clip(0, 255)).astype(np.uint8) if is_8_bit else values


def _row(
    case: Case, image: str, label: Any, mask: str, split: str, kind: str, millilitres: float = 0.0
) -> tuple[Any, ...]:
    """A row of the list; the scans made of one are one patient's."""
    patient = case.get("patient") or case["case_id"]
    return image, label, mask, split, kind, patient, f"{millilitres:.2f}", int(label != 1 or millilitres >= 2)


if __name__ == "__main__":
    run_tool(make_synthetic_test_set)
