"""Tests of the built-in sample cohort: what it holds, that it is always the same, and that it means something."""

from __future__ import annotations

import csv
import threading
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from medad_plugins.data.sample_cohort import LESIONS, generate_case, sample_cohort
from medad_plugins.errors import InputError

# The package exports the function under the module's own name.
module = import_module("medad_plugins.data.sample_cohort")

GRIDS = [(2, 128), (3, 48)]


@pytest.fixture(scope="module")
def cohort_2d(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sample_cohort(2, tmp_path_factory.mktemp("cache"))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same cohorts on coarse grids, and in 2D a few cases only, where the pictures do not matter."""
    few = (("train", 3, 0), ("test", 1, 6))
    monkeypatch.setitem(module.LAYOUTS, 2, replace(module.LAYOUTS[2], size=32, splits=few))
    monkeypatch.setitem(module.LAYOUTS, 3, replace(module.LAYOUTS[3], size=16))


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "datalist.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def counts(folder: Path) -> dict[tuple[str, str], int]:
    cases = [(row["split"], row["label"]) for row in rows(folder)]
    return {case: cases.count(case) for case in cases}


def brain(normal: np.ndarray) -> np.ndarray:
    """The inside of the skull of a normal head, found in the image itself: within the bright scalp, below its bone."""
    head = ndimage.binary_fill_holes(normal > 0.5 * np.quantile(normal, 0.99))
    assert head is not None and 0.2 < head.mean() < 0.7
    inside = ndimage.distance_transform_edt(head) * 2 / normal.shape[0]
    return np.asarray(inside > 0.09)


@pytest.mark.parametrize(("dims", "size"), GRIDS)
@pytest.mark.parametrize("lesion", list(LESIONS))
def test_lesion_changes_the_brain_inside_its_mask_only(dims: int, size: int, lesion: str) -> None:
    normal, empty = generate_case(dims, size, (5, dims), None)
    image, mask = generate_case(dims, size, (5, dims), lesion)
    assert image.shape == mask.shape == (size,) * dims
    assert image.dtype == np.float32 and mask.dtype == np.uint8
    assert image.min() >= 0 and image.max() <= 1
    assert not empty.any() and set(np.unique(mask)) == {0, 1}
    assert np.array_equal(image[mask == 0], normal[mask == 0])
    assert np.abs(image - normal)[mask == 1].mean() > 0.04
    assert brain(normal)[mask == 1].all()


@pytest.mark.parametrize(("dims", "size"), [(2, 64), (3, 24)])
def test_same_seed_same_case_in_any_order(dims: int, size: int) -> None:
    first = generate_case(dims, size, (1, 2, 3), "scrambled")
    other = generate_case(dims, size, (1, 2, 4), "scrambled")
    again = generate_case(dims, size, (1, 2, 3), "scrambled")
    assert np.array_equal(first[0], again[0]) and np.array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])


def test_slice_is_the_volume_cut_at_the_ventricles() -> None:
    """Two and three dimensions show the same anatomy: dark ventricles beside the midline, as bright a scalp."""
    picture = generate_case(2, 96, 11)[0]
    volume = generate_case(3, 96, 11)[0]
    middle = volume[:, :, 51].T[::-1, ::-1]
    assert (
        np.corrcoef(ndimage.gaussian_filter(picture, 1).ravel(), ndimage.gaussian_filter(middle, 1).ravel())[0, 1] > 0.9
    )


def test_cohort_2d_files(cohort_2d: Path) -> None:
    assert cohort_2d.name == "sample_cohort_v1_2d"
    assert counts(cohort_2d) == {("train", "0"): 200, ("val", "0"): 60, ("test", "0"): 60, ("test", "1"): 60}
    for row in rows(cohort_2d):
        with Image.open(cohort_2d / row["image"]) as image:
            assert (image.mode, image.size) == ("L", (128, 128))
        assert (row["class"] == "normal") == (row["label"] == "0") == (row["mask"] == "")
        if row["mask"]:
            mask = np.asarray(Image.open(cohort_2d / row["mask"]))
            assert set(np.unique(mask)) == {0, 255}
            assert 40 < np.count_nonzero(mask) < 700
    kinds = [row["class"] for row in rows(cohort_2d) if row["label"] == "1"]
    assert {kind: kinds.count(kind) for kind in LESIONS} == dict.fromkeys(LESIONS, 10)


def test_cohort_file_is_the_generated_case(cohort_2d: Path) -> None:
    number, row = next((number, row) for number, row in enumerate(rows(cohort_2d)) if row["class"] == "ring_enhancing")
    image, mask = generate_case(2, 128, (module.COHORT_SEED, 2, number - 260), "ring_enhancing")
    assert np.array_equal(np.asarray(Image.open(cohort_2d / row["image"])), np.rint(image * 255))
    assert np.array_equal(np.asarray(Image.open(cohort_2d / row["mask"])), mask * 255)


def test_cohort_3d_files(small: None, tmp_path: Path) -> None:
    folder = sample_cohort(3, tmp_path)
    assert counts(folder) == {("train", "0"): 60, ("val", "0"): 39, ("test", "0"): 20, ("test", "1"): 20}
    assert {row["class"] for row in rows(folder)} == {"normal", *LESIONS}
    row = rows(folder)[-1]
    image, mask = (nib.Nifti1Image.from_filename(folder / row[name]) for name in ("image", "mask"))
    affine = np.asarray(image.affine)
    assert nib.aff2axcodes(affine) == ("R", "A", "S")
    assert image.header.get_zooms() == (4, 4, 4) and image.get_data_dtype() == np.uint8
    assert np.array_equal(affine, mask.affine)
    # The field of view of the real cohort, 48 voxels, has the scanner's origin inside the head.
    assert (np.linalg.solve(affine, [0, 0, 0, 1])[:3] // 48 == 0).all()
    assert set(np.unique(np.asarray(mask.dataobj))) == {0, 1}


def test_global_statistics_do_not_find_the_lesions(cohort_2d: Path) -> None:
    test = [row for row in rows(cohort_2d) if row["split"] == "test"]
    images = [np.asarray(Image.open(cohort_2d / row["image"]), dtype=float) for row in test]
    labels = [int(row["label"]) for row in test]
    edges = [np.hypot(*np.gradient(image)) for image in images]
    scores = {
        "mean": [image.mean() for image in images],
        "max": [image.max() for image in images],
        "standard deviation": [image.std() for image in images],
        "gradient": [edge.mean() for edge in edges],
        "gradient energy": [(edge**2).mean() for edge in edges],
    }
    auroc = {name: roc_auc_score(labels, values) for name, values in scores.items()}
    assert all(0.35 < value < 0.70 for value in auroc.values()), auroc


def test_comparison_with_normal_heads_finds_the_lesions(cohort_2d: Path) -> None:
    """What principal components of normal heads cannot rebuild shows the lesions: the task can be solved."""
    cases = rows(cohort_2d)
    images = np.stack([np.asarray(Image.open(cohort_2d / row["image"]), dtype=float) / 255 for row in cases])
    images = images.reshape(-1, 32, 4, 32, 4).mean(axis=(2, 4)).reshape(len(cases), -1)
    train = images[[row["split"] == "train" for row in cases]]
    components = np.linalg.svd(train - train.mean(0), full_matrices=False)[2][:30]
    test = images[[row["split"] == "test" for row in cases]] - train.mean(0)
    residual = np.abs(test - test @ components.T @ components).reshape(-1, 32, 32)
    smooth = ndimage.gaussian_filter(residual, (0, 1, 1)).reshape(len(test), -1)
    labels = [int(row["label"]) for row in cases if row["split"] == "test"]
    assert roc_auc_score(labels, np.sort(smooth, axis=1)[:, -10:].mean(axis=1)) > 0.95


def test_complete_folder_is_returned_untouched(small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = sample_cohort(2, tmp_path)
    monkeypatch.setattr(module, "generate_case", lambda *_: pytest.fail("generated again"))
    assert sample_cohort(2, tmp_path) == folder
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


@pytest.mark.parametrize("damage", ["no datalist", "cut datalist", "missing mask", "only images"])
def test_half_written_folder_is_replaced(small: None, tmp_path: Path, damage: str) -> None:
    folder = sample_cohort(2, tmp_path)
    datalist = folder / "datalist.csv"
    whole = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")}
    if damage == "no datalist":
        datalist.unlink()
    elif damage == "cut datalist":
        datalist.write_bytes(datalist.read_bytes()[:100])
    elif damage == "missing mask":
        next((folder / "masks").iterdir()).unlink()
    else:
        datalist.unlink()
        for mask in (folder / "masks").iterdir():
            mask.unlink()
    assert sample_cohort(2, tmp_path) == folder
    assert {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")} == whole
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_failure_leaves_nothing_behind(small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_write_array", full_disk)
    with pytest.raises(InputError, match="cannot be written.*XDG_CACHE_HOME"):
        sample_cohort(2, tmp_path)
    assert not list(tmp_path.iterdir())


def test_two_at_once_agree(small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both have generated everything before either moves it into place."""
    barrier, install, folders = threading.Barrier(2, timeout=60), module._install, []

    def install_together(*arguments: object) -> None:
        barrier.wait()
        install(*arguments)

    monkeypatch.setattr(module, "_install", install_together)
    threads = [threading.Thread(target=lambda: folders.append(sample_cohort(2, tmp_path))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert folders == [tmp_path / "sample_cohort_v1_2d"] * 2
    assert [path.name for path in tmp_path.iterdir()] == ["sample_cohort_v1_2d"]
    assert len(list((folders[0] / "images").iterdir())) == 10


def test_cache_folder_and_its_fallback(small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setattr(module.tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert sample_cohort(2) == tmp_path / "temporary" / "medad" / "sample_cohort_v1_2d"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(module.tempfile, "tempdir", str(tmp_path / "elsewhere"))
    assert sample_cohort(2) == tmp_path / "cache" / "medad" / "sample_cohort_v1_2d"


def test_errors() -> None:
    with pytest.raises(InputError, match="expected 2 or 3, found 4"):
        sample_cohort(4)
    with pytest.raises(InputError, match="expected 2 or 3, found 1"):
        generate_case(1, 16, 0)
    with pytest.raises(ValueError, match="unknown lesion 'cyst', expected one of bright_blob"):
        generate_case(2, 32, 0, "cyst")
