"""Normal scans and a few labelled anomalies, and which anomalies a cohort gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from medad_plugins.data import Cohort, IterationLoader, ScanFormat, labelled_dataset
from medad_plugins.engines.training_keys import known_data
from medad_plugins.errors import InputError
from medad_plugins.transforms import ScanPreprocessing


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """20 normal and 6 abnormal cases of ten and three patients, no split val; brightness is the case's number."""
    rows = ["image,label,split,patient"]
    for number in range(26):
        values = np.full((16, 16), 5 * number + 20, np.uint8)
        values[0, 0] = 0
        Image.fromarray(values).save(tmp_path / f"{number}.png")
        label = int(number >= 20)
        rows.append(f"{number}.png,{label},train,{'AB'[label]}{number // 2}")
    (tmp_path / "datalist.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_anomalies_are_those_of_the_training_split_on_request(folder: Path) -> None:
    cohort = Cohort(folder)
    assert cohort.anomalies == [] and "6 in train" in cohort.describe()
    digest = known_data(cohort)["digest"]
    found = cohort.take_anomalies()
    assert [case["label"] for case in found] == [1] * 6 and cohort.anomalies == found
    lines = cohort.describe().splitlines()
    assert lines[1:] == ["6 labelled anomalies to train on, which no calibration or test sees."]
    assert known_data(cohort)["digest"] != digest
    three = cohort.take_anomalies(3)
    assert len(three) == 3 and three == Cohort(folder).take_anomalies(3) != Cohort(folder, seed=1).take_anomalies(3)
    assert cohort.describe().endswith(
        "Left out because this training uses those and normal cases only: 3 in train, 0 in val."
    )
    with pytest.raises(InputError, match="there are fewer labelled anomalies to train on") as raised:
        cohort.take_anomalies(7)
    assert "found 6" in str(raised.value)


def test_patients_of_held_out_scans_are_no_labelled_anomalies(folder: Path) -> None:
    cohort = Cohort(folder)
    patient = cohort.validation[0]["patient"]
    text = (folder / "datalist.csv").read_text().replace("24.png,1,train,B12", f"24.png,1,train,{patient}")
    (folder / "datalist.csv").write_text(text)
    again = Cohort(folder)
    assert {case["case_id"] for case in again.validation} == {case["case_id"] for case in cohort.validation}
    assert "24" not in {case["case_id"] for case in again.take_anomalies()} and len(again.anomalies) == 5


def test_sample_cohort_has_ten_in_a_folder_of_their_own() -> None:
    cohort = Cohort()
    before = len(cohort.train), len(cohort.validation), len(cohort.test)
    anomalies = cohort.take_anomalies()
    assert len(anomalies) == 10 and {case["label"] for case in anomalies} == {1}
    assert (len(cohort.train), len(cohort.validation), len(cohort.test)) == before
    seen = {case["image"] for case in (*cohort.train, *cohort.validation, *cohort.test)}
    assert not seen & {case["image"] for case in anomalies}
    assert "Left out" not in cohort.describe()


def test_anomalies_are_repeated_to_their_share(folder: Path) -> None:
    cohort = Cohort(folder)
    scan = ScanPreprocessing(ScanFormat(image_size=16))
    for share, times in ((0.0, 1), (0.1, 1), (0.5, 3), (0.6, 5)):
        dataset = labelled_dataset(cohort.train, cohort.take_anomalies(), scan, share)
        labels = [dataset[index]["label"] for index in range(len(dataset))]
        assert labels == [0] * len(cohort.train) + [1] * 6 * times
        assert sum(labels) / len(labels) >= share
    batch = next(iter(IterationLoader(dataset, 24)))
    bright = batch["image"].flatten(1).amax(1)
    assert torch.equal(batch["label"], (bright >= (5 * 20 + 20) / 255 - 1e-6).long()), "labels go with their scans"
    without = labelled_dataset(cohort.train, [], scan, 0.5)
    assert [without[index]["label"] for index in range(len(without))] == [0] * len(cohort.train)
    with pytest.raises(ValueError, match="share must be"):
        labelled_dataset(cohort.train, [], scan, 1.0)
