"""What every bundle does before its work begins, on bundles of a few lines."""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.utils import set_determinism

from medad_plugins import __version__, bundle
from medad_plugins.bundle import announce, begin, find_root, inference_workflow, method_of
from medad_plugins.errors import InputError, find_input_error
from medad_plugins.manifest import Manifest

IMPORTS = """
imports:
- $from medad_plugins.bundle import begin
- $from medad_plugins.bundle import find_root
- $from medad_plugins.bundle import inference_workflow
bundle_root: $find_root()
"""
TRAIN = """
dataset_dir: ''
batch_size: 4
max_iterations: 100
weights: none
crop: 7
network_def: $'trained by ' + @weights
train: {loader: 1, trainer: {max_epochs: 2}}
seed: 5
initialize: ["$begin('train', seed=@seed)"]
run: []
"""
INFERENCE = """
dataset_dir: ''
split: test
batch_size: 8
alpha: 0.05
crop: 3
network_def: $'rebuilt'
described: $' '.join(map(str, [@dataset_dir, @split, @batch_size, @alpha, @crop]))
evaluator: $'evaluates ' + @network_def
initialize: ["$begin('inference')"]
run: []
"""
EVALUATE = """
dataset_dir: ''
batch_size: null
alpha: 0.1
inference: $inference_workflow(@bundle_root)
network_def: $@inference.parser.get_parsed_content('network_def')
initialize: ["$begin('evaluate', 'inference')"]
run: []
"""


@pytest.fixture(autouse=True)
def undisturbed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hook, arguments and generators of the test process are put back."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(sys, "argv", ["pytest"])
    yield
    set_determinism(None)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A bundle."""
    configs = tmp_path / "some where" / "toy" / "configs"
    configs.mkdir(parents=True)
    (configs / "metadata.json").write_text('{"version": "0.1.0"}')
    for name, text in (("train", TRAIN), ("inference", INFERENCE), ("evaluate", EVALUATE)):
        (configs / f"{name}.yaml").write_text(IMPORTS + text)
    return configs.parent


def _workflow(root: Path, *names: str, **keys: Any) -> ConfigWorkflow:
    files = [str(root / "configs" / f"{name}.yaml") for name in names]
    kind = "infer" if "inference" in names else "train"
    return ConfigWorkflow(files[0] if len(files) == 1 else files, workflow_type=kind, logging_file=False, **keys)


def _error(workflow: ConfigWorkflow) -> str:
    """The sentence that its initialisation ends with."""
    with pytest.raises(Exception) as raised:
        workflow.initialize()
    found = find_input_error(raised.value)
    assert found is not None, raised.value
    return str(found)


@pytest.mark.parametrize("folder", ["/", "..", "configs"])
def test_root_is_that_of_the_workflow_in_any_working_folder(
    root: Path, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root / folder)
    path = os.path.relpath(root / "configs" / "train.yaml")
    workflow = ConfigWorkflow(path, workflow_type="train", logging_file=False)
    workflow.initialize()
    # also for a host that queries the parser alone, and later somewhere else
    monkeypatch.chdir(root.parent)
    assert workflow.parser.get_parsed_content("bundle_root") == str(root)


def test_root_of_a_workflow_goes_before_working_folder_and_command_line(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other" / "configs"
    other.mkdir(parents=True)
    (other / "metadata.json").write_text("{}")
    monkeypatch.chdir(other.parent)
    monkeypatch.setattr(sys, "argv", ["monai", "run", "--config_file", str(other / "train.yaml")])
    workflow = _workflow(root, "train")
    workflow.initialize()
    assert workflow.parser.get_parsed_content("bundle_root") == str(root)


@pytest.mark.parametrize("arguments", [["--config_file", "{}"], ["--config_file={}"]])
def test_root_by_the_command_line(root: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """MONAI's other commands parse a configuration without a workflow."""
    path = str(root / "configs" / "inference.yaml")
    monkeypatch.chdir("/")
    monkeypatch.setattr(sys, "argv", ["monai", "ckpt_export", *[part.format(path) for part in arguments], "--x", "1"])
    parser = ConfigParser()
    parser.read_config(path)
    assert parser.get_parsed_content("bundle_root") == str(root)


def test_root_by_the_working_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    assert find_root() == str(root)
    monkeypatch.setattr(sys, "argv", ["monai", "run", "--config_file"])
    assert find_root() == str(root)


def test_root_by_the_first_folder_of_the_search_path(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root.parent)
    monkeypatch.setattr(sys, "argv", ["application"])
    monkeypatch.setattr(sys, "path", [str(root), *sys.path])
    assert find_root() == str(root)


def test_root_unknown(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root.parent)
    monkeypatch.setattr(sys, "argv", ["monai", "run", "--config_file", "no/bundle/train.yaml"])
    with pytest.raises(InputError, match="the bundle's folder cannot be found from here; give it as --bundle_root"):
        find_root()


def test_root_may_be_given(root: Path, tmp_path: Path) -> None:
    workflow = _workflow(root, "train", bundle_root=str(tmp_path))
    workflow.initialize()
    assert workflow.parser.get_parsed_content("bundle_root") == str(tmp_path)


def test_an_unknown_key_is_refused_with_a_suggestion(root: Path) -> None:
    text = _error(_workflow(root, "train", max_iteration=3))
    assert text.startswith("this bundle has no such key: --max_iteration (expected one of bundle_root, dataset_dir,")
    assert text.endswith("; did you mean --max_iterations.")
    assert "train," not in text  # groups of settings are no keys to give


def test_an_unknown_key_that_resembles_none(root: Path) -> None:
    text = _error(_workflow(root, "train", zzz=3))
    assert "no such key: --zzz" in text and "did you mean" not in text


@pytest.mark.parametrize(
    "keys", [{"batch_size": 9}, {"train::trainer::max_epochs": 7}, {"train#loader": 2}, {"weights": "x", "crop": None}]
)
def test_known_keys_and_nested_ones_are_fine(
    root: Path, keys: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    workflow = _workflow(root, "train", **keys)
    workflow.initialize()
    for key, value in keys.items():
        assert workflow.parser[key] == value
    assert not [record for record in caplog.records if record.name == "medad_plugins.bundle"]


def test_an_unknown_nested_key_is_reported(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    _workflow(root, "train", **{"train::loadr": 2}).initialize()
    assert "--train::loadr is not read by this bundle; did you mean --train::loader." in caplog.messages


def test_evaluation_takes_the_keys_of_inference_but_not_those_of_training(root: Path) -> None:
    _workflow(root, "evaluate", split="val").initialize()
    assert "no such key: --max_iterations" in _error(_workflow(root, "evaluate", max_iterations=3))
    assert "no such key: --weights" in _error(_workflow(root, "inference", weights="none"))


def test_keys_that_experiment_tracking_adds_are_fine(root: Path) -> None:
    keys = {"tracking_uri": "sqlite:///x.db", "experiment_name": "e", "run_name": None}
    _workflow(root, "train", save_execute_config=True, is_not_rank0=False, **keys).initialize()


@pytest.mark.parametrize("names", [("train", "evaluate"), ("train", "inference")])
def test_configurations_read_into_one(root: Path, names: tuple[str, str]) -> None:
    """As federated clients do."""
    workflow = _workflow(root, *names, max_iterations=3, alpha=0.2)
    workflow.initialize()
    assert workflow.parser["max_iterations"] == 3
    assert "no such key: --max_iteration " in _error(_workflow(root, *names, max_iteration=3))


def test_all_generators_are_seeded(root: Path) -> None:
    drawn = []
    for _ in range(2):
        _workflow(root, "train").initialize()
        drawn.append((random.random(), float(np.random.rand()), float(torch.rand(()))))
    _workflow(root, "train", seed=6).initialize()
    assert drawn[0] == drawn[1] != (random.random(), float(np.random.rand()), float(torch.rand(())))
    assert torch.initial_seed() == 6


@pytest.mark.parametrize(
    ("program", "variable", "hooked"),
    [
        ("/x/site-packages/monai/bundle/__main__.py", "", True),
        ("/x/site-packages/monai/bundle/__main__.py", "1", False),
        ("/x/bin/pytest", "", False),
        ("-c", "", False),
    ],
)
def test_only_monais_command_line_gets_errors_of_one_sentence(
    program: str, variable: str, hooked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDAD_TRACEBACK", variable)
    monkeypatch.setattr(sys, "argv", [program, "run"])
    begin("train")
    assert (sys.excepthook is bundle._print_input_error) is hooked


def _printed(error: BaseException, capsys: pytest.CaptureFixture[str]) -> str:
    bundle._print_input_error(type(error), error, error.__traceback__)
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def test_an_input_error_is_one_sentence_however_deep_it_lies(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError) as raised:
        _workflow(root, "train", max_iteration=3).initialize()
    text = _printed(raised.value, capsys)
    assert text.startswith("error: this bundle has no such key: --max_iteration (") and text.count("\n") == 1
    assert "Traceback" not in text


def test_other_errors_keep_their_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError) as raised:
        1 / 0  # noqa: B018
    text = _printed(raised.value, capsys)
    assert text.startswith("Traceback (most recent call last)") and "ZeroDivisionError" in text


def test_an_interrupted_training_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    text = _printed(KeyboardInterrupt(), capsys)
    assert "--resume true" in text and "Traceback" not in text


def _inference(root: Path, *names: str, **keys: Any) -> str:
    workflow = _workflow(root, *names, **keys)
    workflow.initialize()
    inference = workflow.parser.get_parsed_content("inference")
    assert isinstance(inference, ConfigWorkflow) and inference.get_workflow_type() == "infer"
    assert inference.parser.get_parsed_content("bundle_root") == str(root)
    return str(inference.parser.get_parsed_content("described"))


def test_inference_runs_under_the_keys_of_the_evaluation(root: Path) -> None:
    # alpha is the evaluation's own, null leaves the batch size, split is given to the inference alone
    assert _inference(root, "evaluate") == " test 8 0.1 3"
    given = {"dataset_dir": "/data", "split": "val", "batch_size": 2, "alpha": 0.3, "crop": 5}
    assert _inference(root, "evaluate", **given) == "/data val 2 0.3 5"


def test_inference_refers_to_what_the_evaluation_refers_to(root: Path) -> None:
    assert _inference(root, "evaluate", dataset_dir="$@bundle_root + '/scans'") == f"{root}/scans test 8 0.1 3"


def test_inference_keeps_its_network_where_the_training_was_read_along(root: Path) -> None:
    # 3 is the inference's, the 7 of the training is none of its business, a given 5 is
    assert _inference(root, "train", "evaluate") == " test 8 0.1 3"
    assert _inference(root, "train", "evaluate", crop=5) == " test 8 0.1 5"
    workflow = _workflow(root, "train", "evaluate")
    workflow.initialize()
    inference = workflow.parser.get_parsed_content("inference")
    assert inference.parser.get_parsed_content("evaluator") == "evaluates rebuilt"


def test_inference_without_a_workflow_that_asks(root: Path) -> None:
    assert inference_workflow(root).parser.get_parsed_content("described") == " test 8 0.05 3"


def _requires(root: Path, version: str) -> None:
    metadata = {"version": "0.1.0", "required_packages_version": {"medad-plugins": version}}
    (root / "configs" / "metadata.json").write_text(json.dumps(metadata))


@pytest.mark.parametrize("name", ["train", "inference", "evaluate"])
def test_a_bundle_for_a_newer_package_is_refused_before_anything_else(root: Path, name: str) -> None:
    _requires(root, "99.0.0")
    path = root / "configs" / f"{name}.yaml"
    # what it imports may not exist yet
    path.write_text(path.read_text().replace("imports:", "imports:\n- $from medad_plugins import not_there_yet"))
    text = _error(_workflow(root, name, no_such_key=1))
    assert "the bundle needs a newer medad-plugins" in text and "pip install --upgrade 'medad-plugins>=99.0.0'" in text


def test_a_bundle_for_this_package_runs(root: Path) -> None:
    _requires(root, __version__)
    _workflow(root, "train").initialize()


def test_an_edited_configuration_of_a_packaged_bundle_is_reported(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    paths = [root / "configs" / "train.yaml", root / "configs" / "metadata.json"]
    Manifest.of_files(root, paths, bundle="toy").write()
    _workflow(root, "train").initialize()
    assert "not as packaged" not in caplog.text
    paths[0].write_text(paths[0].read_text() + "# edited\n")
    _workflow(root, "train").initialize()
    (warning,) = [message for message in caplog.messages if "not as packaged" in message]
    assert warning.startswith("configs/train.yaml: not as packaged (manifest.json).")


@pytest.mark.parametrize(
    ("settings", "warned"),
    [({"weights": "none", "device": "cpu"}, True), ({"weights": "imagenet"}, False), ({"image size": 64}, False)],
)
def test_a_training_is_announced(settings: dict[str, Any], warned: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="medad_plugins")
    cohort = SimpleNamespace(describe=lambda: "heads: 200 normal\nfrom /data")
    announce("toy", cohort, settings)
    assert caplog.messages[:2] == ["toy on heads: 200 normal", "toy on from /data"]
    listed = ", ".join(f"{name} {value}" for name, value in settings.items())
    assert caplog.messages[2] == f"toy: {listed}; a time estimate follows."
    assert [r.levelno for r in caplog.records[3:]] == ([logging.WARNING] if warned else [])


def test_a_renamed_bundle_keeps_its_methods_name(tmp_path: Path) -> None:
    shutil.copytree(Path(__file__).resolve().parents[1] / "bundles" / "padim", tmp_path / "brain_mri")
    assert method_of(tmp_path / "brain_mri") == "padim"
    with pytest.raises(InputError, match="the folder is not a bundle"):
        method_of(tmp_path)
