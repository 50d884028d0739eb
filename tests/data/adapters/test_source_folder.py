"""Finding a data set's root and reading its tables, with the mistakes people make when they unzip."""

from __future__ import annotations

from pathlib import Path

import pytest

from medad_plugins.data.adapters.source_folder import find_root, inside, pictures
from medad_plugins.data.adapters.tables import read_number, read_table
from medad_plugins.errors import InputError

LAYOUT = ("train.csv", "images/train")


def make(folder: Path) -> Path:
    (folder / "images" / "train").mkdir(parents=True)
    (folder / "train.csv").write_text("name\n1\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize("start", [".", "a", "a/b", "a/b/set/images", "a/b/set/images/train"])
def test_root_is_found_from_a_level_too_high_or_too_low(tmp_path: Path, start: str) -> None:
    root = make(tmp_path / "a" / "b" / "set")
    found, layout = find_root(tmp_path / start, ("other.csv",), LAYOUT)
    assert found.resolve() == root.resolve()
    assert layout == 1


def test_the_given_folder_wins_over_a_copy_below_it(tmp_path: Path) -> None:
    root = make(tmp_path / "set")
    make(root / "set")
    assert find_root(root, LAYOUT)[0] == root


def test_upper_and_lower_case_are_not_distinguished(tmp_path: Path) -> None:
    (tmp_path / "Images" / "Train").mkdir(parents=True)
    (tmp_path / "TRAIN.csv").write_text("", encoding="utf-8")
    assert find_root(tmp_path, LAYOUT)[0] == tmp_path
    assert inside(tmp_path, "images/train") == tmp_path / "Images" / "Train"
    assert not inside(tmp_path, "images/test").exists()


def test_unzipped_twice_is_refused_with_both_places(tmp_path: Path) -> None:
    make(tmp_path / "set")
    make(tmp_path / "set (1)")
    with pytest.raises(InputError, match=r"several folders .*expected 1, found .*set.*set \(1\).*give one of them"):
        find_root(tmp_path, LAYOUT)


def test_what_is_missing_is_named_with_where_it_belongs(tmp_path: Path) -> None:
    (make(tmp_path / "set") / "train.csv").unlink()
    with pytest.raises(InputError, match=r"missing: .*set \(expected train.csv beside images/train\); unzip the whole"):
        find_root(tmp_path, LAYOUT)


def test_a_packed_archive_and_a_wrong_part_are_named(tmp_path: Path) -> None:
    (tmp_path / "train.zip").write_bytes(b"")
    with pytest.raises(InputError, match="found train.zip.*; unzip train.zip"):
        find_root(tmp_path, LAYOUT)
    (tmp_path / "stage_1").mkdir()
    with pytest.raises(InputError, match="another part.*stage_1; get stage 2"):
        find_root(tmp_path, LAYOUT, wrong={"stage_1": "get stage 2"})
    with pytest.raises(InputError, match="not a folder"):
        find_root(tmp_path / "nowhere", LAYOUT)


def test_traces_of_macos_are_no_pictures(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpeg", "._a.jpeg", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in pictures(tmp_path)] == ["a.jpeg", "b.PNG"]
    assert pictures(tmp_path / "nowhere") == []


def test_table_as_published_and_as_a_spreadsheet_saves_it(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xef\xbb\xbfid;x \r\n p1 ;2.5\r\n;\r\np2;\r\n")
    assert read_table(path, ("id", "x")) == [{"id": "p1", "x": "2.5"}, {"id": "p2", "x": ""}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"id,y\na,b\n", "lacks a column.*expected column x, found id, y"),
        (b"", "lacks a column.*an empty file"),
        (b"id,x\n", "has no rows"),
        (b"id,x\nMiller\n", "row 2 .expected 2 values, found 1"),
        (b"id,x\n\xff\xfe,1\n", "cannot be read.*UTF-8"),
    ],
)
def test_faulty_tables_are_refused_without_repeating_values(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        read_table(path, ("id", "x"))
    assert "Miller" not in str(error.value)


def test_a_number_of_a_table(tmp_path: Path) -> None:
    assert read_number("2.5", tmp_path, "x") == 2.5
    with pytest.raises(InputError, match="column x") as error:
        read_number("Miller", tmp_path, "x")
    assert "Miller" not in str(error.value)
