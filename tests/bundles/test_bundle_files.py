"""The files in a bundle's folder: checked for every bundle without running it."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema
import pytest
from bundle_runs import ABILITIES, BUNDLES, BUNDLES_FOLDER, declared, read_config
from monai.bundle.scripts import _get_fake_spatial_shape
from monai.bundle.workflows import _reject_executable_logging_config

from medad_plugins.packaging import METADATA_SCHEMA

README = BUNDLES_FOLDER.parent / "README.md"
REQUIRED_FILES = (
    "LICENSE",
    "configs/metadata.json",
    "configs/train.yaml",
    "configs/inference.yaml",
    "configs/evaluate.yaml",
    "configs/logging.conf",
    "docs/README.md",
)
TRAIN_KEYS = (
    "bundle_root dataset_dir datalist output_dir device seed spatial_dims image_size in_channels batch_size "
    "num_workers max_iterations weights"
).split()
RUN_KEYS = (
    "bundle_root dataset_dir datalist output_dir ckpt_path device spatial_dims image_size batch_size alpha "
    "displayable_configs"
).split()
KEYS = {"train": TRAIN_KEYS, "inference": RUN_KEYS, "evaluate": RUN_KEYS}
# what a reader of one bundle's results may expect of any other's
SHARED_VALUES = {
    "train": ("dataset_dir", "datalist", "output_dir", "ckpt_path", "device", "seed", "spatial_dims", "resume"),
    "inference": ("dataset_dir", "datalist", "output_dir", "ckpt_path", "device", "alpha", "save", "split", "where"),
    "evaluate": ("dataset_dir", "datalist", "output_dir", "ckpt_path", "device", "alpha", "save"),
}

pytestmark = pytest.mark.parametrize("bundle", BUNDLES)


def _metadata(bundle: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((BUNDLES_FOLDER / bundle / "configs" / "metadata.json").read_text("utf-8"))
    return content


@pytest.mark.parametrize("file", REQUIRED_FILES)
def test_has_the_file(bundle: str, file: str) -> None:
    path = BUNDLES_FOLDER / bundle / file
    assert path.is_file()
    assert path.stat().st_size > 0


def test_folder_is_named_by_a_slug(bundle: str) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9_]*", bundle)
    assert "detection" not in bundle, "MONAI Label would take it for an object detector"


def test_metadata_follows_the_schema(bundle: str) -> None:
    schema = json.loads(METADATA_SCHEMA.read_text("utf-8"))
    jsonschema.validate(_metadata(bundle), schema)


def test_metadata_tells_its_version(bundle: str) -> None:
    metadata = _metadata(bundle)
    assert next(iter(metadata["changelog"])) == metadata["version"], "the newest entry of the changelog stands first"


def test_metadata_describes_the_network(bundle: str) -> None:
    metadata = _metadata(bundle)["network_data_format"]
    # hosts take the first entry of each
    assert next(iter(metadata["inputs"])) == "image"
    assert next(iter(metadata["outputs"])) == "pred"
    names = list(metadata["outputs"]["pred"]["channel_def"].values())
    assert names[0] == "background"
    assert len(names) > 1, "MONAI Label lists what is not background as the label"
    assert min(_get_fake_spatial_shape(metadata["inputs"]["image"]["spatial_shape"], p=1, n=1, any=32)) > 0


def test_declares_known_abilities_only(bundle: str) -> None:
    entry = declared(bundle)
    assert set(entry.get("cannot", ())) <= set(ABILITIES)
    assert set(entry.get("small", ())) <= set(read_config(bundle, "train"))


def test_says_where_volumes_are_not_learnt(bundle: str) -> None:
    said = declared(bundle).get("volumes")
    row = next(line for line in README.read_text("utf-8").splitlines() if line.startswith(f"| [{bundle}]"))
    card = (BUNDLES_FOLDER / bundle / "docs" / "README.md").read_text("utf-8")
    expected = "runs, does not learn within minutes"
    assert said in (None, expected)
    assert (expected in row) == (expected in card) == (said is not None)


@pytest.mark.parametrize("name", KEYS)
def test_answers_to_the_same_keys_as_every_other(bundle: str, name: str) -> None:
    config = read_config(bundle, name)
    assert [key for key in KEYS[name] if key not in config] == []


@pytest.mark.parametrize("name", SHARED_VALUES)
def test_shared_keys_have_the_same_defaults_as_in_every_other(bundle: str, name: str) -> None:
    config, first = read_config(bundle, name), read_config(BUNDLES[0], name)
    assert {key: config[key] for key in SHARED_VALUES[name]} == {key: first[key] for key in SHARED_VALUES[name]}


def test_handlers_are_dictionaries_and_referred_to_by_name(bundle: str) -> None:
    train, inference = read_config(bundle, "train")["train"], read_config(bundle, "inference")
    handlers = train["handlers"]
    assert all(isinstance(handler, dict) and "_target_" in handler for handler in handlers)
    assert train["trainer"]["train_handlers"] == "@train::handlers"
    assert all(isinstance(handler, dict) and "_target_" in handler for handler in inference["handlers"])
    assert inference["evaluator"]["val_handlers"] == "@handlers"


def test_calls_itself_by_its_folder(bundle: str) -> None:
    text = {name: (BUNDLES_FOLDER / bundle / "configs" / f"{name}.yaml").read_text("utf-8") for name in KEYS}
    assert (
        read_config(bundle, "train")["setup"]["bundle"] == read_config(bundle, "inference")["model"]["bundle"] == bundle
    )
    for name, content in text.items():
        # the command to copy stands in the first line
        assert f"bundles/{bundle}/configs/{name}.yaml" in content.splitlines()[0]


def test_logging_configuration_runs_no_code(bundle: str) -> None:
    _reject_executable_logging_config(str(BUNDLES_FOLDER / bundle / "configs" / "logging.conf"))


def test_holds_no_code_and_no_outputs(bundle: str) -> None:
    folder = BUNDLES_FOLDER / bundle
    assert [str(path) for path in folder.rglob("*.py")] == [], "shared code lives in medad_plugins"
    assert not (folder / "scripts").exists()
