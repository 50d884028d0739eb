"""From a folder to a page: every refusal is a sentence, a detector that fails is a line, what is finished stays."""

from __future__ import annotations

import csv
import logging
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from bundle_runs import BUNDLES_FOLDER
from PIL import Image
from scripted_bundle import write_scripted_bundle

from medad_plugins.data.sample_cohort import generate_case
from medad_plugins.errors import InputError
from medad_plugins.start import Detector, Trial, read_first_data, start
from medad_plugins.start.start import _Start

pytestmark = pytest.mark.usefixtures("process_settings")


def _heads(folder: Path, count: int, size: int = 32) -> Path:
    """Normal heads as PNG, nothing else."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        head = generate_case(2, size, (number, 3))[0]
        Image.fromarray(np.rint(head * 255).astype(np.uint8)).save(folder / f"head{number:02d}.png")
    return folder


def _bundles(parent: Path) -> Path:
    """A real bundle and one that fails."""
    folder = write_scripted_bundle(parent)
    (folder / "scripted").rename(folder / "broken")
    (folder / "knn").symlink_to(BUNDLES_FOLDER / "knn")
    return folder


def test_a_folder_of_pictures_becomes_a_page(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "medad_plugins")
    data, output = _heads(tmp_path / "scans", 16), tmp_path / "out"
    (data / "damaged.png").write_bytes(b"no picture")
    bundles = _bundles(tmp_path)
    outcome = start(str(data), str(output), bundles, ("broken", "knn"), minutes=5, weights="none")
    assert [name for name, _ in outcome.failures] == ["broken"], "it has no such keys"
    ranked = {row.trial.name: row for row in outcome.ranking}
    assert {"knn", "thumbnail nearest neighbour", "mean intensity", "intensity threshold"} <= ranked.keys()
    assert all(0 <= row.interval[0] <= row.value <= row.interval[1] <= 1 for row in outcome.ranking)
    assert outcome.models["knn"].is_file()
    assert "[1/2] broken" in caplog.text and "[2/2] knn" in caplog.text

    page = (output / "start.html").read_text("utf-8")
    assert not re.search(r'(src|href)="(?!data:|#)', page), "it loads nothing and leads nowhere else"
    assert 'name="viewport"' in page and page.count("data:image/jpeg") >= 3
    for words in (
        "every scan is taken as normal",
        "No pretrained weights are on this machine",
        "damaged",
        "it could not be fitted",
        "bundles/knn/configs/inference.yaml --dataset_dir SCANS --ckpt_path",
        "package_bundle.py knn",
        "apps/label/serve.py",
    ):
        assert words in page, words
    with (output / "ranking.csv").open(newline="", encoding="utf-8") as file:
        table = {row["detector"]: row for row in csv.DictReader(file)}
    assert float(table["knn"]["value"]) == pytest.approx(ranked["knn"].value)

    # the same command again fits and scores nothing
    model, scores = outcome.models["knn"], outcome.models["knn"].with_name("scores.json")
    before = model.stat().st_mtime_ns, scores.stat().st_mtime_ns
    again = start(str(data), str(output), bundles, ("knn",), minutes=5, weights="none")
    assert (model.stat().st_mtime_ns, scores.stat().st_mtime_ns) == before
    assert {row.trial.name: row.value for row in again.ranking} == {name: row.value for name, row in ranked.items()}

    _heads(data, 18)
    with pytest.raises(InputError, match="a start of other data"):
        start(str(data), str(output), bundles, ("knn",), weights="none")


@pytest.mark.parametrize(
    ("shifts", "members"),
    [
        # the best two that look at places, and one that looks at the whole scan though it is of no use here
        ({"ae": 3.0, "padim": 2.0, "patchcore": 1.0, "classic": 2.5, "knn": 0.0}, ["ae", "padim", "knn"]),
        ({"ae": 3.0, "padim": 0.0, "classic": 0.0}, ["ae", "classic"]),
        ({"ae": 3.0, "padim": 2.0, "patchcore": 1.0, "vae": 0.5}, ["ae", "padim", "patchcore"]),
        ({"ae": 3.0}, None),
        ({"ae": 0.0, "padim": 0.0, "knn": 0.0}, None),
    ],
)
def test_who_is_in_the_ensemble(shifts: dict[str, float], members: list[str] | None, tmp_path: Path) -> None:
    clean = np.random.default_rng(0).standard_normal(30)
    trivial = Trial("look-up", clean, {"blob": clean + 0.25}, is_trivial=True)
    run = object.__new__(_Start)
    run.first, run.bundles_dir, run.seed = SimpleNamespace(labelled=[]), BUNDLES_FOLDER, 0  # type: ignore[assignment]
    run.trials = [Trial(name, clean, {"blob": clean + shift}) for name, shift in shifts.items()]
    run.detectors = {name: Detector(name, name, {"spatial_dims": 2, "image_size": 96}) for name in shifts}
    run.models = {name: tmp_path / name for name in shifts}
    judging: Any = SimpleNamespace(groups=[f"{i}" for i in range(30)])
    found = run._members([trivial], judging)
    if members is None:
        assert found is None
    else:
        assert found is not None and found.bundle == "ensemble"
        assert found.keys == {"spatial_dims": 2, "members": [str(tmp_path / name) for name in members]}


def test_time_that_is_used_up_is_a_line(tmp_path: Path) -> None:
    data = _heads(tmp_path / "scans", 12)
    outcome = start(str(data), str(tmp_path / "out"), _bundles(tmp_path), ("knn",), minutes=0.01, weights="none")
    assert outcome.failures == [("knn", "not fitted: the time was used up (--minutes)")]
    assert outcome.best is None
    assert "No detector could be fitted" in (tmp_path / "out" / "start.html").read_text("utf-8")


def test_what_cannot_be_used_is_refused_in_a_sentence(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    one = _heads(tmp_path / "one", 1)
    broken = tmp_path / "broken"
    broken.mkdir()
    for number in range(3):
        (broken / f"{number}.png").write_bytes(b"no picture")
    mixed = _heads(tmp_path / "mixed", 3)
    _volume(mixed / "volume.nii.gz")
    for data, sentence in (
        ("", "no data were given"),
        (str(tmp_path / "nowhere"), "the data do not exist"),
        (str(empty), "the data folder is empty"),
        (str(one), "too few normal scans.*found 1"),
        (str(one / "head00.png"), "too few normal scans"),
        (str(broken), "none of the scans can be read"),
        (str(mixed), "pictures and volumes are mixed.*3 pictures and 1 volumes"),
    ):
        with pytest.raises(InputError, match=sentence):
            start(data, str(tmp_path / "out"), BUNDLES_FOLDER)
    assert not (tmp_path / "out").exists()
    some = str(_heads(tmp_path / "some", 12))
    for options, sentence in (
        ({"bundles": ("no_such",)}, "no such bundle to try"),
        ({"bundles": ("ensemble",)}, "leave the ensemble out"),
        ({"weights": "imagenet"}, "--weights"),
        ({"minutes": 0}, "--minutes"),
    ):
        with pytest.raises(InputError, match=sentence):
            start(some, str(tmp_path / "out"), BUNDLES_FOLDER, **options)
    assert not (tmp_path / "out").exists()


def _volume(path: Path) -> None:
    import nibabel as nib

    nib.save(nib.Nifti1Image(np.rint(generate_case(3, 16, 5)[0] * 255).astype(np.uint8), np.eye(4)), path)


def test_nothing_is_held_out_that_train_knows(tmp_path: Path) -> None:
    folder = _heads(tmp_path / "scans", 30)
    rows = ["image,label,split,patient"]
    for number in range(30):
        # the first held-out patient is in train too
        patient = "P0" if number in (0, 20) else f"P{number}"
        rows.append(f"head{number:02d}.png,0,{'val' if number >= 20 else 'train'},{patient}")
    (folder / "mine.csv").write_text("\n".join(rows), encoding="utf-8")
    data = read_first_data(str(folder / "mine.csv"), workers=0)
    assert data.audit.shared_patients == 1
    assert "1 held-out scans are left out" in " ".join(data.notes)
    assert len(data.train) == 20 and len(data.held_out) == 9
    assert not {case["cluster"] for case in data.train} & {case["cluster"] for case in data.held_out}
    assert data.spatial_dims == 2 and data.in_channels == 1 and data.edges == (32, 32)


def test_labelled_validation_cases_are_taken_and_test_cases_are_not(tmp_path: Path) -> None:
    folder = _heads(tmp_path / "scans", 60)
    rows = ["image,label,split,rep"]
    for number in range(60):
        split = "train" if number < 20 else "val" if number < 46 else "test"
        label = int(number >= 33) if split == "val" else number % 2 if split == "test" else 0
        rows.append(f"head{number:02d}.png,{label},{split},{int(number != 45)}")
    (folder / "datalist.csv").write_text("\n".join(rows), encoding="utf-8")
    data = read_first_data(str(folder), where="rep=1", workers=0)
    assert sorted(case["label"] for case in data.labelled) == [0] * 13 + [1] * 12
    used = [*data.train, *data.held_out, *data.labelled]
    assert all(case["split"] != "test" for case in used)
    assert all(case["label"] == 0 for case in [*data.train, *data.held_out])


def test_of_few_scans_so_many_are_held_out_that_something_can_be_said(tmp_path: Path) -> None:
    for count, held_out in ((12, 6), (22, 8)):
        data = read_first_data(str(_heads(tmp_path / f"{count}", count)), workers=0)
        assert (len(data.train), len(data.held_out)) == (count - held_out, held_out)
