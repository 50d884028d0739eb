"""Groups of copies and patients, and lists that keep them in one split."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from medad_plugins.audit.groups import group_cases, regroup, write_grouped_list
from medad_plugins.data import find_cases


def _pairs(*pairs: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    ends = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return ends[:, 0], ends[:, 1]


def test_pairs_and_patients_link_in_chains() -> None:
    groups = group_cases(7, *_pairs((0, 1), (1, 4), (5, 2)), ["", "", "a", "", "b", "", "b"])
    assert groups.tolist() == [0, 0, 1, 2, 0, 1, 0]


def test_without_any_link_every_case_is_its_own_group() -> None:
    assert group_cases(3, *_pairs(), ["", "x", "y"]).tolist() == [0, 1, 2]


def _cases(*rows: tuple[str, int, int]) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Cases from (split, label, number of cases); each row its own group number is given apart."""
    cases: list[dict[str, Any]] = [{"split": s, "label": label} for s, label, count in rows for _ in range(count)]
    return cases, np.arange(len(cases))


def test_groups_end_up_whole_and_splits_keep_their_numbers() -> None:
    random = np.random.RandomState(0)
    cases, _ = _cases(("train", 0, 400), ("val", 0, 50), ("test", 0, 150), ("test", 1, 200))
    normal = random.randint(0, 150, 600)
    groups = np.concatenate([normal, 1000 + random.randint(0, 80, 200)])
    splits = regroup(cases, groups)
    assert all(len({split for split, g in zip(splits, groups) if g == group}) == 1 for group in set(groups))
    count = Counter(split for split, case in zip(splits, cases) if case["label"] == 0)
    assert abs(count["train"] - 400) <= 10 and abs(count["test"] - 150) <= 10 and abs(count["val"] - 50) <= 10
    assert all(split == "test" for split, case in zip(splits, cases) if case["label"] == 1)


def test_a_group_in_one_split_stays_and_one_with_an_abnormal_case_goes_to_test() -> None:
    cases, _ = _cases(("train", 0, 3), ("test", 1, 1), ("test", 0, 1), ("val", 1, 1))
    assert regroup(cases, np.array([0, 1, 1, 1, 2, 3])) == ["train", "test", "test", "test", "test", "val"]


def test_the_written_list_is_read_back_with_its_groups(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    rows = ["image,label,mask,split,class,patient"]
    for number, (split, label) in enumerate([("train", 0)] * 4 + [("test", 0)] * 2 + [("test", 1)] * 2):
        (tmp_path / "images" / f"{number}.png").write_bytes(b"x")
        rows.append(f"images/{number}.png,{label},,{split},kind {label},p{number}")
    (tmp_path / "datalist.csv").write_text("\n".join(rows), encoding="utf-8")
    cases = find_cases(tmp_path, split="all")
    groups = np.array([0, 1, 2, 0, 0, 3, 4, 4])
    write_grouped_list(tmp_path / "grouped.csv", cases, groups)
    again = find_cases(tmp_path, "grouped.csv", "all")
    assert [case["image"] for case in again] == [case["image"] for case in cases]
    assert [case["class"] for case in again] == [case["class"] for case in cases]
    assert len({case["split"] for case, group in zip(again, groups) if group == 0}) == 1
    with (tmp_path / "grouped.csv").open(encoding="utf-8") as file:
        written = list(csv.DictReader(file))
    assert [row["image"] for row in written] == [f"images/{number}.png" for number in range(8)]
    assert [row["rep"] for row in written] == ["1", "1", "1", "0", "0", "1", "1", "0"]
    assert [int(row["cluster"]) for row in written] == groups.tolist()


def test_a_list_elsewhere_names_scans_by_their_full_path(tmp_path: Path) -> None:
    scan = tmp_path / "data" / "0.png"
    scan.parent.mkdir()
    scan.write_bytes(b"x")
    cases = [{"image": str(scan), "case_id": "0", "label": 0, "split": "train", "mask": ""}]
    write_grouped_list(tmp_path / "lists" / "new.csv", cases, np.zeros(1, np.int64))
    assert find_cases(datalist=tmp_path / "lists" / "new.csv", split="all")[0]["image"] == str(scan)
