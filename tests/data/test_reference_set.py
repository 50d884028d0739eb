"""Reference sets: pictures by class, from folders or lists, each class drawn about as often."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medad_plugins.data import ReferenceSet, ScanFormat
from medad_plugins.errors import InputError
from medad_plugins.transforms import ScanPreprocessing


def _write(folder: Path, **numbers: int) -> Path:
    for value, (name, number) in enumerate(numbers.items()):
        (folder / name).mkdir(parents=True)
        for index in range(number):
            values = np.full((12, 10), 50 * value + 10, np.uint8)
            values[0, 0] += 1  # of one value would be refused
            Image.fromarray(values).save(folder / name / f"{index}.png")
    return folder


def test_classes_are_folders_and_are_drawn_as_often(tmp_path: Path) -> None:
    reference = ReferenceSet(_write(tmp_path, hand=12, chest=3, head=4))
    assert reference.names == ["chest", "hand", "head"]
    assert Counter(case["kind"] for case in reference.cases) == {0: 3, 1: 12, 2: 4}
    beside = reference.beside(ScanPreprocessing(ScanFormat(image_size=16)))
    assert beside is not None
    beside.set_random_state(0)
    drawn = [beside({"image": 1}) for _ in range(600)]
    counts = Counter(each["kind"] for each in drawn)
    assert min(counts.values()) > 150
    for each in drawn[:20]:
        brightness = {1: 10, 0: 60, 2: 110}[each["kind"]] / 255
        assert each["image"] == 1 and each["reference"].shape == (1, 16, 16)
        np.testing.assert_allclose(each["reference"].numpy(), brightness, atol=5e-3)


def test_a_list_has_classes_and_its_test_rows_stay_out(tmp_path: Path) -> None:
    _write(tmp_path, a=2, b=2)
    rows = ["image,label,split,class", "a/0.png,0,train,one", "a/1.png,,test,three", "b/0.png,1,val,two"]
    (tmp_path / "pictures.csv").write_text("\n".join(rows), "utf-8")
    reference = ReferenceSet(tmp_path, "pictures.csv")
    assert reference.names == ["one", "two"] and len(reference.cases) == 2
    (tmp_path / "pictures.csv").write_text("\n".join([*rows, "b/1.png,0,train,"]), "utf-8")
    with pytest.raises(InputError, match=re.escape("has no class")):
        ReferenceSet(tmp_path, "pictures.csv")


def test_a_picture_of_one_value_is_left_out_unless_it_is_all_there_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    preprocessing = ScanPreprocessing(ScanFormat(image_size=16))
    reference = ReferenceSet(_write(tmp_path, hand=2, head=2))
    Image.new("L", (12, 10), 7).save(tmp_path / "hand" / "0.png")
    beside = reference.beside(preprocessing)
    assert beside is not None and len(beside.dataset) == 4, "the other hand comes twice"
    assert "left out of the reference set: 1, e.g." in caplog.text and "0.png" in caplog.text
    Image.new("L", (12, 10), 7).save(tmp_path / "hand" / "1.png")
    with pytest.raises(InputError, match=r"no picture of a class of the reference set can be used: hand"):
        reference.beside(preprocessing)


def test_no_folder_is_no_reference() -> None:
    reference = ReferenceSet()
    assert reference.names == [] and reference.beside(lambda case: case) is None


def test_what_is_no_reference_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the data folder does not exist"):
        ReferenceSet(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"needs two classes or more.*found no class"):
        ReferenceSet(tmp_path)
    with pytest.raises(InputError, match=r"needs two classes or more.*found only"):
        ReferenceSet(_write(tmp_path, only=2))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"a class of the reference set has no picture.*empty"):
        ReferenceSet(tmp_path)
