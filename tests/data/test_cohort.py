"""Which cases are trained on, held out, tested, and run on."""

from __future__ import annotations

import shutil
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medad_plugins.data import Cohort, find_cases, hold_out
from medad_plugins.data.datalists import Case
from medad_plugins.errors import InputError

HEADER = "image,label,mask,split,class"


def write_data(folder: Path, *rows: str, header: str = HEADER) -> Path:
    """A datalist and empty files for its images."""
    folder.mkdir(exist_ok=True)
    (folder / "datalist.csv").write_text("\n".join([header, *rows]) + "\n")
    for row in rows:
        (folder / row.split(",")[0]).touch()
    return folder


def plain_rows(split: str, label: int, count: int) -> list[str]:
    return [f"{split}{label}_{number}.png,{label},,{split},x" for number in range(count)]


def test_splits_of_a_list_are_kept(tmp_path: Path) -> None:
    rows = [row for split in ("train", "val", "test") for row in plain_rows(split, 0, 4) + plain_rows(split, 1, 2)]
    data = Cohort(write_data(tmp_path / "brains", *rows))
    assert [len(cases) for cases in (data.train, data.validation, data.test)] == [4, 4, 6]
    assert {case["label"] for case in data.train + data.validation} == {0}
    assert data.describe() == (
        "brains: 4 normal cases to train on, 4 held-out normal cases (split val), test set of 4 normal + 2 abnormal.\n"
        "Left out because training and calibration use normal cases only: 2 in train, 2 in val."
    )


def test_normals_are_held_out_where_there_is_no_val_split(tmp_path: Path) -> None:
    folder = write_data(tmp_path / "data", *plain_rows("train", 0, 20), *plain_rows("train", 1, 3))
    first, again, other = Cohort(folder), Cohort(folder), Cohort(folder, seed=1)
    assert (len(first.train), len(first.validation)) == (17, 3)
    assert first.validation == again.validation != other.validation
    assert {case["split"] for case in first.validation} == {"val"}
    assert "drawn from train with seed 0" in first.describe()
    assert "3 in train, 0 in val" in first.describe()
    assert len(Cohort(folder, validation_fraction=0.5).validation) == 10


def test_list_without_splits_is_for_training(tmp_path: Path) -> None:
    folder = write_data(tmp_path, *(f"{number}.png,0" for number in range(10)), "x.png,1", header="image,label")
    data = Cohort(folder)
    assert (len(data.train), len(data.validation), len(data.test)) == (8, 2, 0)
    assert len(find_cases(folder)) == 11


def grouped(column: str, groups: int = 20, size: int = 3) -> list[Case]:
    return [{"case_id": f"{group}_{number}", column: str(group)} for group in range(groups) for number in range(size)]


@pytest.mark.parametrize("column", ["patient", "cluster"])
def test_groups_are_held_out_whole_whatever_the_order(column: str) -> None:
    cases = grouped(column)
    stay, held = hold_out(cases, 0.15, seed=3)
    assert len(held) == 9 and len(stay) == 51
    assert not {case[column] for case in stay} & {case[column] for case in held}
    shuffled = [cases[index] for index in np.random.RandomState(0).permutation(len(cases))]
    assert {case["case_id"] for case in hold_out(shuffled, 0.15, seed=3)[1]} == {case["case_id"] for case in held}
    assert hold_out(cases, 0.15, seed=4)[1] != held


def test_patient_wins_over_cluster() -> None:
    cases = [case | {"cluster": str(index)} for index, case in enumerate(grouped("patient"))]
    stay, held = hold_out(cases, 0.15, seed=0)
    assert not {case["patient"] for case in stay} & {case["patient"] for case in held}


def test_large_groups_leave_one_to_train_on() -> None:
    sizes = {"a": 10, "b": 4, "c": 10}
    cases: list[Case] = [{"case_id": f"{k}{i}", "patient": k} for k, size in sizes.items() for i in range(size)]
    assert {case["patient"] for case in hold_out(cases, 0.1, seed=0)[1]} == {"b"}
    assert hold_out(cases, 0.99, seed=0)[0]
    with pytest.raises(InputError, match="no normal case can be held out"):
        hold_out(cases[:10], 0.1, seed=0)
    with pytest.raises(InputError, match="validation_fraction"):
        hold_out(cases, 1.0, seed=0)


def test_cohort_refuses_what_cannot_be_trained_on(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="data folder is empty"):
        Cohort(empty)
    (empty / "a.png").touch()
    with pytest.raises(InputError, match="has no datalist"):
        Cohort(empty)
    with pytest.raises(InputError, match="no normal case to train on.*found 0 normal \\+ 2 abnormal in test"):
        Cohort(write_data(tmp_path / "abnormal", *plain_rows("test", 1, 2)))
    with pytest.raises(InputError, match="has no labels"):
        Cohort(write_data(tmp_path / "unlabelled", "a.png,train", header="image,split"))


def test_missing_files_are_counted_and_three_named(tmp_path: Path) -> None:
    folder = write_data(tmp_path, *plain_rows("train", 0, 6), *plain_rows("test", 0, 1))
    for number in range(5):
        (folder / f"train0_{number}.png").unlink()
    with pytest.raises(InputError, match="5 of 7 missing, first .*train0_0.png, .*train0_1.png, .*train0_2.png\\)"):
        Cohort(folder)
    assert len(find_cases(folder)) == 1
    with pytest.raises(InputError, match="listed masks do not exist"):
        Cohort(write_data(tmp_path, *plain_rows("train", 0, 2), "t.png,1,mask.png,test,x"))


def test_unlabelled_test_rows_leave_training_labels(tmp_path: Path) -> None:
    folder = write_data(tmp_path, *plain_rows("train", 0, 4), *plain_rows("test", 0, 1), "u.png,,,test,x")
    data = Cohort(folder)
    assert all(case["label"] == 0 for case in data.train)
    assert len(data.test) == 2 and not any("label" in case for case in data.test)


def test_find_cases_by_split_and_condition(tmp_path: Path) -> None:
    rows = ["a.png,0,train,1", "b.png,0,test,1", "c.png,1,test,0", "d.png,1,test,1"]
    folder = write_data(tmp_path, *rows, header="image,label,split,rep")
    assert [case["case_id"] for case in find_cases(folder)] == ["b", "c", "d"]
    assert [case["case_id"] for case in find_cases(folder, where="rep=1")] == ["b", "d"]
    assert [case["case_id"] for case in find_cases(folder, split="all", where="label = 0")] == ["a", "b"]
    for split, where, message in (
        ("val", "", "no case in this split.*found test, train"),
        ("fold1", "", "split is unknown"),
        ("test", "rep", "condition is not understood"),
        ("test", "group=1", "lacks a column"),
        ("test", "rep=9", "no case meets the condition"),
    ):
        with pytest.raises(InputError, match=message):
            find_cases(folder, split=split, where=where)


def test_one_missing_file_is_left_to_the_loader(tmp_path: Path) -> None:
    folder = write_data(tmp_path, *plain_rows("test", 0, 2))
    (folder / "test0_0.png").unlink()
    assert len(find_cases(folder)) == 2
    (folder / "test0_1.png").unlink()
    with pytest.raises(InputError, match="2 of 2 missing"):
        find_cases(folder)


def test_find_cases_in_a_plain_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scans = [tmp_path / "b/2.png", tmp_path / "a.png"]
    for scan in scans:
        scan.parent.mkdir(exist_ok=True)
        scan.touch()
    monkeypatch.setattr(import_module("medad_plugins.data.find_cases"), "find_scans", lambda folder: scans)
    assert find_cases(tmp_path) == [
        {"image": str(scans[0]), "case_id": "b__2"},
        {"image": str(scans[1]), "case_id": "a"},
    ]
    assert find_cases(scans[0]) == [{"image": str(scans[0]), "case_id": "2"}]


def test_real_scans_in_a_plain_folder(tmp_path: Path, shared_data: Path) -> None:
    shutil.copytree(shared_data / "dicom" / "hippocrop_mr", tmp_path / "series")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "picture.png")
    assert [case["case_id"] for case in find_cases(tmp_path)] == ["picture", "series"]
    assert [case["case_id"] for case in find_cases(tmp_path / "series")] == ["series"]


def test_nothing_given_takes_the_sample_cohort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = plain_rows("train", 0, 4) + plain_rows("val", 0, 2) + plain_rows("test", 1, 3)
    folder = write_data(tmp_path / "generated", *rows)
    asked: list[int] = []

    def generate(spatial_dims: int) -> Path:
        asked.append(spatial_dims)
        return folder

    monkeypatch.setattr(import_module("medad_plugins.data.sample_cohort"), "sample_cohort", generate)
    assert Cohort(spatial_dims=3).name == "sample cohort (3D)"
    assert len(find_cases(None, None)) == 3
    assert asked == [3, 2]


def test_real_sample_cohort() -> None:
    data = Cohort()
    assert data.train and data.validation
    assert {case["label"] for case in data.test} == {0, 1}
    assert find_cases() == data.test


@pytest.mark.parametrize(
    ("name", "datalist", "counts"),
    [
        ("br35h", "", (850, 150, 2000)),
        ("br35h", "datalist_grouped.csv", (993, 150, 1630)),
        ("br35h", "datalist_masks.csv", (850, 150, 1301)),
        ("msd_hippocampus_3d", "", (85, 15, 35)),
        ("mednist_small", "", (200, 30, 320)),
    ],
)
def test_real_lists(shared_data: Path, name: str, datalist: str, counts: tuple[int, int, int]) -> None:
    data = Cohort(shared_data / name, datalist)
    assert (len(data.train), len(data.validation), len(data.test)) == counts
    cases = data.train + data.validation + data.test
    assert len({case["case_id"].casefold() for case in cases}) == len(cases)
    assert len({tuple(sorted(case)) for case in cases}) == 1
    assert ("anatomy" in cases[0]) == (name == "msd_hippocampus_3d")


def test_real_lists_for_inference(shared_data: Path) -> None:
    assert len(find_cases(shared_data / "br35h", "datalist_grouped.csv", where="rep=1")) == 86 + 574
    with pytest.raises(InputError, match="no normal case to train on"):
        Cohort(shared_data / "mslub_3d")
    assert len(find_cases(shared_data / "mslub_3d")) == 5
    series = find_cases(shared_data / "dicom")
    assert len(series) == 3 and all(Path(case["image"]).is_dir() and "label" in case for case in series)
    assert not any("label" in case for case in find_cases(shared_data / "dicom", split="all"))


def test_a_fifth_is_held_out_to_choose_weights_by_where_requested(tmp_path: Path) -> None:
    folder = write_data(tmp_path / "data", *plain_rows("train", 0, 20), *plain_rows("val", 0, 5))
    data = Cohort(folder, selection=True)
    assert [len(cases) for cases in (data.train, data.selection, data.validation)] == [16, 4, 5]
    assert not {case["case_id"] for case in data.train} & {case["case_id"] for case in data.selection}
    assert "16 normal cases to train on, 4 to choose the weights by, 5 held-out" in data.describe()
    assert not Cohort(folder).selection
