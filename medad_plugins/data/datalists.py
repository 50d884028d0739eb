"""Lists of scans: `datalist.csv`, `datalist.json`, MedIAnomaly's `data.json`, and folders of classes."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from medad_plugins.data.class_folders import SPLIT_NAMES, class_folder_rows, has_class_folders, scan_stem
from medad_plugins.data.list_table import list_text, table_rows
from medad_plugins.errors import InputError, printable
from medad_plugins.files import home_path

__all__ = ["Case", "find_datalist", "make_case_ids", "read_datalist", "read_rows", "same_keys"]

logger = logging.getLogger(__name__)

# One scan and what is known of it; the keys are those of `read_datalist`.
Case = dict[str, Any]

LIST_NAMES = ("datalist.csv", "datalist.tsv", "datalist.json", "data.json")
COLUMNS = ("image", "label", "mask", "split", "class", "patient", "cluster")
# Keys that the bundles write; a column of this name (a results.csv used as a datalist) must not shadow them.
RESULT_COLUMNS = {
    *("case_id", "pred", "anomaly_score", "p_value", "is_anomalous", "anomaly_map", "anomaly_mask"),
    *("alpha", "calibrated_on", "can_flag", "error", "q_value", "is_discovery", "model_hash", "settings_hash"),
    *("input_mean", "input_spread", "input_size", "input_spacing"),
}
EXPECTED_COLUMNS = "columns image, label and, where known, mask, split, class, patient or cluster"
LABELS = {"": None, "0": 0, "1": 1, "0.0": 0, "1.0": 1}
MAX_ID_LENGTH = 120
MAX_ID_BYTES = 180  # file systems allow 255, which a suffix and a digest come to

_Row = tuple[str, Mapping[str, Any]]


def find_datalist(dataset_dir: str | Path | None, datalist: str | Path | None = None) -> Path | None:
    """Where the cases of a data folder are listed.

    Args:
        dataset_dir: the data folder (or the list itself).
        datalist: a file name in the data folder, or a path; empty looks for the usual names.

    Returns:
        the list, the data folder itself where it is laid out in class folders, or None where it has neither.

    Raises:
        InputError: the folder or the named list does not exist.
    """
    folder = Path(home_path(dataset_dir)) if dataset_dir else None
    if folder is not None and not folder.exists():
        raise InputError("the data folder does not exist", where=folder, todo="give an existing one as --dataset_dir")
    if datalist:
        candidates = [*([folder / datalist] if folder else []), Path(home_path(datalist))]
        for path in candidates:
            if path.is_file():
                return path
        todo = "give --datalist as a file name in dataset_dir or as a path"
        raise InputError("the datalist does not exist", where=candidates[0], todo=todo)
    if folder is None:
        return None
    if folder.is_file():
        return folder if folder.suffix.lower() in (".csv", ".tsv", ".json") else None
    lists = [folder / name for name in LIST_NAMES if (folder / name).is_file()]
    if lists:
        if len(lists) > 1:
            others = ", ".join(path.name for path in lists[1:])
            logger.warning("%s is read, %s beside it not; name another with --datalist.", lists[0], others)
        return lists[0]
    return folder if has_class_folders(folder) else None


def read_datalist(path: str | Path, root: str | Path | None = None) -> list[Case]:
    """Read a list of scans.

    A CSV (comma, semicolon, tab or bar) has the columns ``image``, ``label`` and, where known, ``mask``, ``split``,
    ``class``, ``patient`` or ``cluster``; further columns are kept as text. A JSON file is a list of such rows, MONAI's
    ``{"training": [rows], "validation": [rows], "test": [rows]}``, or MedIAnomaly's ``{"train": {"0": [names]}}``. A
    folder holds ``train/normal`` and ``test/<class>``. Paths are relative to the list's folder, else to ``root``.

    Args:
        path: the list, or the folder.
        root: the data folder, which the case ids are relative to; the list's own folder by default.

    Returns:
        cases with ``image`` (absolute path) and ``case_id`` (unique, safe as a file name); where known ``label``
        (0 normal, 1 abnormal), ``mask`` (absolute path or ""), ``split`` ("train", "val", "test" or ""), ``class``,
        ``patient`` and the other columns as text. All have the same keys, except that a case of unknown label has no
        ``label`` (see `same_keys`). Whether the files exist is not checked.

    Raises:
        InputError: the list cannot be parsed, a column is missing, a label is not 0 or 1, a split is unknown, a file
            is listed twice or a patient is in two splits.

    Example:
        >>> from medad_plugins.data import sample_cohort
        >>> cases = read_datalist(sample_cohort(2) / "datalist.csv")
        >>> [(case["case_id"], case["label"], case["split"]) for case in (cases[0], cases[-1])]
        [('images__train_000_normal', 0, 'train'), ('images__test_119_resected', 1, 'test')]
    """
    path = Path(path)
    cases = read_rows(path, root)
    _refuse_repeated_files(cases, path)
    _refuse_leaks(cases, path)
    folder = path if path.is_dir() else path.parent
    for case, case_id in zip(cases, make_case_ids([case["image"] for case in cases], root or folder), strict=True):
        case["case_id"] = case_id
    return cases


def read_rows(path: Path, root: str | Path | None = None) -> list[Case]:
    """The rows of a list as cases, without ids, whatever they say of files and patients: see `read_datalist`.

    Raises:
        InputError: the list cannot be parsed, a column is missing, a label is not 0 or 1, or a split is unknown.
    """
    folder = path if path.is_dir() else path.parent
    if path.is_dir():
        rows: Iterator[_Row] = ((str(path), row) for row in class_folder_rows(path))
    elif not path.is_file():
        raise InputError("the datalist does not exist", where=path, todo="check the path")
    else:
        rows = _json_rows(path) if path.suffix.lower() == ".json" else _csv_rows(path)
    folders = [folder] if root is None else [folder, Path(root)]
    cases = [_case(row, where, folders) for where, row in rows]
    if not cases:
        raise InputError("the datalist lists no scan", where=path, expected=EXPECTED_COLUMNS)
    for key in dict.fromkeys(key for case in cases for key in case if key != "label"):
        for case in cases:
            case.setdefault(key, "")
    return cases


def same_keys(cases: Sequence[Case]) -> list[Case]:
    """Copies of the cases, without ``label`` where only some of them have one, so that any batch of them collates."""
    labelled = sum("label" in case for case in cases)
    if 0 < labelled < len(cases):
        logger.warning("%d of %d cases have no label: the labels are not used.", len(cases) - labelled, len(cases))
        return [{key: value for key, value in case.items() if key != "label"} for case in cases]
    return [dict(case) for case in cases]


def make_case_ids(paths: Sequence[str | Path], folder: str | Path) -> list[str]:
    """Names for scans that are unique (also where case is ignored), safe as file names and independent of the order.

    ``<folder>/images/no/No12.jpg`` becomes ``images__no__No12``; the extension is kept where only it distinguishes two.
    Scans outside the folder are named from the deepest folder that holds all of them, not by their whole path.
    """
    folder = os.path.abspath(folder)
    scans = [os.path.abspath(path) for path in paths]
    outside = {os.path.dirname(scan) for scan in scans if not _is_within(scan, folder)}
    elsewhere = os.path.commonpath(outside) if outside else folder
    relative = [Path(os.path.relpath(scan, folder if _is_within(scan, folder) else elsewhere)) for scan in scans]
    # the folder itself, one DICOM series, is named by its name
    parts = [[part for part in path.parts if part != "."] or [Path(folder).name] for path in relative]
    ids = [_safe_name([*names[:-1], scan_stem(names[-1])]) for names in parts]
    for spell in (_safe_name, lambda names: f"{_safe_name(names)}__{_digest('/'.join(names))}"):
        count = Counter(case_id.casefold() for case_id in ids)
        ids = [
            spell(names) if count[case_id.casefold()] > 1 else case_id
            for case_id, names in zip(ids, parts, strict=True)
        ]
    return ids


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(os.path.join(folder, ""))


def _safe_name(names: Sequence[str]) -> str:
    name = re.sub(r"[^\w.+-]", "_", "__".join(names)).lstrip(".-") or "scan"
    if len(name) > MAX_ID_LENGTH or len(name.encode("utf-8")) > MAX_ID_BYTES:
        # the end of it, from where a letter begins
        end = name[-MAX_ID_LENGTH:].encode("utf-8")[-MAX_ID_BYTES:].decode("utf-8", "ignore")
        name = f"{_digest(name)}_{end}"
    return name


def _digest(text: str) -> str:
    return hashlib.sha256(printable(text).encode("utf-8")).hexdigest()[:8]


def _csv_rows(path: Path) -> Iterator[_Row]:
    return table_rows(path, COLUMNS, EXPECTED_COLUMNS)


def _json_rows(path: Path) -> Iterator[_Row]:
    try:
        content = json.loads(list_text(path).removeprefix("\ufeff"), object_pairs_hook=_without_repeats)
    except json.JSONDecodeError as error:
        raise InputError("the datalist is not valid JSON", where=f"{path}, line {error.lineno}") from error
    except _RepeatedKeyError as error:
        found, todo = f"{error} twice", "join what stands below it"
        raise InputError("the datalist has two entries of one name", where=path, found=found, todo=todo) from error
    expected = '{"training": [...], "validation": [...], "test": [...]} or a list of such rows'
    if isinstance(content, list):
        content = {"": content}
    elif not isinstance(content, dict):
        raise InputError(
            "the datalist does not have the expected form", where=path, expected=expected, found=type(content).__name__
        )
    if any(isinstance(content.get(split), dict) for split in ("train", "test")):
        yield from _medianomaly_rows(path, content)
        return
    # other entries (name, modality, labels of a Medical Decathlon list) describe the data set
    lists = {
        key: rows for key, rows in content.items() if isinstance(rows, list) and (_is_split(key) or _is_rows(rows))
    }
    for key in content.keys() - lists.keys():
        if isinstance(content[key], list) and any(isinstance(row, dict) for row in content[key]):
            logger.warning("%s: %s is no list of scans (no image) and was left out.", path, key)
    if not lists:
        found = ", ".join(map(str, content))[:100] or "nothing"
        raise InputError("the datalist has no list of scans", where=path, expected=expected, found=found)
    for key, rows in lists.items():
        for number, row in enumerate(rows, start=1):
            where = f"{path}, {key or 'list'} entry {number}"
            row = {"image": row} if isinstance(row, str) else row
            if not isinstance(row, dict):
                raise InputError("an entry is not a row", where=where, expected="an object with image and label")
            yield where, {**row, "split": key} if key else row


class _RepeatedKeyError(ValueError):
    """A JSON object has two values of one name, of which only the last would be seen."""


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        raise _RepeatedKeyError(next(name for name in names if names.count(name) > 1))
    return content


def _is_split(key: str) -> bool:
    return key == "" or key.lower() in SPLIT_NAMES


def _is_rows(rows: list[Any]) -> bool:
    return any(isinstance(row, dict) and "image" in row for row in rows) or (
        len(rows) > 0 and all(isinstance(row, str) and scan_stem(row) != row for row in rows)
    )


def _medianomaly_rows(path: Path, content: Mapping[str, Any]) -> Iterator[_Row]:
    """Rows of ``{"train": {"0": [names]}, "test": {"0": [names], "1": [names]}}`` with the files in ``images/``."""
    prefix = "images/" if (path.parent / "images").is_dir() else ""
    for split, labels in content.items():
        if not isinstance(labels, dict):
            if _is_split(split):
                expected = '{"0": [names], "1": [names]}'
                raise InputError("a split is not sorted by label", where=f"{path}, {split}", expected=expected)
            continue
        for label, names in labels.items():
            where = f"{path}, {split}, {label}"
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise InputError("an entry is not a list of file names", where=where)
            kind = {"0": "normal", "1": "abnormal"}.get(label, "")
            for name in names:
                yield where, {"image": prefix + name, "label": label, "split": split, "class": kind}


def _case(row: Mapping[str, Any], where: str, folders: Sequence[Path]) -> Case:
    """One row as a case, without its id."""
    values = {str(key): "" if value is None else str(value).strip() for key, value in row.items() if key}
    if not values.get("image"):
        raise InputError("a row names no image", where=where, todo="fill in the column image or remove the row")
    if isinstance(row["image"], (list, dict)):
        raise InputError("an image is not one path", where=where, expected="one file or one folder with a DICOM series")
    case: Case = {"image": _absolute(values.pop("image"), folders)}
    label = values.pop("label", "")
    if label not in LABELS:
        todo = "write 0 for normal and 1 for abnormal, and the path of a segmentation as mask"
        raise InputError("a label is not 0 or 1", where=where, expected="0 or 1", found=label[:60], todo=todo)
    if LABELS[label] is not None:
        case["label"] = LABELS[label]
    if "mask" in values:
        mask = values.pop("mask")
        case["mask"] = _absolute(mask, folders) if mask else ""
    if "split" in values:
        split = values.pop("split")
        if split and split.lower() not in SPLIT_NAMES:
            raise InputError("a split is unknown", where=where, expected="train, val or test", found=split[:60])
        case["split"] = SPLIT_NAMES[split.lower()] if split else ""
    return case | {key: value for key, value in values.items() if key not in RESULT_COLUMNS}


def _absolute(text: str, folders: Sequence[Path]) -> str:
    """The path of a listed file below the first folder that has it; lists written on Windows have backslashes."""
    for folder in folders:
        for spelling in dict.fromkeys((text, text.replace("\\", "/"))):
            if os.path.exists(folder / spelling):
                return os.path.abspath(folder / spelling)
    return os.path.abspath(folders[0] / text)


def _refuse_repeated_files(cases: Sequence[Case], path: Path) -> None:
    seen: dict[str, Case] = {}
    for case in cases:
        # a link to a file is the file
        first = seen.setdefault(os.path.realpath(case["image"]), case)
        if first is case:
            continue
        if first.get("split", "") != case.get("split", ""):
            what, found = (
                "a file is in two splits",
                f"it in {first['split'] or 'none'} and in {case['split'] or 'none'}",
            )
        else:
            what, found = "a file is listed twice", None
        raise InputError(what, where=f"{case['image']} in {path}", found=found, todo="remove one of the two rows")


def _refuse_leaks(cases: Sequence[Case], path: Path) -> None:
    """A patient in two splits is an error, a cluster (images that look alike) a warning; neither is named."""
    for column in ("patient", "cluster"):
        groups: dict[str, dict[str, str]] = {}
        for case in cases:
            if case.get(column) and case.get("split"):
                groups.setdefault(case[column], {}).setdefault(case["split"], os.path.basename(case["image"]))
        shared = [splits for splits in groups.values() if len(splits) > 1]
        if not shared:
            continue
        found = f"{len(shared)} in several, e.g. " + " and ".join(f"{name} in {s}" for s, name in shared[0].items())
        if column == "patient":
            todo = "move all scans of a patient into one split"
            raise InputError("a patient is in two splits", where=path, expected="one", found=found, todo=todo)
        logger.warning("%s: a cluster of similar images is in two splits (%s): results may be too good.", path, found)
