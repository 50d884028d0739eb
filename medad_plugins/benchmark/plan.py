"""Which bundles are compared on which data sets, with which seeds and settings."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from medad_plugins.benchmark.survey import SURVEY_DATASETS
from medad_plugins.errors import InputError
from medad_plugins.files import home_path

__all__ = ["Cell", "DataSet", "Plan", "find_bundles", "quick_plan", "read_plan"]

_PLAN_KEYS = ("datasets", "bundles", "seeds", "baselines")

Settings = dict[str, Any]


@dataclass(frozen=True)
class DataSet:
    """A data set and what is particular about it.

    Attributes:
        name: how tables call it.
        keys: keys of every bundle run on it: dataset_dir, datalist, where, spatial_dims, in_channels and others.
        survey: column of the survey's Table 3 that has the same protocol, or empty.
        about: a remark for the table.
        bundles: further keys by bundle, for this data set.
    """

    name: str
    keys: Settings = field(default_factory=dict)
    survey: str = ""
    about: str = ""
    bundles: Mapping[str, Settings] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """One bundle on one data set with one seed: one ordinary training run."""

    dataset: str
    bundle: str
    seed: int
    keys: Settings

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.bundle} on {self.dataset}, seed {self.seed}"

    def folder(self, output_dir: Path) -> Path:
        """Where its results are."""
        return output_dir / self.dataset / self.bundle / f"seed{self.seed}"

    def arguments(self, bundles_dir: Path, output_dir: Path) -> list[str]:
        """What follows ``python`` on the command line that runs it."""
        folder = self.folder(output_dir)
        config = bundles_dir / self.bundle / "configs" / "train.yaml"
        keys = {**self.keys, "seed": self.seed, "output_dir": folder / "test", "ckpt_path": folder / "model.pt"}
        values = [text for key, value in keys.items() for text in _argument(key, _as_argument(value))]
        return ["-m", "monai.bundle", "run", "--config_file", str(config), *values]


@dataclass(frozen=True)
class Plan:
    """A benchmark: every bundle on every data set with every seed.

    Attributes:
        name: of the plan, which marks its table in documents.
        datasets: what to run on.
        bundles: keys by bundle, e.g. its backbone.
        seeds: one run each.
        baselines: arguments of the trivial baselines, e.g. ``weights``.
    """

    name: str
    datasets: Sequence[DataSet]
    bundles: Mapping[str, Settings]
    seeds: Sequence[int] = (0,)
    baselines: Settings = field(default_factory=dict)

    def cells(self) -> list[Cell]:
        """All runs, seed by seed, so that every bundle has a figure early."""
        return [
            Cell(data.name, bundle, seed, {**data.keys, **keys, **data.bundles.get(bundle, {})})
            for seed in self.seeds
            for data in self.datasets
            for bundle, keys in self.bundles.items()
        ]

    def only(self, bundles: Sequence[str] = (), datasets: Sequence[str] = (), seeds: Sequence[int] = ()) -> Plan:
        """The part of the plan with these names; empty takes all.

        Raises:
            InputError: the plan has no bundle or data set of this name.
        """
        _refuse_unknown(bundles, self.bundles, "bundle", self.name)
        _refuse_unknown(datasets, [data.name for data in self.datasets], "data set", self.name)
        return Plan(
            self.name,
            [data for data in self.datasets if not datasets or data.name in datasets],
            {name: keys for name, keys in self.bundles.items() if not bundles or name in bundles},
            tuple(seeds) or self.seeds,
            self.baselines,
        )


def find_bundles(bundles_dir: Path) -> list[str]:
    """Names of the bundles in a folder.

    Raises:
        InputError: there is none.
    """
    names = sorted(path.parent.parent.name for path in bundles_dir.glob("*/configs/train.yaml"))
    if not names:
        expected = "folders with configs/train.yaml"
        raise InputError("there are no bundles", where=bundles_dir, expected=expected, todo="give --bundles_dir")
    return names


def quick_plan(bundles_dir: Path) -> Plan:
    """Every bundle of the repository, as it comes, on the built-in sample cohort."""
    about = "generated head phantoms, 2D; every bundle with the settings it has when run with nothing else"
    return Plan("quick", [DataSet("sample_cohort", about=about)], {name: {} for name in find_bundles(bundles_dir)})


def read_plan(path: Path, bundles_dir: Path) -> Plan:
    """A plan from a YAML file; environment variables such as ``$MEDAD_DATA`` in its values are filled in.

    Raises:
        InputError: the file is missing or faulty, names an unknown bundle, data folder or variable.
    """
    content = _read_yaml(path)
    _refuse_unknown(list(content), _PLAN_KEYS, "key", str(path))
    content = _with_variables(content, path)
    datasets = content.get("datasets") or {}
    if not datasets:
        todo = "list at least one under datasets, e.g. 'mine: {dataset_dir: scans}'"
        raise InputError("the plan has no data set", where=path, todo=todo)
    known = find_bundles(bundles_dir)
    bundles = content.get("bundles") or {name: {} for name in known}
    bundles = {name: keys or {} for name, keys in bundles.items()}
    _refuse_unknown(list(bundles), known, "bundle", str(path))
    return Plan(
        path.stem,
        [_dataset(name, values or {}, path) for name, values in datasets.items()],
        bundles,
        tuple(content.get("seeds") or (0,)),
        content.get("baselines") or {},
    )


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError("the plan cannot be read", where=path, found=error.strerror, todo="give --plan") from error
    except yaml.YAMLError as error:
        raise InputError("the plan is not valid YAML", where=path, found=str(error).replace("\n", " ")) from error
    if not isinstance(content, dict):
        raise InputError(
            "the plan does not have the expected form", where=path, expected=f"the keys {', '.join(_PLAN_KEYS)}"
        )
    return content


def _dataset(name: str, values: Mapping[str, Any], path: Path) -> DataSet:
    if not re.fullmatch(r"[\w.+-]+", name):
        expected = "letters, digits and _ . + -, because a folder is called by it"
        raise InputError("a data set's name cannot be used", where=path, expected=expected, found=name)
    survey = values.get("survey", "")
    if survey and survey not in SURVEY_DATASETS:
        expected = ", ".join(SURVEY_DATASETS)
        raise InputError("the survey has no such data set", where=f"{path}, {name}", expected=expected, found=survey)
    folder = values.get("dataset_dir", "")
    if folder and not Path(home_path(folder)).exists():
        raise InputError("the data folder does not exist", where=f"{path}, {name}", found=folder)
    own = {key: value for key, value in values.items() if key not in ("survey", "bundles", "about")}
    return DataSet(name, own, survey, values.get("about", ""), values.get("bundles") or {})


def _with_variables(value: Any, path: Path) -> Any:
    if isinstance(value, dict):
        return {key: _with_variables(item, path) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_variables(item, path) for item in value]
    if not isinstance(value, str):
        return value
    filled = os.path.expandvars(value)
    if "$" in filled:
        raise InputError("an environment variable is not set", where=path, found=value, todo="set it")
    return filled


def _refuse_unknown(names: Sequence[str], known: Mapping[str, Any] | Sequence[str], what: str, where: str) -> None:
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, list(known), n=1)
            todo = f"did you mean {close[0]}" if close else None
            raise InputError(f"there is no such {what}", where=where, expected=", ".join(known), found=name, todo=todo)


def _argument(key: str, text: str) -> tuple[str, ...]:
    # a value that begins with a dash would pass for a key
    return (f"--{key}={text}",) if text.startswith("-") else (f"--{key}", text)


def _as_argument(value: Any) -> str:
    # YAML's flow style is what the bundle's command line reads: numbers, true, [a, b]
    if value is None or isinstance(value, (str, Path)):
        return str(value)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return json.dumps(value)  # the same with quotes, without which a path in a list is not read
    return yaml.safe_dump(value, default_flow_style=True, width=10_000).splitlines()[0]
