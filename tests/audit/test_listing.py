"""Reading lists as the loaders do, and those that the loaders refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medad_plugins.audit.listing import read_leniently
from medad_plugins.data import find_cases, read_datalist
from medad_plugins.errors import InputError


def _files(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_a_list_in_order_gives_the_loaders_cases(tmp_path: Path) -> None:
    _files(tmp_path, "csv/a.png", "csv/sub/b.png", "json/images/a.png", "json/images/b.png")
    (tmp_path / "csv/datalist.csv").write_text("image,label,split,patient\na.png,0,train,x\nsub/b.png,1,test,y\n")
    content = {"train": {"0": ["a.png"]}, "test": {"1": ["b.png"]}}
    (tmp_path / "json/data.json").write_text(json.dumps(content))
    _files(tmp_path, "classes/train/normal/a.png", "classes/test/tumour/b.png")
    for name in ("csv", "json", "classes"):
        cases = read_leniently(tmp_path / name)
        assert cases == find_cases(tmp_path / name, split="all")
        assert len(cases) == 2
    listed = tmp_path / "csv" / "datalist.csv"
    assert read_leniently(datalist=listed) == read_datalist(listed)


def test_files_and_patients_in_two_splits_are_kept_with_ids_of_their_own(tmp_path: Path) -> None:
    _files(tmp_path, "a.png", "b.png")
    rows = ["image,label,split,patient", "a.png,0,train,x", "b.png,0,test,x", "a.png,0,test,x", "a.png,0,test,x"]
    (tmp_path / "datalist.csv").write_text("\n".join(rows), encoding="utf-8")
    with pytest.raises(InputError):
        find_cases(tmp_path, split="all")
    cases = read_leniently(tmp_path)
    assert [case["case_id"] for case in cases] == ["a", "b", "a__2", "a__3"]
    assert [case["split"] for case in cases] == ["train", "test", "test", "test"]
    assert all(Path(case["image"]).is_file() for case in cases)


def test_what_is_no_list_is_refused_as_by_the_loaders(tmp_path: Path) -> None:
    (tmp_path / "datalist.csv").write_text("image,label\na.png,5\n", encoding="utf-8")
    with pytest.raises(InputError, match="a label is not 0 or 1"):
        read_leniently(tmp_path)
    (tmp_path / "datalist.csv").write_text("image,label\n", encoding="utf-8")
    with pytest.raises(InputError, match="the datalist lists no scan"):
        read_leniently(tmp_path)
    with pytest.raises(InputError, match="the data folder does not exist"):
        read_leniently(tmp_path / "nowhere")
