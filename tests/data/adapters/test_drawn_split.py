"""Drawing splits patient-wise, published splits that leak, and counts that are not the published ones."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from medad_plugins.data.adapters.published_scan import (
    Edition,
    PublishedScan,
    check_counts,
    count_scans,
    present_scans,
)
from medad_plugins.data.adapters.split import draw_split, separate_patients
from medad_plugins.errors import InputError

SIZES = {("train", "normal"): 30, ("test", "normal"): 10, ("test", "ill"): 12}


def scans(patients: int = 0) -> list[PublishedScan]:
    """60 normal, 20 ill and 5 other scans, of so many patients with scans of any class, or of none known."""
    kinds = ["normal"] * 60 + ["ill"] * 20 + ["other"] * 5
    random = np.random.RandomState(0)
    return [
        PublishedScan(
            Path(f"/data/{kind}/{number:03d}.png"),
            kind,
            int(kind != "normal"),
            patient=str(random.randint(patients)) if patients else "",
        )
        for number, kind in enumerate(kinds)
    ]


def test_sizes_are_met_exactly_and_the_rest_is_left_out() -> None:
    drawn = draw_split(scans(), SIZES, seed=3)
    assert Counter((scan.split, scan.kind) for scan in drawn) == SIZES
    assert len({scan.image for scan in drawn}) == len(drawn)


def test_split_depends_on_the_seed_and_on_nothing_else() -> None:
    given = scans()
    shuffled = [given[index] for index in np.random.RandomState(1).permutation(len(given))]
    assert draw_split(given, SIZES, 3) == draw_split(shuffled, SIZES, 3)
    assert draw_split(given, SIZES, 3) != draw_split(given, SIZES, 4)


@pytest.mark.parametrize("seed", range(5))
def test_no_patient_is_in_two_splits(seed: int) -> None:
    drawn = draw_split(scans(patients=40), SIZES, seed)
    of_patient: dict[str, set[str]] = {}
    for scan in drawn:
        of_patient.setdefault(scan.patient, set()).add(scan.split)
    assert all(len(splits) == 1 for splits in of_patient.values())
    counts = Counter((scan.split, scan.kind) for scan in drawn)
    assert all(counts[key] <= size for key, size in SIZES.items())
    assert len(drawn) >= 0.7 * sum(SIZES.values())
    # train is of normal scans only, whoever else a patient's scans show
    assert {scan.kind for scan in drawn if scan.split == "train"} == {"normal"}


def test_sizes_shrink_in_proportion_where_scans_are_few(caplog: pytest.LogCaptureFixture) -> None:
    few = [scan for scan in scans() if scan.kind != "normal"] + [s for s in scans() if s.kind == "normal"][:20]
    counts = Counter((scan.split, scan.kind) for scan in draw_split(few, SIZES, 0))
    assert counts == {("train", "normal"): 15, ("test", "normal"): 5, ("test", "ill"): 12}
    assert "20 scans of class normal where the split takes 40" in caplog.text


def test_patients_in_two_published_splits_become_clusters(caplog: pytest.LogCaptureFixture) -> None:
    rows = [("1", "train"), ("2", "train"), ("2", "test"), ("3", "test")]
    leaky = [PublishedScan(Path(f"{n}.png"), "normal", 0, split, patient=p) for n, (p, split) in enumerate(rows)]
    kept = separate_patients(leaky)
    assert [(scan.patient, scan.cluster, scan.split) for scan in kept] == [("", p, split) for p, split in rows]
    assert "1 of 3 patients are in several of its splits (1 test scans)" in caplog.text
    assert separate_patients([leaky[0], leaky[3]]) == [leaky[0], leaky[3]]


def test_counts_name_the_edition_or_what_differs(caplog: pytest.LogCaptureFixture) -> None:
    editions = (Edition("first", {"a": 3, "b": 2}), Edition("second", {"a": 5, "b": 2}))
    assert check_counts({"a": 5, "b": 2}, editions, Path("here"), False) == "second"
    with pytest.raises(InputError, match=r"ones of second: here \(expected a 5, found a 7\); .*--allow_partial true"):
        check_counts({"a": 7, "b": 2}, editions, Path("here"), False)
    with pytest.raises(InputError, match="expected c 0, found c 1"):
        check_counts({"a": 3, "b": 2, "c": 1}, editions, Path("here"), False)
    with caplog.at_level(logging.WARNING):
        assert check_counts({"a": 4}, editions, Path("here"), True) == "counts differ from first"
    assert "NOT the published ones" in caplog.text and "expected a 3, b 2, found a 4, b 0" in caplog.text


def test_missing_files_are_an_error_or_left_out(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(b"")
    two = [PublishedScan(tmp_path / f"{number}.png", "normal", 0) for number in range(2)]
    with pytest.raises(InputError, match="1 of 2 missing, first 1.png.*--allow_partial true"):
        present_scans(two, False)
    assert present_scans(two, True) == two[:1]
    with pytest.raises(InputError, match="1 of 1 missing"):
        present_scans(two[1:], True)
    assert count_scans(two) == {"normal": 2}
