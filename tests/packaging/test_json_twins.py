"""Configurations in JSON beside those in YAML."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bundle_runs import BUNDLES, BUNDLES_FOLDER
from monai.bundle import ConfigParser

from medad_plugins.errors import InputError
from medad_plugins.packaging import write_json_twins


@pytest.mark.parametrize("bundle", BUNDLES)
def test_every_configuration_gets_an_equal_one(bundle: str, tmp_path: Path) -> None:
    names = sorted(path.stem for path in (BUNDLES_FOLDER / bundle / "configs").glob("*.yaml"))
    for name in names:
        (tmp_path / f"{name}.yaml").write_bytes((BUNDLES_FOLDER / bundle / "configs" / f"{name}.yaml").read_bytes())
    twins = write_json_twins(tmp_path)
    assert twins == [tmp_path / f"{name}.json" for name in names] and "inference" in names
    for twin in twins:
        text = json.loads(twin.read_text("utf-8"))
        assert text == ConfigParser.load_config_file(twin.with_suffix(".yaml"))
        assert list(text) == list(ConfigParser.load_config_file(twin.with_suffix(".yaml"))), "also in the same order"


@pytest.mark.parametrize("text", ["day: 2024-05-01", "1: one", "value: .nan", "pair: !!set {a, b}"])
def test_what_json_cannot_tell_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "train.yaml").write_text(text)
    with pytest.raises(
        InputError, match=r"holds values that JSON cannot represent: .*train\.yaml; write such values as text"
    ):
        write_json_twins(tmp_path)
    assert not (tmp_path / "train.json").exists()
