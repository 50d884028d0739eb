"""Reading datalists and class folders."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medad_plugins.data.datalists import find_datalist, make_case_ids, read_datalist, same_keys
from medad_plugins.errors import InputError


def write_list(
    folder: Path, *rows: str, header: str = "image,label,mask,split,class", name: str = "datalist.csv"
) -> Path:
    path = folder / name
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def save_image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(path)
    return path


def test_csv_row_becomes_case(tmp_path: Path) -> None:
    save_image(tmp_path / "images/no/No1.png")
    path = write_list(
        tmp_path, "images/no/No1.png,1,masks/No1.png,test,tumor,7", header="image,label,mask,split,class,rep"
    )
    assert read_datalist(path) == [
        {
            "image": str(tmp_path / "images/no/No1.png"),
            "case_id": "images__no__No1",
            "label": 1,
            "mask": str(tmp_path / "masks/No1.png"),
            "split": "test",
            "class": "tumor",
            "rep": "7",
        }
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_as_spreadsheets_write_it(tmp_path: Path, delimiter: str) -> None:
    path = tmp_path / "datalist.csv"
    lines = ["Image,LABEL,Split", '"a, b.png",0.0,Training', "", "c.png,1.0,VAL"]
    text = "\r\n".join(
        line.replace(",", delimiter) if '"' not in line else f'"a, b.png"{delimiter}0.0{delimiter}Training'
        for line in lines
    )
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    cases = read_datalist(path)
    assert [(case["label"], case["split"]) for case in cases] == [(0, "train"), (1, "val")]
    assert cases[0]["image"] == str(tmp_path / "a, b.png")


def test_paths_of_the_data_folder_and_from_windows(tmp_path: Path) -> None:
    data, lists = tmp_path / "data", tmp_path / "lists"
    save_image(data / "sub/a.png")
    lists.mkdir()
    case = read_datalist(write_list(lists, "sub\\a.png,0,,train,normal"), data)[0]
    assert (case["image"], case["case_id"]) == (str(data / "sub/a.png"), "sub__a")


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        ("file,label", "a.png,0", "no column image"),
        ("image,label", "a.png,2", "label is not 0 or 1: .*row 2 .*found 2"),
        ("image,label", "a.png,labelsTr/a.nii.gz", "label is not 0 or 1"),
        ("image,label,split", "a.png,0,fold1", "split is unknown: .*row 2 .*found fold1"),
        ("image,label", ",0", "names no image: .*row 2"),
        ("image,label", "a.png,0,x", "longer than the header: .*row 2"),
        ("image,label,label", "a.png,0,1", "two columns of one name"),
        ("image,label", "", "lists no scan"),
    ],
)
def test_faulty_csv_is_refused(tmp_path: Path, header: str, row: str, message: str) -> None:
    path = write_list(tmp_path, row, header=header)
    with pytest.raises(InputError, match=message):
        read_datalist(path)


def test_file_twice_or_in_two_splits_is_refused(tmp_path: Path) -> None:
    save_image(tmp_path / "a.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "a.png")
    with pytest.raises(InputError, match="in two splits: .*link.png .*in train and in test"):
        read_datalist(write_list(tmp_path, "a.png,0,,train,", "link.png,0,,test,"))
    with pytest.raises(InputError, match="listed twice"):
        read_datalist(write_list(tmp_path, "a.png,0,,train,", "./a.png,0,,train,"))


def test_patient_in_two_splits_is_refused_without_naming_the_patient(tmp_path: Path) -> None:
    header = "image,label,split,patient,cluster"
    path = write_list(tmp_path, "a.png,0,train,Doe^Jane,1", "b.png,0,test,Doe^Jane,2", header=header)
    with pytest.raises(InputError, match="a.png in train and b.png in test") as caught:
        read_datalist(path)
    assert "Doe" not in str(caught.value)


def test_cluster_in_two_splits_is_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = ["a.png,0,train,1", "b.png,0,test,1", "c.png,0,train,2", "d.png,0,val,2", "e.png,0,val,"]
    cases = read_datalist(write_list(tmp_path, *rows, header="image,label,split,cluster"))
    assert len(cases) == 5
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "2 in several" in caplog.text


def test_partly_known_labels_are_dropped_with_a_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cases = read_datalist(write_list(tmp_path, "a.png,0,,,", "b.png,,,,"))
    assert [case.get("label") for case in cases] == [0, None]
    assert all("label" not in case for case in same_keys(cases))
    assert "1 of 2 cases have no label" in caplog.text
    assert same_keys(cases[:1]) == cases[:1]


def test_columns_of_results_do_not_shadow_results(tmp_path: Path) -> None:
    case = read_datalist(write_list(tmp_path, "x,a.png,0.5,1", header="case_id,image,p_value,label"))[0]
    assert case == {"image": str(tmp_path / "a.png"), "label": 1, "case_id": "a"}


def test_json_lists(tmp_path: Path) -> None:
    path = tmp_path / "datalist.json"
    rows = {
        "training": [{"image": "a.png", "label": 0}],
        "validation": [],
        "test": ["b.nii.gz"],
        "name": "x",
        "modality": ["MR"],
    }
    path.write_text(json.dumps(rows))
    cases = read_datalist(path)
    assert [(case["case_id"], case["split"], case.get("label")) for case in cases] == [
        ("a", "train", 0),
        ("b", "test", None),
    ]
    path.write_text(json.dumps([{"image": "a.png", "label": 1, "patient": 12, "mask": None}]))
    assert read_datalist(path)[0] == {
        "image": str(tmp_path / "a.png"),
        "label": 1,
        "patient": "12",
        "mask": "",
        "case_id": "a",
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        ('{"images": 3}', "no list of scans"),
        ('{"fold0": [{"image": "a.png"}]}', "split is unknown"),
        ("[3]", "not a row"),
        ('[{"image": ["a.png", "b.png"]}]', "not one path"),
        ("[]", "lists no scan"),
        ("3", "does not have the expected form"),
    ],
)
def test_faulty_json_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "datalist.json"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_datalist(path)


def test_medianomaly_list(tmp_path: Path) -> None:
    save_image(tmp_path / "images/a.png")
    path = tmp_path / "data.json"
    path.write_text(json.dumps({"train": {"0": ["a.png"], "1": ["b.png"]}, "test": {"0": ["c.png"], "1": ["d.png"]}}))
    cases = read_datalist(path)
    assert cases[0]["image"] == str(tmp_path / "images/a.png")
    found = [(case["split"], case["label"], case["class"]) for case in cases]
    assert found == [("train", 0, "normal"), ("train", 1, "abnormal"), ("test", 0, "normal"), ("test", 1, "abnormal")]
    assert find_datalist(tmp_path) == path


def test_class_folders_with_masks(tmp_path: Path) -> None:
    for name in (
        "train/good/000.png",
        "test/good/000.png",
        "test/cyst/000.png",
        "test/tumor/000.png",
        "test/tumor/001.png",
    ):
        save_image(tmp_path / name)
    save_image(tmp_path / "masks/cyst/000.png")
    save_image(tmp_path / "ground_truth/tumor/000_mask.png")
    assert find_datalist(tmp_path) == tmp_path
    cases = {case["case_id"]: case for case in read_datalist(tmp_path)}
    assert {name: case["label"] for name, case in cases.items()} == {
        "test__cyst__000": 1,
        "test__good__000": 0,
        "test__tumor__000": 1,
        "test__tumor__001": 1,
        "train__good__000": 0,
    }
    assert cases["test__cyst__000"]["mask"] == str(tmp_path / "masks/cyst/000.png")
    assert cases["test__tumor__000"]["mask"] == str(tmp_path / "ground_truth/tumor/000_mask.png")
    assert cases["test__tumor__001"]["mask"] == cases["test__good__000"]["mask"] == ""


def test_class_folders_of_bmad_and_medianomaly(tmp_path: Path) -> None:
    bmad, brats = tmp_path / "bmad", tmp_path / "brats"
    for name in ("train/good/img/1.png", "valid/good/img/2.png", "test/Ungood/img/3.png", "test/Ungood/label/3.png"):
        save_image(bmad / name)
    for name in (
        "train/x_flair_1.png",
        "test/normal/n_flair_1.png",
        "test/tumor/y_flair_2.png",
        "test/annotation/y_seg_2.png",
    ):
        save_image(brats / name)
    found = {case["split"]: (case["label"], Path(case["mask"]).parent.name) for case in read_datalist(bmad)}
    assert found == {"test": (1, "label"), "train": (0, ""), "val": (0, "")}
    cases = read_datalist(brats)
    assert [(case["split"], case["label"], Path(case["mask"]).name) for case in cases] == [
        ("test", 0, ""),
        ("test", 1, "y_seg_2.png"),
        ("train", 0, ""),
    ]


def test_mask_that_fits_two_scans_is_refused(tmp_path: Path) -> None:
    for name in ("train/normal/a.png", "test/cyst/a.png", "test/tumor/a.png", "masks/a.png"):
        save_image(tmp_path / name)
    with pytest.raises(InputError, match="one mask fits two scans"):
        read_datalist(tmp_path)


def test_case_ids_are_unique_and_safe(tmp_path: Path) -> None:
    names = [
        "a/b.png",
        "a/b.jpg",
        "a__b.png",
        "A/c.png",
        "a/C.png",
        "../other/d e.nii.gz",
        "1.2.840",
        "x" * 300 + ".png",
    ]
    ids = make_case_ids([tmp_path / name for name in names], tmp_path)
    assert len({case_id.casefold() for case_id in ids}) == len(names)
    assert ids[1] == "a__b.jpg" and ids[5:7] == ["d_e", "1.2.840"]
    assert all(len(case_id) < 140 and "/" not in case_id and " " not in case_id for case_id in ids)
    reverse = make_case_ids([tmp_path / name for name in reversed(names)], tmp_path)
    assert reverse == ids[::-1]
    assert make_case_ids([tmp_path], tmp_path) == [tmp_path.name]


def test_find_datalist(tmp_path: Path) -> None:
    assert find_datalist(tmp_path) is None
    path = write_list(tmp_path, "a.png,0,,,", name="mine.csv")
    assert find_datalist(tmp_path, "mine.csv") == find_datalist("", path) == find_datalist(path) == path
    with pytest.raises(InputError, match="data folder does not exist"):
        find_datalist(tmp_path / "none")
    with pytest.raises(InputError, match="datalist does not exist"):
        find_datalist(tmp_path, "none.csv")


def test_ids_of_scans_outside_the_folder_do_not_tell_where_they_are(tmp_path: Path) -> None:
    folder = tmp_path / "prepared"
    scans = [tmp_path / "home" / "ward" / name for name in ("no/1.png", "yes/1.png")]
    assert make_case_ids([*scans, folder / "made" / "2.png"], folder) == ["no__1", "yes__1", "made__2"]
    assert make_case_ids(scans[:1], folder) == ["1"]
    assert make_case_ids([tmp_path / "prepared2" / "x.png"], folder) == ["x"]
