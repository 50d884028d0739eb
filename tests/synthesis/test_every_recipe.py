"""A scan beside what every recipe makes of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import Dataset, MetaTensor
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, ScaleIntensityd

from medad_plugins.data import Case, IterationLoader
from medad_plugins.engines.scan_batch import cut_slices
from medad_plugins.errors import InputError
from medad_plugins.synthesis import EveryRecipe, versions_dataset
from medad_plugins.synthesis.published import anatpaste, cutpaste, pii
from synthesis.textured_scans import SHAPES, body, cases

RECIPES = [cutpaste("box"), cutpaste("scar")]


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_the_scan_then_one_of_every_kind(spatial_dims: int) -> None:
    case = cases(spatial_dims)[0]
    before = case["image"].copy()
    every = EveryRecipe(RECIPES, spatial_dims=spatial_dims, shift=0, jitter=0).set_random_state(0)
    clean, box, scar = every(case)
    assert np.array_equal(case["image"], before)
    np.testing.assert_allclose(np.asarray(clean["image"]), before, atol=1e-6)
    assert [version["recipe_index"] for version in (clean, box, scar)] == [0, 1, 2]
    changed = [float((np.asarray(one["image"]) != np.asarray(clean["image"])).any(0).mean()) for one in (box, scar)]
    assert 0.01 < changed[0] < 0.2 and 0 < changed[1] < 0.08


def test_every_visit_moves_and_lights_the_scan_anew_and_all_versions_alike() -> None:
    case = cases(2)[0]
    every = EveryRecipe(RECIPES, shift=0.1, jitter=0.1).set_random_state(1)
    cleans = []
    for _ in range(4):
        versions = [np.asarray(version["image"]) for version in every(case)]
        cleans.append(versions[0])
        assert (versions[0] != versions[1]).mean() < 0.2, "the pasted one is of the same moved scan"
    assert len({clean.tobytes() for clean in cleans}) == 4
    still = EveryRecipe(RECIPES, shift=0.1, jitter=0).set_random_state(1)
    moved = np.asarray(still(case)[0]["image"])[0]
    image, reach = case["image"][0], [int(0.1 * n) for n in SHAPES[2]]
    fits = [
        (dy, dx)
        for dy in range(-reach[0], reach[0] + 1)
        for dx in range(-reach[1], reach[1] + 1)
        if np.allclose(np.roll(image, (dy, dx), (0, 1))[6:-6, 6:-6], moved[6:-6, 6:-6], atol=1e-6)
    ]
    assert len(fits) == 1


def test_only_in_the_body_that_moves_along() -> None:
    case = cases(2)[1]
    inside = body(2)
    every = EveryRecipe([anatpaste()], in_body=True, shift=0, jitter=0).set_random_state(0)
    for _ in range(5):
        clean, made = every(case)
        changed = (np.asarray(made["image"]) != np.asarray(clean["image"])).any(0)
        assert changed.any() and not changed[~inside].any()
    case["body"] = np.zeros_like(case["body"])
    assert [version["recipe_index"] for version in every(case)] == [0, 0]


def test_slices_of_a_volume_are_scans_of_their_own() -> None:
    volume = cases(3)[0]
    volume["image"][:, :, 7:] = 0  # nothing can be seen to change there
    affine = torch.diag(torch.tensor([2.0, 3.0, 5.0, 1.0]))
    case = {**volume, "image": MetaTensor(volume["image"], affine=affine)}
    every = EveryRecipe([cutpaste("box")], slice_axis=1, slices=12, shift=0, jitter=0).set_random_state(0)
    versions = every(case)
    assert len(versions) == 24
    planes = [volume["image"][:, :, place] for place in range(SHAPES[3][1])]
    for clean, made in zip(versions[::2], versions[1::2], strict=True):
        assert clean["image"].shape == (1, SHAPES[3][0], SHAPES[3][2])
        places = [
            number for number, plane in enumerate(planes) if np.allclose(plane, np.asarray(clean["image"]), atol=1e-6)
        ]
        assert places
        assert torch.as_tensor(clean["image"].pixdim).tolist() == [2, 5]
        assert made["recipe_index"] == int(min(places) < 7), "an empty slice stays normal"


def _list(folder: Path, count: int = 5) -> list[Case]:
    rng = np.random.RandomState(0)
    for number in range(count):
        np.save(folder / f"{number}.npy", rng.rand(40, 40))
    return [{"image": str(folder / f"{number}.npy"), "case_id": str(number)} for number in range(count)]


PREPARE = Compose([LoadImaged("image", image_only=True), EnsureChannelFirstd("image"), ScaleIntensityd("image")])


def test_batches_count_scans_and_do_not_depend_on_workers(tmp_path: Path) -> None:
    data = versions_dataset(_list(tmp_path), PREPARE, RECIPES)
    assert isinstance(data, Dataset) and len(data) == len(data.data) == 5
    batches = [list(IterationLoader(data, 2, 3, seed=1, num_workers=workers)) for workers in (0, 2)]
    for one, other in zip(*batches, strict=True):
        assert one["image"].shape == (6, 1, 40, 40)
        assert one["recipe_index"].tolist() == [0, 1, 2, 0, 1, 2]
        assert torch.equal(one["image"], other["image"])


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    def nowhere(case: Case) -> Case:
        return {**case, "body": torch.zeros(1, 40, 40)}

    files = _list(tmp_path)
    with pytest.raises(InputError, match=r"no scan has a body to make anomalies in \(found empty masks in the first 5"):
        versions_dataset(files, PREPARE, RECIPES, in_body=True, body=nowhere)
    versions_dataset(files, PREPARE, RECIPES, body=nowhere)
    with pytest.raises(InputError, match="need other scans"):
        versions_dataset(files[:1], PREPARE, [pii()])
    with pytest.raises(InputError, match="no recipe"):
        EveryRecipe([])


def test_slices_along_all_axes_are_upright_and_square_and_keep_their_spacing() -> None:
    values = torch.arange(6 * 8 * 10, dtype=torch.float32).reshape(1, 6, 8, 10) / 480
    volume = MetaTensor(values, affine=torch.diag(torch.tensor([1.0, 2.0, 3.0, 1.0])))
    every = EveryRecipe([cutpaste("box")], slice_axis="all", slices=24, shift=0, jitter=0).set_random_state(0)
    clean = [case["image"] for case in every({"image": volume}) if case["recipe_index"] == 0]
    assert len(clean) >= 24 and {tuple(image.shape) for image in clean} == {(1, 10, 10)}
    expected = {float(one.sum()): one for one in cut_slices(values[None], "all")}
    known = sorted(expected)
    for image in clean:
        nearest = min(known, key=lambda total: abs(total - float(image.sum())))
        torch.testing.assert_close(image.as_tensor(), expected[nearest], rtol=0, atol=1e-6)
    # rows and columns: sagittal S and A, coronal S and R, axial A and R
    assert {tuple(image.pixdim.tolist()) for image in clean} == {(3, 2), (3, 1), (2, 1)}
