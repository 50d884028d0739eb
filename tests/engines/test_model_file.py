"""The one file that a trained bundle is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from pytest import LogCaptureFixture
from torch import Tensor, nn

from medad_plugins import __version__
from medad_plugins.data import ScanFormat
from medad_plugins.engines import ModelFile, save_model
from medad_plugins.engines.model_file import save_state_dict
from medad_plugins.engines.training_setup import model_settings
from medad_plugins.errors import InputError
from medad_plugins.manifest import Manifest
from medad_plugins.networks import AnomalyNetwork


class Scaled(AnomalyNetwork):
    """Its map is a multiple of the scan."""

    def __init__(self, width: int = 3, gain: float = 1.0) -> None:
        super().__init__()
        self.gain = gain
        self.weight = nn.Parameter(torch.ones(width))

    def anomaly_map(self, image: Tensor) -> Tensor:
        return image * self.weight.sum() * self.gain


def _saved(folder: Path, bundle: str = "ae") -> Path:
    network = Scaled(4)
    network.weight.data.fill_(0.5)
    network.calibration.fit(torch.tensor([0.2, 0.1]), torch.tensor([0.4, 0.3]))
    settings = {"network": {"width": 4, "gain": 3.0}, "image_size": [64, 32], "crop": None}
    save_model(folder / "model.pt", network, bundle, settings)
    return folder / "model.pt"


def test_rebuilt_as_it_was_trained(tmp_path: Path) -> None:
    network = ModelFile(_saved(tmp_path), "ae").rebuild(Scaled)
    assert isinstance(network, Scaled) and not network.training
    assert torch.equal(network(torch.ones(1, 1, 2, 2)), torch.full((1, 1, 2, 2), 6.0))
    assert network.calibration.p_value(0.15) == 2 / 3


def test_settings_can_be_replaced(tmp_path: Path) -> None:
    network = ModelFile(_saved(tmp_path), "ae").rebuild(Scaled, gain=1.0)
    assert torch.equal(network(torch.ones(1, 1, 2, 2)), torch.full((1, 1, 2, 2), 2.0))


def test_models_that_do_not_say_it_were_trained_on_scans_as_stored(tmp_path: Path) -> None:
    file = ModelFile(_saved(tmp_path), "ae")
    stored = ScanFormat(2, [64, 32], orientation="stored")
    assert file.scan() == stored
    file.rebuild(Scaled, stored)
    file.rebuild(Scaled, ScanFormat(3))  # what a 3D network sees is the same
    with pytest.raises(InputError, match=r"trained on scans that stand otherwise.*expected orientation stored"):
        file.rebuild(Scaled, ScanFormat(2, (64, 32)))


def test_new_models_say_how_their_scans_stand(tmp_path: Path) -> None:
    scan = ScanFormat(2, 16)
    save_model(tmp_path / "m.pt", Scaled(3), "ae", model_settings({"width": 3}, scan))
    assert ModelFile(tmp_path / "m.pt", "ae").scan() == scan
    assert ModelFile(tmp_path / "m.pt", "ae").setting("orientation") == "upright"


class Turning(Scaled):
    """It must know which axis comes first."""

    def __init__(self, width: int = 3, gain: float = 1.0, columns_first: bool = False) -> None:
        super().__init__(width, gain)
        self.columns_first = columns_first


def test_a_network_is_told_that_columns_come_first(tmp_path: Path) -> None:
    path = _saved(tmp_path)
    assert ModelFile(path, "ae").rebuild(Turning).columns_first
    save_model(path, Turning(3), "ae", model_settings({"width": 3}, ScanFormat(2, 16)))
    assert not ModelFile(path, "ae").rebuild(Turning).columns_first


class Renamed(Scaled):
    """Its arguments had other names once."""

    renamed_settings: ClassVar[dict[str, str]] = {"width": "channels", "gain": "factor"}

    def __init__(self, channels: int = 3, factor: float = 1.0) -> None:
        super().__init__(channels, factor)


def test_settings_under_older_names_are_read(tmp_path: Path) -> None:
    model = ModelFile(_saved(tmp_path), "ae")
    assert model.rebuild(Renamed).gain == 3.0
    assert model.rebuild(Renamed, factor=1.0).gain == 1.0
    with pytest.raises(InputError, match="the model does not fit the network of this bundle"):
        model.rebuild(Renamed, gain=1.0)


def test_settings_of_the_network_and_of_the_training(tmp_path: Path) -> None:
    model = ModelFile(str(_saved(tmp_path)), "ae")
    assert model.setting("image_size") == [64, 32] and model.setting("width") == 4
    assert model.setting("crop", "whole") is None and model.setting("spacing", 1.5) == 1.5
    with pytest.raises(InputError, match=r"the model does not say its spacing: .*model\.pt"):
        model.setting("spacing")


def test_content_is_plain(tmp_path: Path) -> None:
    content = torch.load(_saved(tmp_path), weights_only=True)
    assert set(content) == {"model", "bundle", "settings", "medad_version"}
    assert content["bundle"] == "ae" and content["medad_version"] == __version__
    assert "calibration.reference_scores" in content["model"]


def test_a_failed_save_leaves_the_old_file(tmp_path: Path) -> None:
    path = _saved(tmp_path)
    with pytest.raises(Exception, match="pickle"):
        save_model(path, Scaled(), "ae", {"network": {"gain": lambda: 1}})
    assert ModelFile(path, "ae").setting("gain") == 3.0
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_read_before_it_is_needed(tmp_path: Path) -> None:
    model = ModelFile(tmp_path / "model.pt", "ae")
    with pytest.raises(
        InputError, match=r"there is no trained model: .*model\.pt; train one.*bundles/ae/configs/train\.yaml"
    ):
        model.setting("image_size")
    _saved(tmp_path)
    assert model.setting("width") == 4


def test_a_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="this is a folder and no model"):
        ModelFile(tmp_path, "ae").setting("image_size")


@pytest.mark.parametrize("kind", ["half", "empty", "page", "noise"])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_damaged_and_foreign_files(tmp_path: Path, kind: str) -> None:
    path = _saved(tmp_path)
    content = path.read_bytes()
    damaged = {"half": content[: len(content) // 2], "empty": b"", "page": b"<html>", "noise": b"\x80\x02h\x07."}[kind]
    path.write_bytes(damaged)
    with pytest.raises(InputError, match=r"the model file cannot be read: .*model\.pt .*truncated or foreign"):
        ModelFile(path, "ae").rebuild(Scaled)


class WritesFile:
    """An object whose unpickling writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return open, (str(self.path), "w")


def test_code_in_a_file_does_not_run(tmp_path: Path) -> None:
    trace, path = tmp_path / "code_has_run", tmp_path / "model.pt"
    torch.save({"model": {}, "bundle": "ae", "settings": WritesFile(trace)}, path)
    with pytest.raises(InputError, match=r"model file holds more than tensors and plain values, which could run code"):
        ModelFile(path, "ae").rebuild(Scaled)
    assert not trace.exists()
    torch.load(path, weights_only=False)["settings"].close()
    assert trace.exists()


@pytest.mark.parametrize("content", [{"state_dict": {}}, [1, 2], {"model": {}, "bundle": "ae"}])
def test_files_without_the_entries(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(
        InputError, match=r"is not a MedAD model: .*expected the entries \['bundle', 'model', 'settings'\]"
    ):
        ModelFile(tmp_path / "model.pt", "ae").rebuild(Scaled)


def test_another_bundles_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"belongs to another bundle: .*expected edc, found ae.*--ckpt_path"):
        ModelFile(_saved(tmp_path), "edc").setting("image_size")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"width": 5}, "trained with another setting: .*expected width 4, found width 5.; leave out --width"),
        ({"depth": 5}, "does not fit the network of this bundle: .*the state of Scaled.*argument 'depth'"),
    ],
)
def test_a_file_that_does_not_fit_the_network(tmp_path: Path, changes: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        ModelFile(_saved(tmp_path), "ae").rebuild(Scaled, **changes)


def _packaged(folder: Path) -> Path:
    """A model in a bundle with a manifest."""
    (folder / "models").mkdir()
    path = _saved(folder / "models")
    Manifest.of_files(folder, [path], bundle="ae", version="0.1.0").write()
    return path


def test_a_listed_model_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: LogCaptureFixture) -> None:
    path = _packaged(tmp_path)
    assert ModelFile(path, "ae").setting("width") == 4
    monkeypatch.chdir(tmp_path / "models")
    assert ModelFile("model.pt", "ae").setting("width") == 4
    assert not caplog.messages


@pytest.mark.parametrize("kind", ["exchanged", "damaged"])
def test_a_model_that_is_not_the_listed_one_is_refused_before_it_is_read(tmp_path: Path, kind: str) -> None:
    path = _packaged(tmp_path)
    if kind == "exchanged":
        # a good model, but another one
        content = torch.load(path, weights_only=True)
        torch.save({**content, "settings": {"network": {}, "image_size": 5}}, path)
    else:
        path.write_bytes(path.read_bytes()[:-100] + b"0" * 100)
    with pytest.raises(
        InputError, match=r"not the one that was packaged: .*model\.pt \(expected SHA-256 .*unpack the bundle again"
    ):
        ModelFile(path, "ae").setting("image_size")


def test_a_retrained_model_is_listed_in_the_manifest(tmp_path: Path) -> None:
    path = _packaged(tmp_path)
    save_model(path, Scaled(5), "ae", {"network": {"width": 5}})
    assert ModelFile(path, "ae").setting("width") == 5


def test_a_model_that_the_manifest_does_not_list_is_reported(tmp_path: Path, caplog: LogCaptureFixture) -> None:
    other = _packaged(tmp_path).rename(tmp_path / "models" / "other.pt")
    ModelFile(other, "ae").setting("width")
    assert "other.pt is not listed in the bundle's manifest.json" in caplog.text


def test_a_plain_state_dict_is_the_same_model(tmp_path: Path) -> None:
    model = ModelFile(_saved(tmp_path), "ae")
    save_state_dict(tmp_path / "plain.pt", model.content)
    state = torch.load(tmp_path / "plain.pt", weights_only=True)
    assert state.keys() == model.content["model"].keys()
    network = Scaled(4)
    network.load_state_dict(state, strict=True)
    assert network.weight.tolist() == [0.5] * 4
    plain = ModelFile(tmp_path / "plain.pt", "ae")
    assert plain.setting("image_size") == [64, 32] and plain.content["medad_version"] == __version__
    assert torch.equal(plain.rebuild(Scaled)(torch.ones(1, 1, 2, 2)), model.rebuild(Scaled)(torch.ones(1, 1, 2, 2)))
    with pytest.raises(InputError, match="belongs to another bundle"):
        ModelFile(tmp_path / "plain.pt", "edc").setting("image_size")


def test_code_hanging_on_a_state_dict_does_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "code_has_run"
    save_state_dict(
        tmp_path / "model.pt", {"model": {}, "bundle": "ae", "settings": WritesFile(trace), "medad_version": "0.1.0"}
    )
    with pytest.raises(InputError, match="which could run code"):
        ModelFile(tmp_path / "model.pt", "ae").rebuild(Scaled)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("version", "text"),
    [
        ("99.0.0", "the model needs a newer medad-plugins: .*model.pt .*pip install --upgrade 'medad-plugins>=99.0.0'"),
        ("0.0.9", "the model was made for an older medad-plugins.*pip install 'medad-plugins==0.0.9'"),
        (None, "the model does not say which medad-plugins"),
    ],
)
def test_a_model_of_another_version(tmp_path: Path, version: str | None, text: str) -> None:
    content = torch.load(_saved(tmp_path), weights_only=True)
    torch.save({**content, "medad_version": version}, tmp_path / "model.pt")
    with pytest.raises(InputError, match=text):
        ModelFile(tmp_path / "model.pt", "ae").setting("width")


def test_a_bundle_of_another_version_is_refused_also_where_only_its_model_is_requested(tmp_path: Path) -> None:
    """As by hosts that never run a configuration's first step."""
    path = _packaged(tmp_path)
    (tmp_path / "configs").mkdir()
    metadata = {"required_packages_version": {"medad-plugins": "99.0"}}
    (tmp_path / "configs" / "metadata.json").write_text(json.dumps(metadata))
    with pytest.raises(InputError, match=r"the bundle needs a newer medad-plugins: .*metadata\.json"):
        ModelFile(path, "ae").setting("width")
