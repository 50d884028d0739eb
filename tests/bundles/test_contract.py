"""The same checks for every bundle in 2D and in 3D; a new bundle is tested by being there."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bundle_runs import (
    BUNDLES,
    IMAGE_SIZE,
    Trained,
    cannot,
    copy_bundle,
    leaks,
    only_if_able,
    open_config,
    read_map,
    read_nifti,
    read_table,
    refusal,
    run_config,
    small_values,
)
from monai.bundle import ConfigParser
from monai.bundle.scripts import verify_net_in_out
from PIL import Image
from torch import Tensor

from medad_plugins.transforms import LoadImageScan

pytestmark = pytest.mark.usefixtures("process_settings")

FILES = {"results.csv", "results.json", "maps", "masks", "overlays"}
UNABLE = [(bundle, dims) for bundle in BUNDLES for dims in (2, 3) if cannot(bundle, f"spatial_dims_{dims}")]


@dataclass
class Inferred:
    """An inference on a folder of unlisted scans."""

    scans: Path
    output: Path
    rows: dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def inferred(trained: Trained, scans: dict[int, Path], tmp_path_factory: pytest.TempPathFactory) -> Inferred:
    output = tmp_path_factory.mktemp("output")
    folder = scans[trained.spatial_dims]
    trained.run("inference", output, dataset_dir=str(folder), batch_size=3)
    return Inferred(folder, output, {row["case_id"]: row for row in read_table(output)})


@pytest.fixture(scope="module")
def reloaded(trained: Trained) -> Any:
    """The inference as a workflow that has not run: its network, preprocessing and the rest."""
    return open_config(trained.root, "inference", dataset_dir=str(trained.data), device="cpu")


@pytest.fixture(scope="module")
def held_out(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """The results of the held-out normal cases at an alpha that four of them cannot reach."""
    output = tmp_path_factory.mktemp("held_out")
    trained.run("inference", output, split="val", batch_size=2, alpha=0.05, save=[])
    return read_table(output)


@pytest.fixture(scope="module")
def evaluated(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """The evaluation as a workflow that has run, and its folder."""
    output = tmp_path_factory.mktemp("evaluated")
    return trained.run("evaluate", output, save=[]), output


@pytest.fixture
def images(trained: Trained) -> Tensor:
    """Three random scans as the network takes them."""
    shape = (3, 1) + (IMAGE_SIZE,) * trained.spatial_dims
    return torch.rand(shape, generator=torch.Generator().manual_seed(5))


def _state(root: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(root / "models" / "model.pt", weights_only=True)["model"]
    return state


def _equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# training


def test_training_leaves_a_calibrated_model_and_a_report(trained: Trained) -> None:
    content = torch.load(trained.model, weights_only=True)
    reference = content["model"]["calibration.reference_scores"]
    assert content["bundle"] == trained.bundle
    assert reference.shape == (4,), "one score for each held-out normal case"
    assert torch.equal(reference, reference.sort().values)
    assert not (trained.root / "models" / "model.pt.stopped").exists()
    figures = json.loads((trained.root / "output" / "evaluation.json").read_text("utf-8"))
    assert (figures["n_normal"], figures["n_abnormal"]) == (2, 2)


def test_training_can_be_watched(trained: Trained) -> None:
    """Pictures of held-out scans, unless there is no map before something is fitted after the training."""
    config = ConfigParser.load_config_file(trained.root / "configs" / "train.yaml")
    handlers = {str(handler["_target_"]).rpartition(".")[2]: handler for handler in config["train"]["handlers"]}
    assert next(reversed(handlers)) == "StandardHandlers", "what happens at the end comes after what the method adds"
    pictures = list((trained.root / "output" / "training").glob("iteration_*.png"))
    trained_by_gradient = "optimizer" in handlers["StandardHandlers"]
    assert ("tensorboard" in config) == ("select_by" in config) == trained_by_gradient
    assert bool(pictures) == (trained_by_gradient and handlers["StandardHandlers"].get("pictures", True))
    assert pictures or "FitAfterTraining" in handlers or not trained_by_gradient


@pytest.mark.costly_in_3d
def test_has_the_properties_that_monai_asks_for(trained: Trained, reloaded: Any, evaluated: tuple[Any, Path]) -> None:
    for workflow in (trained.workflow, reloaded, evaluated[0]):
        assert workflow.check_properties() == []


@pytest.mark.costly_in_3d
def test_same_seed_gives_the_same_weights_and_another_seed_others(trained: Trained, tmp_path: Path) -> None:
    states = []
    for seed in (0, 1):
        root = copy_bundle(trained.bundle, tmp_path / str(seed))
        values = small_values(trained.bundle, spatial_dims=trained.spatial_dims, seed=seed, datalist="fitting.csv")
        run_config(root, "train", dataset_dir=str(trained.data), **values)
        states.append(_state(root))
        shutil.rmtree(root)
    first = _state(trained.root)
    assert _equal(first, states[0])
    assert _equal(first, states[1]) == cannot(trained.bundle, "seed")


@pytest.mark.parametrize(("bundle", "dims"), UNABLE)
def test_refuses_the_dimension_that_it_declares_it_cannot(
    bundle: str, dims: int, cohorts: dict[int, Path], tmp_path: Path
) -> None:
    values = small_values(bundle, spatial_dims=dims, dataset_dir=str(cohorts[dims]))
    assert "spatial_dims" in refusal(copy_bundle(bundle, tmp_path), "train", **values)


# the network


def test_network_takes_and_gives_what_the_metadata_says(trained: Trained) -> None:
    configs = trained.root / "configs"
    shape: dict[str, Any] = {
        "_meta_#network_data_format#inputs#image#spatial_shape": [IMAGE_SIZE] * trained.spatial_dims
    }
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(configs / "metadata.json"),
        config_file=str(configs / "inference.yaml"),
        device="cpu",
        ckpt_path=str(trained.model),
        **shape,
    )


@torch.no_grad()
def test_reloaded_network_gives_the_same_map_bit_for_bit(trained: Trained, reloaded: Any, images: Tensor) -> None:
    expected = trained.network(images)
    assert expected.shape == images.shape
    assert expected.dtype == torch.float32
    assert not reloaded.network_def.training
    assert torch.equal(reloaded.network_def(images), expected)


@torch.no_grad()
def test_map_does_not_depend_on_the_batch_mates(trained: Trained, images: Tensor) -> None:
    together = trained.network(images)
    alone = torch.cat([trained.network(image[None]) for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    mates = torch.cat([images[:1], torch.zeros_like(images[:1]), 1 - images[:1]])
    torch.testing.assert_close(trained.network(mates)[:1], together[:1], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_map_says_where(trained: Trained, images: Tensor) -> None:
    with only_if_able(trained.bundle, "localization"):
        assert bool((trained.network(images).flatten(1).std(1) > 0).all())


# inference


def test_inference_writes_the_same_files_whatever_the_bundle(inferred: Inferred) -> None:
    assert {path.name for path in inferred.output.iterdir()} == FILES
    good = {name for name, row in inferred.rows.items() if not row["error"]}
    assert len(good) == 3
    for folder in ("maps", "masks", "overlays"):
        assert {path.name.split(".")[0] for path in (inferred.output / folder).iterdir()} == good
    kept = json.loads((inferred.output / "results.json").read_text("utf-8"))
    assert [row["case_id"] for row in kept] == list(inferred.rows)
    for row in kept:
        assert str(row["anomaly_score"] or "") == inferred.rows[row["case_id"]]["anomaly_score"]


def test_damaged_file_is_reported_and_the_others_go_on(inferred: Inferred) -> None:
    (damaged,) = [row for row in inferred.rows.values() if row["error"]]
    assert Path(damaged["image"]).name.startswith("damaged")
    assert damaged["anomaly_score"] == ""


def test_maps_and_masks_lie_on_the_scans_own_grid(trained: Trained, inferred: Inferred) -> None:
    for case_id, row in inferred.rows.items():
        if row["error"]:
            continue
        scan = LoadImageScan(trained.spatial_dims)(Path(row["image"]))
        anomaly_map = read_map(inferred.output, case_id)
        expected = scan.meta["spatial_shape"]
        assert anomaly_map.shape[: trained.spatial_dims] == tuple(int(size) for size in expected)
        assert np.isfinite(anomaly_map.get_fdata()).all()
        if ".nii" in row["image"]:
            original = read_nifti(row["image"])
            assert anomaly_map.shape == original.shape + (1,) * (3 - len(original.shape))
            np.testing.assert_allclose(anomaly_map.affine, original.affine, atol=1e-5)
        elif trained.spatial_dims == 3:
            np.testing.assert_allclose(anomaly_map.affine, np.asarray(scan.affine), atol=1e-5)
        mask = inferred.output / "masks" / f"{case_id}.png"
        if row["image"].endswith(".png"):
            assert Image.open(mask).size == Image.open(row["image"]).size
        else:
            assert read_nifti(mask.with_suffix(".nii.gz")).shape == anomaly_map.shape


def test_nothing_of_a_patients_header_is_written(inferred: Inferred) -> None:
    assert leaks(inferred.output) == []


@pytest.mark.costly_in_3d
def test_cases_alone_get_the_same_results(trained: Trained, inferred: Inferred, tmp_path: Path) -> None:
    trained.run("inference", tmp_path, dataset_dir=str(inferred.scans), batch_size=1, save=["map"])
    for row in read_table(tmp_path):
        if row["error"]:
            continue
        together = inferred.rows[row["case_id"]]
        assert float(row["anomaly_score"]) == pytest.approx(float(together["anomaly_score"]), rel=1e-4, abs=1e-6)
        one, other = (read_map(output, row["case_id"]).get_fdata() for output in (tmp_path, inferred.output))
        # rounding is a share of the largest values that a map is computed from
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5 * max(1.0, float(np.abs(other).max())))


@torch.no_grad()
def test_score_is_the_pooled_map(reloaded: Any, inferred: Inferred) -> None:
    network = reloaded.network_def
    for row in inferred.rows.values():
        if not row["error"]:
            image = reloaded.preprocessing({"image": row["image"]})["image"].as_tensor()
            score = float(network.pool(network(image[None])))
            assert float(row["anomaly_score"]) == pytest.approx(score, rel=1e-4, abs=1e-6)


def test_held_out_cases_are_scored_as_they_were_calibrated(trained: Trained, held_out: list[dict[str, str]]) -> None:
    scores = torch.tensor(sorted(float(row["anomaly_score"]) for row in held_out))
    reference = _state(trained.root)["calibration.reference_scores"]
    torch.testing.assert_close(scores, reference, rtol=1e-5, atol=1e-7)


@pytest.mark.costly_in_3d
def test_alpha_decides(trained: Trained, held_out: list[dict[str, str]], tmp_path: Path) -> None:
    trained.run("inference", tmp_path, split="val", batch_size=2, displayable_configs={"alpha": 0.9}, save=[])
    lax = read_table(tmp_path)
    assert {float(row["alpha"]) for row in lax} == {0.9}
    assert [row["p_value"] for row in held_out] == [row["p_value"] for row in lax]
    # scored against themselves, the p-values of the four are 2/5 to 1
    assert not any(row["is_anomalous"] == "True" for row in held_out)
    assert [row["is_anomalous"] == "True" for row in lax] == [float(row["p_value"]) <= 0.9 for row in lax]
    assert any(row["is_anomalous"] == "True" for row in lax)


@pytest.mark.costly_in_3d
def test_evaluation_reports(evaluated: tuple[Any, Path]) -> None:
    figures = json.loads((evaluated[1] / "evaluation.json").read_text("utf-8"))
    assert 0 <= figures["auroc"] <= 1
    assert (figures["n_normal"], figures["n_abnormal"], figures["n_masked"]) == (2, 2, 2)
    assert len(read_table(evaluated[1])) == 4


@pytest.mark.costly
@pytest.mark.pictures
def test_evaluation_draws_its_report(trained: Trained, tmp_path: Path) -> None:
    trained.run("evaluate", tmp_path, save=["overlay"])
    page = (tmp_path / "report.html").read_text("utf-8")
    assert page.count("data:image") >= 4 and trained.network.__class__.__name__ in page
    assert {"roc.png", "scores.png"} <= {path.name for path in tmp_path.iterdir()}


# refusals


@pytest.mark.parametrize(("name", "key"), [("train", "batch_size"), ("inference", "alpha"), ("evaluate", "ckpt_path")])
def test_misspelt_key_is_refused_with_a_close_one(trained: Trained, tmp_path: Path, name: str, key: str) -> None:
    others = {"dataset_dir": str(trained.data), "output_dir": str(tmp_path / "output")}
    assert f"did you mean --{key}" in refusal(trained.root, name, **{f"{key}s": 1}, **others)
    assert not (tmp_path / "output").exists()


def test_misspelt_part_of_the_training_is_reported(trained: Trained, caplog: pytest.LogCaptureFixture) -> None:
    open_config(
        trained.root, "train", **small_values(trained.bundle, dataset_dir=str(trained.data)), **{"train::dataloders": 1}
    )
    assert "did you mean --train::dataloader" in caplog.text


def test_model_of_another_bundle_is_refused(trained: Trained, tmp_path: Path) -> None:
    content = torch.load(trained.model, weights_only=True)
    foreign = tmp_path / "model.pt"
    torch.save({**content, "model": {}, "bundle": "another"}, foreign)
    arguments = {"dataset_dir": str(trained.data), "output_dir": str(tmp_path), "ckpt_path": str(foreign)}
    assert "another" in refusal(trained.root, "inference", **arguments)


def test_missing_model_is_refused_with_the_command_that_makes_one(trained: Trained, tmp_path: Path) -> None:
    arguments = {"dataset_dir": str(trained.data), "output_dir": str(tmp_path), "ckpt_path": str(tmp_path / "no.pt")}
    assert f"bundles/{trained.bundle}/configs/train.yaml" in refusal(trained.root, "inference", **arguments)
