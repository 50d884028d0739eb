"""Values on a bundle's command line: names are names, what cannot work is refused in a sentence."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bundle_runs import BUNDLES, BUNDLES_FOLDER, read_config
from fire.parser import DefaultParseValue
from monai.bundle import ConfigWorkflow

from medad_plugins import bundle as bundle_module
from medad_plugins.arguments import given_values, is_text_key
from medad_plugins.errors import InputError, find_input_error
from medad_plugins.key_values import _kind_of

CONFIGS = ("train", "inference", "evaluate")
Start = Callable[..., ConfigWorkflow]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, process_settings: None) -> Start:
    """Begin a configuration as MONAI's command line does, in this process; nothing is built."""

    def begin(config: str, *arguments: str) -> ConfigWorkflow:
        path = str(BUNDLES_FOLDER / "ae" / "configs" / f"{config}.yaml")
        line = ["run", "--config_file", path, *arguments]
        monkeypatch.setattr(bundle_module, "_prepare_process", lambda: None)
        monkeypatch.setattr(bundle_module, "_claim_output", lambda parser: None)
        monkeypatch.setattr("sys.argv", ["/python/monai/bundle/__main__.py", *line])
        given: dict[str, Any] = {k: True if v is None else DefaultParseValue(v) for k, v in given_values(line).items()}
        keys = {key: value for key, value in given.items() if value is not None and key != "config_file"}
        workflow = ConfigWorkflow(config_file=path, logging_file=False, **keys)
        workflow.parser["initialize"] = workflow.parser["initialize"][:1]
        try:
            workflow.initialize()
        except Exception as error:
            found = find_input_error(error)
            if found is None:
                raise
            raise found from None
        return workflow

    return begin


NAMES = [
    *("patients#2", "2023", "007", "1e5", "0x10", "1_000", "-1.5", "True", "None", "null", "a,b", "(a, b)", "[x]"),
    *("{a}", "{a: b}", "@x", "a@b", "@#x", "$x", "$1+1", "a$b", "a%b", "x y", " x", "医院", "e\u0301", "'q'", '"q"'),
    *("a\\b", "a=b", "a:b", "a::b", "a;b", "*", "~no-such-user", "~~", "b'x'", "...", "lambda", "\U0001f9e0", "a\tb"),
    *("1 if 0 else 2", "import os", "__import__", "x" * 200, os.fsdecode(b"M\xfcller")),
]


# as weights, those of several backbones
SEVERAL = {"a,b", "(a, b)", "[x]"}


@pytest.mark.parametrize("config", CONFIGS)
def test_every_key_that_is_a_name_is_what_was_written(config: str, start: Start) -> None:
    keys = [key for key in read_config("ae", config) if is_text_key(key) and key != "bundle_root"]
    assert {"dataset_dir", "datalist", "output_dir", "ckpt_path"} <= set(keys)
    for name in NAMES:
        workflow = start(config, *(f"--{key}={name}" for key in keys))
        found = {key: workflow.parser.get_parsed_content(key) for key in keys}
        if name in SEVERAL:
            found.pop("weights", None)
        assert found == dict.fromkeys(found, name)


@pytest.mark.parametrize("config", CONFIGS)
def test_names_as_a_second_word_but_for_those_with_a_dash_or_a_percent_sign_first(config: str, start: Start) -> None:
    for name in NAMES:
        if not name.startswith(("-", "%")):
            assert start(config, "--dataset_dir", name).parser.get_parsed_content("dataset_dir") == name


def test_evaluation_hands_names_on_to_inference(start: Start, tmp_path: Path) -> None:
    for name in NAMES:
        workflow = start("evaluate", f"--ckpt_path={name}", f"--dataset_dir={name}", f"--output_dir={name}")
        inner = workflow.parser.get_parsed_content("inference")
        assert [inner.parser.get_parsed_content(key) for key in ("ckpt_path", "dataset_dir", "output_dir")] == [
            name
        ] * 3


def test_home_is_what_a_tilde_means(start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    workflow = start("train", "--output_dir", "~/results", "--ckpt_path=~/m.pt")
    assert workflow.parser.get_parsed_content("output_dir") == str(tmp_path / "results")
    assert workflow.parser.get_parsed_content("ckpt_path") == str(tmp_path / "m.pt")


@pytest.mark.parametrize("key", ["dataset_dir", "output_dir", "ckpt_path", "datalist", "weights", "where"])
def test_a_name_that_is_missing_is_said(key: str, start: Start) -> None:
    for arguments in ([f"--{key}"], [f"--{key}", "--seed", "1"], [f"--{key}", "-x", "1"]):
        with pytest.raises(InputError, match=rf"no such key: --x|a value is missing: --{key} .*a name that begins"):
            start("train", *arguments)


@pytest.mark.parametrize("key", ["dataset_dir", "output_dir", "ckpt_path"])
def test_an_empty_name_means_no_folder(key: str, start: Start) -> None:
    with pytest.raises(InputError, match=rf"a value is missing: --{key}"):
        start("inference", f"--{key}=")


@pytest.mark.parametrize("bundle", BUNDLES)
def test_every_key_that_holds_a_place_is_known_for_a_name(bundle: str) -> None:
    for path in (BUNDLES_FOLDER / bundle / "configs").glob("*.yaml"):
        keys = read_config(bundle, path.stem)
        places = {key for key, value in keys.items() if value == "" or "bundle_root + " in str(value)}
        assert places
        assert {key for key in places if not is_text_key(key)} == set()


@pytest.mark.parametrize(
    ("default", "kind"),
    [
        (True, "flag"),
        ("$bool(@dataset_dir)", "flag"),
        ("$not @dataset_dir", "flag"),
        ("$@spatial_dims == 2", "flag"),
        ("$True if @dataset_dir else False", "flag"),
        ("$3 if @dataset_dir else 1.5", "number"),
        ("$True if @dataset_dir else 1", None),
        ("$len(@scans)", None),
        ("mean", None),
    ],
)
def test_what_kind_of_value_an_expression_gives(default: Any, kind: str | None) -> None:
    assert _kind_of(default) == kind


REFUSED = {
    "train": {
        "device": ["gpu", "cuda:99", "meta", "99", "None"],
        "seed": ["x", "-1", "1.5", "None", "True", "[1]"],
        "batch_size": ["0", "-1", "x", "2.5", "None", "1e9", "[8]"],
        "max_iterations": ["0", "-5", "many", "0.5", "None"],
        "num_workers": ["many", "-1", "1.5", "None"],
        "precision": ["half", "float16", "16", "None"],
        "image_size": ["0", "-64", "x", "[0,3]", "[]", "1.5", "True", "None"],
        "in_channels": ["0", "x", "None"],
        "spatial_dims": ["4", "x", "2.5", "None", "True"],
        "slice_axis": ["5", "x", "True"],
        "paired": ["both", "2", "None"],
        "select_by": ["best", "1"],
        "resume": ["maybe", "2", "None"],
        "tensorboard": ["x", "None"],
        "learning_rate": ["fast", "None", "[1]", "True"],
        "latent_size": ["x", "None", "[1]"],
    },
    "inference": {
        "device": ["gpu", "cuda:99"],
        "alpha": ["x", "None", "[0.1]", "True"],
        "batch_size": ["0", "x"],
        "num_workers": ["-1"],
        "precision": ["half"],
        "equalize": ["maybe"],
    },
}


@pytest.mark.parametrize("config", REFUSED)
def test_values_that_cannot_work_are_refused_by_name(config: str, start: Start) -> None:
    for key, values in REFUSED[config].items():
        for value in values:
            with pytest.raises(InputError, match=rf"--{key} \(expected .*found ") as raised:
                start(config, f"--{key}", value)
            assert len(str(raised.value).splitlines()) == 1
            assert str(raised.value).endswith(".")


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("resume", "true", True),
        ("resume", "false", False),
        ("resume", "False", False),
        ("paired", "true", True),
        ("paired", "references", "references"),
        ("tensorboard", "no", False),
        ("max_iterations", "1e3", 1000),
        ("batch_size", "4.0", 4),
        ("seed", "3.0", 3),
        ("image_size", "[64,96]", [64, 96]),
        ("crop", "None", None),
        ("learning_rate", "1", 1),
        ("batch_size", "$2*4", 8),
        ("weights", '["/a/b-1.pth", "none"]', ["/a/b-1.pth", "none"]),
    ],
)
def test_values_that_work_are_what_they_say(key: str, text: str, value: Any, start: Start) -> None:
    found = start("train", f"--{key}", text).parser.get_parsed_content(key)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("key", "meant"), [("datset_dir", "dataset_dir"), ("alhpa", "alpha"), ("ckpt-pth", "ckpt_path")]
)
@pytest.mark.parametrize("value", ["x", "None"])
def test_a_misspelt_key_is_refused_whatever_its_value(key: str, meant: str, value: str, start: Start) -> None:
    with pytest.raises(InputError, match=rf"no such key: --{key.replace('-', '_')} .*did you mean --{meant}"):
        start("inference", f"--{key}", value)


def test_another_program_that_uses_a_bundle_has_arguments_of_its_own(
    monkeypatch: pytest.MonkeyPatch, process_settings: None
) -> None:
    monkeypatch.setattr("sys.argv", ["serve.py", "--dataset_dir", "elsewhere", "--unknown"])
    workflow = ConfigWorkflow(str(BUNDLES_FOLDER / "ae" / "configs" / "inference.yaml"), logging_file=False)
    workflow.initialize()
    assert workflow.parser.get_parsed_content("dataset_dir") == ""
