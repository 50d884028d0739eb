"""A trained bundle as one zip: tested for every bundle, with the Model Zoo's own checks."""

from __future__ import annotations

import hashlib
import json
import runpy
import shutil
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from bundle_runs import (
    BUNDLES,
    IMAGE_SIZE,
    Trained,
    copy_bundle,
    only_if_able,
    read_table,
    refusal,
    run_config,
    small_values,
)
from monai.bundle import ConfigParser, ConfigWorkflow, create_workflow, load, verify_metadata, verify_net_in_out
from monai.bundle.scripts import ckpt_export, download_large_files

from medad_plugins.errors import InputError
from medad_plugins.packaging import METADATA_SCHEMA, package_bundle

PROJECT = Path(__file__).resolve().parents[2]
pytestmark = [
    pytest.mark.usefixtures("process_settings"),
    pytest.mark.slow_in_3d,
    pytest.mark.filterwarnings("ignore:No hash value:UserWarning"),  # as the zoo calls it
]


@dataclass(frozen=True)
class Packaged:
    """A trained bundle, its zip, and the folder that this unpacks to."""

    trained: Trained
    zip: Path
    root: Path


@pytest.fixture(scope="module")
def packaged(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Packaged]:
    folder = tmp_path_factory.mktemp(trained.bundle)
    yield _packaged(trained, folder)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def one(cohorts: dict[int, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Packaged]:
    """One bundle, for what does not depend on the method."""
    bundle, folder = "ae" if "ae" in BUNDLES else BUNDLES[0], tmp_path_factory.mktemp("one")
    root = copy_bundle(bundle, folder / "source")
    values = small_values(bundle, datalist="fitting.csv")
    workflow = run_config(root, "train", dataset_dir=str(cohorts[2]), **values)
    yield _packaged(Trained(bundle, 2, root, cohorts[2], workflow), folder)
    shutil.rmtree(folder)


def _packaged(trained: Trained, folder: Path) -> Packaged:
    path = package_bundle(trained.root, folder / "dist")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder / "some where")
    return Packaged(trained, path, folder / "some where" / trained.bundle)


@pytest.fixture
def unpacked(one: Packaged, tmp_path: Path) -> Path:
    """A copy of the one bundle's unpacked folder, to be changed."""
    return Path(shutil.copytree(one.root, tmp_path / one.root.name))


def test_holds_one_folder_with_all_that_a_bundle_needs(packaged: Packaged) -> None:
    name = packaged.trained.bundle
    with zipfile.ZipFile(packaged.zip) as archive:
        names = {entry.filename for entry in archive.infolist()}
    assert packaged.zip.name == f"{name}_v0.1.0.zip"
    own = {path.stem for path in (packaged.trained.root / "configs").glob("*.yaml")}
    assert own >= {"train", "inference", "evaluate"}
    configs = {f"configs/{config}.{kind}" for config in own for kind in ("yaml", "json")}
    others = {"configs/metadata.json", "configs/logging.conf", "docs/README.md", "docs/data_license.txt", "LICENSE"}
    assert names == {f"{name}/{file}" for file in configs | others | {"models/model.pt", "manifest.json"}}


def test_json_says_what_the_bundles_yaml_says(packaged: Packaged) -> None:
    for path in (packaged.trained.root / "configs").glob("*.yaml"):
        unpacked = packaged.root / "configs" / path.name
        assert unpacked.read_bytes() == path.read_bytes()
        assert json.loads(unpacked.with_suffix(".json").read_text("utf-8")) == ConfigParser.load_config_file(path)


def test_manifest_lists_every_file_with_its_hash(packaged: Packaged) -> None:
    manifest = json.loads((packaged.root / "manifest.json").read_text("utf-8"))
    files = [path for path in packaged.root.rglob("*") if path.is_file() and path.name != "manifest.json"]
    listed = {name: entry["sha256"] for name, entry in manifest["files"].items()}
    assert listed == {
        path.relative_to(packaged.root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }
    assert (manifest["bundle"], manifest["version"]) == (packaged.trained.bundle, "0.1.0")


def test_passes_the_checks_of_the_model_zoo(packaged: Packaged, tmp_path: Path) -> None:
    """The steps and arguments of its ``ci/verify_bundle.py``; it has the schema downloaded beforehand, as here."""
    root = Path(shutil.copytree(packaged.root, tmp_path / "models" / packaged.root.name))
    config, meta = str(root / "configs" / "inference.json"), str(root / "configs" / "metadata.json")
    metadata = json.loads(Path(meta).read_text("utf-8"))
    assert metadata["version"] in metadata["changelog"]
    (root / "eval").mkdir()
    shutil.copyfile(METADATA_SCHEMA, root / "eval" / "schema.json")
    verify_metadata(meta_file=meta, filepath=str(root / "eval" / "schema.json"))
    logging_file = str(root / "configs" / "logging.conf")
    workflow: Any = create_workflow(
        workflow_type="inference", bundle_root=str(root), config_file=config, logging_file=logging_file, meta_file=meta
    )
    assert workflow.check_properties() == []
    common: dict[str, Any] = {"net_id": "network_def", "meta_file": meta, "config_file": config}
    verify_net_in_out(bundle_root=str(root), device="cpu", **common)
    with only_if_able(packaged.trained.bundle, "ckpt_export"):
        # without a key: to the zoo the model file is a plain state dict
        exported, model = str(root / "models" / "verify_model.ts"), str(root / "models" / "model.pt")
        ckpt_export(filepath=exported, ckpt_file=model, bundle_root=str(root), **common)
        assert torch.jit.load(exported) is not None


def test_metadata_tell_the_grid_of_this_model(packaged: Packaged) -> None:
    metadata = json.loads((packaged.root / "configs" / "metadata.json").read_text("utf-8"))["network_data_format"]
    shape = [IMAGE_SIZE] * packaged.trained.spatial_dims
    assert metadata["inputs"]["image"]["spatial_shape"] == metadata["outputs"]["pred"]["spatial_shape"] == shape


@torch.no_grad()
def test_monai_loads_the_network_by_name(packaged: Packaged, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    folder = str(packaged.root.parent)
    network: Any = load(packaged.trained.bundle, bundle_dir=folder, workflow_type="inference", device="cpu")
    image = torch.rand(2, 1, *[IMAGE_SIZE] * packaged.trained.spatial_dims)
    assert torch.equal(network.eval()(image), packaged.trained.network(image))
    assert network.calibration.is_fitted


@pytest.mark.parametrize("suffix", ["yaml", pytest.param("json", marks=pytest.mark.costly)])
def test_infers_where_it_was_unpacked(
    packaged: Packaged, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    packaged.trained.run("inference", tmp_path / "expected", save=[])
    workflow = ConfigWorkflow(
        str(packaged.root / "configs" / f"inference.{suffix}"),
        workflow_type="infer",
        logging_file=False,
        dataset_dir=str(packaged.trained.data),
        output_dir=str(tmp_path / "found"),
        device="cpu",
        save=[],
    )
    workflow.initialize()
    workflow.run()
    assert len(read_table(tmp_path / "found")) == 4
    assert read_table(tmp_path / "found") == read_table(tmp_path / "expected")


def test_the_same_bundle_gives_the_same_bytes(one: Packaged, tmp_path: Path) -> None:
    again = package_bundle(one.trained.root, tmp_path)
    assert again.read_bytes() == one.zip.read_bytes()
    assert list(tmp_path.iterdir()) == [again], "nothing temporary is left"


def test_readme_stands_alone(one: Packaged) -> None:
    text = (one.root / "docs" / "README.md").read_text("utf-8")
    assert "](../" not in text
    assert "--config_file configs/inference.yaml" in text and "bundles/" not in text


def test_an_exchanged_model_is_refused(one: Packaged, unpacked: Path) -> None:
    shutil.copyfile(one.trained.model, unpacked / "models" / "model.pt")
    text = refusal(unpacked, "inference", dataset_dir=str(one.trained.data))
    assert "the file is not the one that was packaged" in text and "unpack the bundle again" in text


def test_it_can_be_trained_where_it_was_unpacked(one: Packaged, unpacked: Path, tmp_path: Path) -> None:
    values = small_values(one.trained.bundle, seed=3, datalist="fitting.csv")
    run_config(unpacked, "train", dataset_dir=str(one.trained.data), **values)
    arguments = {"dataset_dir": str(one.trained.data), "output_dir": str(tmp_path / "output"), "save": []}
    run_config(unpacked, "inference", **arguments)
    assert len(read_table(tmp_path / "output")) == 4


def test_a_large_model_is_downloaded_and_verified(one: Packaged, tmp_path: Path) -> None:
    model = tmp_path / "dist" / f"{one.trained.bundle}_v0.1.0_model.pt"
    path = package_bundle(one.trained.root, tmp_path / "dist", model_url=model.as_uri())
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path)
    root = tmp_path / one.trained.bundle
    assert not (root / "models" / "model.pt").exists()
    arguments = {"dataset_dir": str(one.trained.data), "output_dir": str(tmp_path / "output"), "save": []}
    assert "there is no trained model" in refusal(root, "inference", **arguments)
    (listed,) = ConfigParser.load_config_file(root / "large_files.yml")["large_files"]
    assert listed["hash_type"] == "sha256" and listed["hash_val"] == hashlib.sha256(model.read_bytes()).hexdigest()
    download_large_files(str(root))
    run_config(root, "inference", **arguments)
    assert len(read_table(tmp_path / "output")) == 4


def test_another_model_of_the_bundle_can_be_packaged(one: Packaged, tmp_path: Path) -> None:
    other = Path(shutil.copy(one.trained.model, tmp_path / "other.pt"))
    assert package_bundle(one.trained.root, tmp_path / "dist", str(other)).read_bytes() == one.zip.read_bytes()


@pytest.fixture
def source(one: Packaged, tmp_path: Path) -> Path:
    """A copy of the one bundle's own folder, to be changed."""
    return Path(shutil.copytree(one.trained.root, tmp_path / "source" / one.trained.bundle))


@pytest.mark.parametrize("name", ["LICENSE", "docs/data_license.txt", "configs/logging.conf"])
def test_an_incomplete_bundle_is_refused(source: Path, name: str, tmp_path: Path) -> None:
    (source / name).unlink()
    with pytest.raises(InputError, match=f"the bundle's folder is not complete: .*expected {name}"):
        package_bundle(source, tmp_path / "dist")


def test_a_renamed_folder_keeps_its_model(source: Path, tmp_path: Path) -> None:
    """As for the zoo, named for task and data."""
    renamed = source.rename(source.with_name("brain_mri_anomaly"))
    with zipfile.ZipFile(package_bundle(renamed, tmp_path / "dist")) as archive:
        archive.extractall(tmp_path)
    text = (tmp_path / "brain_mri_anomaly" / "docs" / "README.md").read_text("utf-8")
    assert "bundles/" not in text
    assert (tmp_path / "brain_mri_anomaly" / "models" / "model.pt").is_file()


def test_a_bundle_without_a_model_is_refused(source: Path, tmp_path: Path) -> None:
    (source / "models" / "model.pt").unlink()
    with pytest.raises(InputError, match="there is no trained model"):
        package_bundle(source, tmp_path / "dist")
    assert list((tmp_path / "dist").iterdir()) == []


def test_a_version_without_a_changelog_entry_is_refused(source: Path, tmp_path: Path) -> None:
    path = source / "configs" / "metadata.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), "version": "0.9.0"}))
    with pytest.raises(InputError, match=r"no changelog entry: .*found version 0\.9\.0 and entries for 0\.1\.0"):
        package_bundle(source, tmp_path / "dist")


def _tool(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["package_bundle.py", *arguments])
    runpy.run_path(str(PROJECT / "tools" / "package_bundle.py"), run_name="__main__")


def test_the_tool_packages_a_folder_and_refuses_what_is_none(
    one: Packaged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _tool(str(one.trained.root), "--output_dir", str(tmp_path), monkeypatch=monkeypatch)
    assert (tmp_path / one.zip.name).read_bytes() == one.zip.read_bytes()
    with pytest.raises(SystemExit, match=r"error: there is no such bundle: nothing \(expected a folder or one of"):
        _tool("nothing", monkeypatch=monkeypatch)
