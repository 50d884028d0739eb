"""Lists as spreadsheets and scripts write them: every row is read, or a sentence says which is not."""

from __future__ import annotations

import csv
import io
import json
import logging
from pathlib import Path

import pytest

from medad_plugins.data import find_cases
from medad_plugins.data.cohort import Cohort
from medad_plugins.data.datalists import find_datalist, read_datalist
from medad_plugins.errors import InputError

ROWS = [("image", "label", "note"), ("a.png", "0", "Größe 5"), ("b.png", "1", 'an "odd" one'), ("c,d;e.png", "0", "")]


def _written(delimiter: str = ",", line: str = "\n", quoting: int = csv.QUOTE_MINIMAL) -> str:
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=delimiter, lineterminator=line, quoting=quoting).writerows(ROWS)  # type: ignore[arg-type]
    return file.getvalue()


def _read(path: Path, content: bytes) -> list[tuple[str, int | None, str]]:
    path.write_bytes(content)
    return [(Path(case["image"]).name, case.get("label"), case.get("note", "")) for case in read_datalist(path)]


EXPECTED = [(image, int(label), note) for image, label, note in ROWS[1:]]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
@pytest.mark.parametrize("line", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_every_encoding_line_end_and_separator(
    tmp_path: Path, encoding: str, line: str, delimiter: str, quoting: int
) -> None:
    content = _written(delimiter, line, quoting).encode(encoding)
    assert _read(tmp_path / "list.csv", content) == EXPECTED


@pytest.mark.parametrize(
    ("text", "images"),
    [
        ("sep=;\nimage;label\na.png;0\n", ["a.png"]),
        ("# made by a script, v2\n#\nimage,label\na.png,0\n", ["a.png"]),
        ("\n\nimage,label\n\na.png,0\n,,\n  \nb.png,1\n\n", ["a.png", "b.png"]),
        ("image,label,\na.png,0,\nb.png,1,,,\n", ["a.png", "b.png"]),
        (",image,label\n0,a.png,0\n1,b.png,1\n", ["a.png", "b.png"]),
        ('image, label\n"a.png", 0\n"b, c.png", "1"\n', ["a.png", "b, c.png"]),
        ('image,label,note\na.png,0,"two\nlines"\nb.png,1,\n', ["a.png", "b.png"]),
        ('image,label,size\na.png,0,5" wide\nb.png,1,6"\n', ["a.png", "b.png"]),
        ("IMAGE,Label\na.png,0\nb.png\n", ["a.png", "b.png"]),
        ("image,label,note\na.png,0," + "x" * 200_000 + "\nb.png,1,\n", ["a.png", "b.png"]),
        ("image\na.png\nb.png", ["a.png", "b.png"]),
    ],
)
def test_what_spreadsheets_and_scripts_write(tmp_path: Path, text: str, images: list[str]) -> None:
    assert [name for name, _, _ in _read(tmp_path / "list.csv", text.encode())] == images


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'image,label\n"a.png,0\nb.png,1\nc.png,0\n', "quote is left open.*row 2"),
        (b'image,label\na.png,0\n"b.png,0\n"c.png",1\n', "quote is left open.*row 3"),
        (b'image,label,note\na.png,0,"x\nb.png,0,"\nc.png,1,\n', "quote is left open.*row 2"),
        (b'image,label\n"a.png"x,0\n', "quote is left open or misplaced.*row 2"),
        (b"image,label,label\na.png,0,1\n", "two columns of one name"),
        (b"image,label\na.png,0,1\n", "row is longer than the header.*row 2"),
        (b"image,label\n,0\n", "row names no image.*row 2"),
        (b"PK\x03\x04\x14\0\x06\0", "no text.*workbook"),
        (b"\x00\x01\x02\x03" * 40, "cannot be read"),
        (b"", "no column image"),
        (b"# only a comment\n", "no column image"),
        (b"image,label\n", "lists no scan"),
        (b"image,label\na.png,0\na.png,1\n", "listed twice"),
        (b"image,label\na.png,normal\n", "label is not 0 or 1.*row 2"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        _read(tmp_path / "list.csv", content)


def test_comments_among_the_rows_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "#1.png").write_bytes(b"x")
    found = _read(tmp_path / "list.csv", b"image,label\na.png,0\n# old ones\n#b.png,1\n#1.png,1\n")
    assert [name for name, _, _ in found] == ["a.png", "#1.png"]
    assert "2 lines that begin with # were left out" in caplog.text


def test_another_encoding_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "Müller.png").write_bytes(b"x")
    assert _read(tmp_path / "list.csv", "image,label\nMüller.png,0\n".encode("cp1252"))[0][0] == "Müller.png"
    assert "not UTF-8" in caplog.text


def test_the_limit_of_fields_stays_as_it_was(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    _read(tmp_path / "list.csv", b"image,label\na.png,0\n")
    assert csv.field_size_limit() == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"training": [{"image": "a.png"}], "training": [{"image": "b.png"}]}', "two entries of one name.*training"),
        ('[{"image": "a.png", "image": "b.png"}]', "two entries of one name.*image"),
        ('{"train": {"0": ["a.png"]}, "test": ["b.png"]}', "not sorted by label"),
        ('{"training": [{"image": "a.png"}], "test": [["b.png"]]}', "not a row"),
    ],
)
def test_json_that_would_lose_rows(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "list.json").write_text(content)
    with pytest.raises(InputError, match=message):
        read_datalist(tmp_path / "list.json")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_json_in_other_encodings(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "list.json").write_bytes(json.dumps([{"image": "a.png", "label": 0}]).encode(encoding))
    assert len(read_datalist(tmp_path / "list.json")) == 1


def test_folders_of_series_in_a_split_are_rows(tmp_path: Path) -> None:
    content = {"training": ["images/case1", "images/case2"], "test": ["images/case3"], "folds": [{"fold": 1}]}
    (tmp_path / "datalist.json").write_text(json.dumps(content))
    assert [case["split"] for case in read_datalist(tmp_path / "datalist.json")] == ["train", "train", "test"]


def test_lists_beside_the_one_that_is_read_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "datalist.tsv").write_text("image\tlabel\na.png\t0\n")
    assert find_datalist(tmp_path) == tmp_path / "datalist.tsv" and not caplog.records
    (tmp_path / "datalist.json").write_text("[]")
    assert find_datalist(tmp_path) == tmp_path / "datalist.tsv"
    assert "datalist.json beside it not" in caplog.text


def test_normal_cases_with_an_outlined_lesion_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    import numpy as np
    from PIL import Image

    for index in range(12):
        Image.fromarray(np.full((9, 12), index, np.uint8)).save(tmp_path / f"{index}.png")
    for name, value in (("empty", 0), ("full", 1)):
        Image.fromarray(np.full((9, 12), value, np.uint8)).save(tmp_path / f"{name}.png")
    masks = {3: "empty.png", 5: "full.png"}
    rows = [f"{index}.png,0,{masks.get(index, '')},train" for index in range(12)]
    (tmp_path / "datalist.csv").write_text("\n".join(["image,label,mask,split", *rows]))
    Cohort(tmp_path)
    assert "1 case with label 0 and a mask that is not empty: 5." in caplog.text


def test_scans_in_no_class_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("train/normal/a.png", "test/normal/b.png", "test/loose.png", "loose.png", "holdout/x/c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    with caplog.at_level(logging.WARNING):
        assert len(find_cases(tmp_path, split="all")) == 2
    assert "loose.png, holdout, test/loose.png" in caplog.text
