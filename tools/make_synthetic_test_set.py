"""Gives normal scans a test set with synthetic anomalies, to try a method where there are no lesions.

    python tools/make_synthetic_test_set.py --dataset_dir NORMAL_SCANS --output_dir FOLDER [--recipes sink,blob]
        [--blob_radius 0.08,0.16] [--seed 0]

Every normal case of the split test is written twice: as it is (label 0), and with one anomaly (label 1), by the recipes
in turn, with its mask and the recipe's name as its class. Train and validation cases are listed where they are. What a
method is trained with is no test of it: name other recipes. tools/synthesis_gallery.py shows them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medad_plugins.command_line import run_tool
from medad_plugins.data import find_cases, read_scan
from medad_plugins.data.nifti_output import write_nifti
from medad_plugins.errors import InputError
from medad_plugins.files import output_folder, write_csv
from medad_plugins.synthesis import Recipe, make_anomaly
from medad_plugins.synthesis.published import blob, held_out_recipes

__all__ = ["make_anomaly", "make_synthetic_test_set"]


def _chosen(recipes: str | Iterable[str], blob_radius: tuple[float, float]) -> list[Recipe]:
    """Recipes that take nothing from other scans, which may be of other sizes."""
    known = {recipe.name: recipe for recipe in [blob(blob_radius), *held_out_recipes()] if not recipe.takes_foreign}
    names = [recipes] if isinstance(recipes, str) else list(recipes)
    if unknown := [name for name in names if name not in known]:
        found = ", ".join(unknown)
        raise InputError("a recipe is not known", where="recipes", expected=f"some of {', '.join(known)}", found=found)
    return [known[name] for name in names]


def _require_radius(given: object) -> None:
    numbers = given if isinstance(given, Sequence) and len(given) == 2 else (0, 0)
    if not 0 < numbers[0] <= numbers[1] <= 0.5:
        expected = "smallest,largest, more than 0 and at most 0.5"
        raise InputError(
            "the radius of the balls is out of range", where="blob_radius", expected=expected, found=str(given)
        )


def make_synthetic_test_set(
    dataset_dir: str,
    output_dir: str,
    recipes: str | Iterable[str] = ("blob", "sink", "source", "intensity"),
    blob_radius: tuple[float, float] = (0.08, 0.16),
    datalist: str = "",
    seed: int = 0,
) -> None:
    """Write the data set.

    Args:
        dataset_dir: folder with a datalist.
        output_dir: where to write images, masks and ``datalist.csv``.
        recipes: names of recipes that need no other scan.
        blob_radius: smallest and largest of the recipe ``blob``, fractions of a scan's shortest side.
        datalist: the list's name, if not the usual one.
        seed: of the anomalies.
    """
    _require_radius(blob_radius)
    ways = _chosen(recipes, blob_radius)
    folder = output_folder(output_dir)
    for name in ("images", "masks"):
        output_folder(folder / name)
    rows: list[tuple[Any, ...]] = []
    for split in ("train", "val"):
        for case in find_cases(dataset_dir, datalist, split):
            rows.append((case["image"], case.get("label", ""), "", split, case.get("class", "")))
    normal = [case for case in find_cases(dataset_dir, datalist, "test") if case.get("label") == 0]
    if not normal:
        todo = "give a list with a column label, 0 for normal scans"
        raise InputError("there is no normal test scan to change", where=dataset_dir or "the sample cohort", todo=todo)
    for number, case in enumerate(normal):
        scan = read_scan(Path(str(case["image"])))
        plain = np.asarray(scan.array, dtype=np.float32)
        turn = number % len(ways)
        made = make_anomaly(plain, scan.affine, ways[turn:] + ways[:turn], seed + number)
        if made is None:
            print(f"no place for an anomaly in {case['case_id']}: left out")
            continue
        image, changed, mask = (f"{name}/{case['case_id']}{end}.nii.gz" for name, end in _NAMES)
        values = made["image"]
        # both are written, as the source is stored: 8-bit scans and others are scaled differently on reading
        if scan.stored_bits == 8:
            plain, values = (np.rint(array.clip(0, 255)).astype(np.uint8) for array in (plain, values))
        for file, array in ((image, plain), (changed, values), (mask, made["mask"])):
            write_nifti(folder / file, array, scan.affine, str(case["image"]))
        rows.append((image, 0, "", "test", "normal"))
        rows.append((changed, 1, mask, "test", made["recipe"]))
    write_csv(folder / "datalist.csv", [("image", "label", "mask", "split", "class"), *rows])
    print(f"{len(rows)} rows in {folder / 'datalist.csv'}")


_NAMES = (("images", ""), ("images", "_synthetic"), ("masks", "_synthetic"))


if __name__ == "__main__":
    run_tool(make_synthetic_test_set)
