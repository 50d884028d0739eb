"""A published layout becomes a folder that bundles read; each common mistake is reported in one sentence."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from layout_imitations import IMITATIONS, VARIANTS, Imitation, atlas, volume

from medad_plugins.data import Cohort, find_cases, read_scan
from medad_plugins.data.adapters import ADAPTERS, Edition, find_adapter
from medad_plugins.errors import InputError
from medad_plugins.transforms import read_mask


def prepare(name: str, imitation: Imitation, source: Path, output: Path, allow_partial: bool = False) -> Path:
    adapter = replace(ADAPTERS[name], editions=(Edition("small", imitation.counts),), sizes=imitation.sizes)
    return adapter.prepare(source, output, seed=1, allow_partial=allow_partial)


@pytest.mark.parametrize(
    ("name", "imitation"), [*IMITATIONS.items(), *VARIANTS.items()], ids=[*IMITATIONS, *(f"{v}-2" for v in VARIANTS)]
)
def test_a_published_layout_becomes_a_folder_that_bundles_read(tmp_path: Path, name: str, imitation: Imitation) -> None:
    imitation.build(tmp_path / "download" / "set")
    before = sorted((tmp_path / "download").rglob("*"))
    path = prepare(name, imitation, tmp_path / "download", tmp_path / "out")

    assert path == tmp_path / "out" / "datalist.csv"
    assert sorted((tmp_path / "download").rglob("*")) == before
    cohort = Cohort(tmp_path / "out", validation_fraction=0.4)
    assert all(case["label"] == 0 for case in cohort.train + cohort.validation)
    cases = find_cases(tmp_path / "out", split="all")
    assert Counter(f"{case['split']}/{case['class']}" for case in cases) == imitation.expected
    for case in cases:
        kind = case["class"]
        assert case["label"] == int(kind not in ("normal", "nevus", "good"))
        scan = read_scan(Path(case["image"]))
        if case["mask"]:
            assert case["label"] == 1
            mask = read_mask(case["mask"], scan[0].shape[:2])
            assert mask.any()
    assert sum(bool(case["mask"]) for case in cases) == imitation.masks
    record = json.loads((tmp_path / "out" / "prepared.json").read_text("utf-8"))
    assert record["edition"] == "small" and record["counts"] == dict(sorted(imitation.expected.items()))
    assert str(tmp_path) not in json.dumps(record)

    again = prepare(name, imitation, tmp_path / "download", tmp_path / "again")
    assert again.read_text("utf-8") == path.read_text("utf-8")


@pytest.mark.parametrize("name", IMITATIONS)
def test_a_scan_missing_half_way_is_refused_and_named(tmp_path: Path, name: str) -> None:
    imitation = IMITATIONS[name]
    source = tmp_path / "set"
    imitation.build(source)
    prepare(name, imitation, source, tmp_path / "whole")
    victim = next(case for case in find_cases(tmp_path / "whole", split="test") if case["label"])
    victim_path = Path(victim["image"])
    if name == "medmnist":
        (source / "pneumoniamnist_28.npz").write_bytes((source / "pneumoniamnist_28.npz").read_bytes()[:200])
        with pytest.raises(InputError, match="damaged"):
            prepare(name, imitation, source, tmp_path / "out")
        return
    victim_path.unlink()
    with pytest.raises(InputError, match=rf"first {victim_path.name}|counts are not the published ones"):
        prepare(name, imitation, source, tmp_path / "out")
    assert not (tmp_path / "out" / "datalist.csv").exists()
    prepare(name, imitation, source, tmp_path / "out", allow_partial=True)
    images = {case["image"] for case in find_cases(tmp_path / "out", split="all")}
    assert victim["image"] not in images and images


@pytest.mark.parametrize("name", [name for name in IMITATIONS if name != "medmnist"])
def test_unzipped_twice_is_refused(tmp_path: Path, name: str) -> None:
    for folder in ("set", "set (1)"):
        IMITATIONS[name].build(tmp_path / folder)
    with pytest.raises(InputError, match="several folders hold the data set"):
        prepare(name, IMITATIONS[name], tmp_path, tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "remove", "message"),
    [
        ("rsna", "stage_2_train_labels.csv", "expected stage_2_train_labels.csv beside"),
        ("rsna", "stage_2_train_images", "expected stage_2_train_images beside"),
        ("vindr_cxr", "annotations/image_labels_train.csv", "is missing"),
        ("br35h", "no", "expected no beside yes|pred has no labels"),
        ("brain_tumor", "Testing", "expected Testing/notumor, .* beside Training/notumor"),
        ("oct2017", "test/DME", "expected test/DME beside train/NORMAL"),
        ("lag", "non_glaucoma", "expected non_glaucoma/image beside suspicious_glaucoma/image"),
        ("aptos2019", "train.csv", "test images have no grades"),
        ("isic2018", "ISIC2018_Task3_Validation_GroundTruth", "ground truth is missing.*Validation_GroundTruth.zip"),
        ("medianomaly", "data.json", "expected data.json beside images"),
        ("bmad", "test", "expected test/good, test/Ungood beside train/good, valid"),
    ],
)
def test_a_missing_part_is_named(tmp_path: Path, name: str, remove: str, message: str) -> None:
    IMITATIONS[name].build(tmp_path / "set")
    gone = tmp_path / "set" / remove
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    with pytest.raises(InputError, match=message):
        prepare(name, IMITATIONS[name], tmp_path / "set", tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "folder", "message"),
    [
        ("rsna", "stage_1_train_images", "this is stage 1"),
        ("rsna", "stage_2_test_images", "test images have no labels"),
        ("brain_tumor", "Training/no_tumor", "Bhuvaji"),
        ("oct2017", "train/PNEUMONIA", "chest X-ray"),
        ("isic2018", "ISIC2018_Task1-2_Training_Input", "task 3"),
        ("atlas", "Testing", "get the folder Training"),
    ],
)
def test_a_wrong_part_is_distinguished_from_the_right_one(tmp_path: Path, name: str, folder: str, message: str) -> None:
    (tmp_path / "set" / folder).mkdir(parents=True)
    with pytest.raises(InputError, match=message):
        ADAPTERS[name].prepare(tmp_path, tmp_path / "out")


def test_rsna_keeps_the_patients_of_nih_together(tmp_path: Path) -> None:
    IMITATIONS["rsna"].build(tmp_path / "set")
    prepare("rsna", IMITATIONS["rsna"], tmp_path / "set", tmp_path / "out")
    splits: dict[str, set[str]] = {}
    for case in find_cases(tmp_path / "out", split="all"):
        splits.setdefault(case["patient"], set()).add(case["split"])
    assert all(len(found) == 1 for found in splits.values())
    assert len(splits) < sum(IMITATIONS["rsna"].expected.values())
    # a mask is the union of the radiograph's two boxes
    case = next(case for case in find_cases(tmp_path / "out") if case["mask"])
    assert read_mask(case["mask"], (30, 20)).sum() == 2 * 5 * 4


def test_vindr_normal_means_that_no_reader_found_anything(tmp_path: Path) -> None:
    IMITATIONS["vindr_cxr"].build(tmp_path / "set")
    prepare("vindr_cxr", IMITATIONS["vindr_cxr"], tmp_path / "set", tmp_path / "out")
    abnormal = [Path(case["image"]).stem for case in find_cases(tmp_path / "out", split="all") if case["label"]]
    assert abnormal == ["b"]


def test_oct_patients_of_both_splits_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    IMITATIONS["oct2017"].build(tmp_path / "set")
    prepare("oct2017", IMITATIONS["oct2017"], tmp_path / "set", tmp_path / "out")
    assert "1 of 6 patients are in several" in caplog.text
    cases = find_cases(tmp_path / "out", split="all")
    assert all(case["cluster"] for case in cases) and "patient" not in cases[0]


def test_brats_slices_know_their_patients(tmp_path: Path) -> None:
    VARIANTS["medianomaly"].build(tmp_path / "set")
    prepare("medianomaly", VARIANTS["medianomaly"], tmp_path / "set", tmp_path / "out")
    assert {case["patient"] for case in find_cases(tmp_path / "out", split="train")} == {"00001", "00002", "00003"}


def test_atlas_has_masks_and_takes_normal_scans_from_elsewhere(tmp_path: Path) -> None:
    atlas(tmp_path / "set")
    for number in range(3):
        volume(tmp_path / "healthy" / f"ixi{number}.nii.gz")
    adapter = replace(ADAPTERS["atlas"], editions=(Edition("small", {"stroke": 2}),))
    adapter.prepare(tmp_path, tmp_path / "test_only")
    cases = find_cases(tmp_path / "test_only", split="test", spatial_dims=3)
    assert [case["label"] for case in cases] == [1, 1] and all(case["mask"] for case in cases)
    with pytest.raises(InputError, match="no normal case to train on"):
        Cohort(tmp_path / "test_only", spatial_dims=3)
    adapter.prepare(tmp_path / "set", tmp_path / "out", normals=str(tmp_path / "healthy"))
    cohort = Cohort(tmp_path / "out", spatial_dims=3)
    assert len(cohort.train) + len(cohort.validation) == 3 and len(cohort.test) == 2
    next((tmp_path / "set").rglob("*lesion_mask*")).unlink()
    with pytest.raises(InputError, match="a lesion mask is missing"):
        adapter.prepare(tmp_path / "set", tmp_path / "out")


def test_counts_and_sizes_of_the_survey() -> None:
    drawn = {
        "aptos2019": (1000, 805, 1857),
        "br35h": (1000, 500, 1500),
        "brain_tumor": (1000, 600, 600),
        "rsna": (3851, 1000, 1000),
    }
    for name, (train, normal, abnormal) in drawn.items():
        sizes = ADAPTERS[name].sizes
        assert sizes["train", "normal"] == train and sizes["test", "normal"] == normal
        assert sum(size for (split, kind), size in sizes.items() if split == "test" and kind != "normal") == abnormal
    kept = {"oct2017": (26315, 250, 750), "isic2018": (6705, 123, 70)}
    for name, (train, normal, abnormal) in kept.items():
        counts = ADAPTERS[name].editions[0].counts
        of_split = Counter(dict.fromkeys(("train", "normal", "abnormal"), 0))
        for key, count in counts.items():
            split, kind = key.split("/")
            of_split["train" if split == "train" else "normal" if kind in ("normal", "nevus") else "abnormal"] += count
        assert of_split == {"train": train, "normal": normal, "abnormal": abnormal}


def test_names_are_found_as_people_write_them() -> None:
    for text, name in (("Br35H", "br35h"), ("VinDr-CXR", "vindr_cxr"), ("fastMRI+", "fastmri_plus"), ("RSNA", "rsna")):
        assert find_adapter(text).name == name
    with pytest.raises(InputError, match="expected rsna, vindr_cxr.*found mnist"):
        find_adapter("mnist")
    with pytest.raises(InputError, match="no such option: br35h .*found colour"):
        ADAPTERS["br35h"].prepare("nowhere", "nowhere", colour=1)


def test_pneumoniamnist_and_br35h_as_they_are(shared_data: Path, tmp_path: Path) -> None:
    ADAPTERS["medmnist"].prepare(shared_data / "pneumoniamnist_28", tmp_path / "pneumonia")
    cohort = Cohort(tmp_path / "pneumonia")
    assert (len(cohort.train), len(cohort.validation), len(cohort.test)) == (1214, 135, 624)
    ADAPTERS["br35h"].prepare(shared_data / "br35h", tmp_path / "br35h")
    labels = Counter(case["label"] for case in find_cases(tmp_path / "br35h"))
    assert labels == {0: 500, 1: 1500} and len(find_cases(tmp_path / "br35h", split="train")) == 1000
