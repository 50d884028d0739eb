"""What RealNet has besides: a stage that generates scans, and channels chosen before the training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from bundle_runs import IMAGE_SIZE, copy_bundle, open_config, refusal, run_config, small_values
from monai.utils import set_determinism

from medad_plugins.data import ScanFormat
from medad_plugins.diffusion import DiffusionFile
from medad_plugins.synthesis import generated_pool

pytestmark = pytest.mark.usefixtures("process_settings")
STAGE: dict[str, Any] = {
    "image_size": IMAGE_SIZE,
    "batch_size": 2,
    "max_iterations": 2,
    "width": 8,
    "multipliers": [1, 2],
    "attention_levels": [],
    "count": 3,
    "steps": 3,
    "device": "cpu",
}


@pytest.fixture(scope="module", params=[2, 3])
def generated(
    request: pytest.FixtureRequest, cohorts: dict[int, Path], tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """A copy of the bundle that has generated scans, its cohort and its number of axes."""
    dims = request.param
    root = copy_bundle("realnet", tmp_path_factory.mktemp("realnet"))
    run_config(root, "synthesize", dataset_dir=str(cohorts[dims]), spatial_dims=dims, **STAGE)
    return root, cohorts[dims], dims


def _contents(root: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted((root / "output" / "generated").iterdir())]


def test_the_stage_writes_scans_and_its_model(generated: Any) -> None:
    root, _, dims = generated
    assert len(_contents(root)) == 3
    assert sorted(path.name for path in (root / "models").iterdir()) == ["diffusion.pt"], (
        "nothing of a stopped training"
    )
    pool = generated_pool(root / "output" / "generated", ScanFormat(dims, IMAGE_SIZE))
    assert pool is not None and len(pool.dataset) == 3


def test_training_takes_its_anomalies_from_them(generated: Any) -> None:
    root, cohort, dims = generated
    folder = str(root / "output" / "generated")
    values = small_values("realnet", spatial_dims=dims, generated_dir=folder, datalist="fitting.csv", anomalous=1.0)
    workflow = run_config(root, "train", dataset_dir=str(cohort), **values)
    (recipe,) = workflow.parser.get_parsed_content("recipes")
    assert recipe.blender.factor.low == 0.5 and list(recipe.contents) == []
    batch = next(iter(workflow.parser.get_parsed_content("train::dataloader")))
    assert all('"generated generated_0' in record for record in batch["synthesis"])
    assert (root / "models" / "model.pt").is_file()


def test_more_scans_are_drawn_of_the_model_that_is_there(generated: Any, tmp_path: Path) -> None:
    root, cohort, _ = generated
    stage = {key: STAGE[key] for key in ("batch_size", "steps", "device")}
    common = {"dataset_dir": str(cohort), "trained": True, **stage}
    run_config(root, "synthesize", generated_dir=str(tmp_path / "same"), count=3, **common)
    assert [path.read_bytes() for path in sorted((tmp_path / "same").iterdir())] == _contents(root)
    run_config(root, "synthesize", generated_dir=str(tmp_path / "other"), count=5, strength=[0.5, 0.5], **common)
    assert len(list((tmp_path / "other").iterdir())) == 5
    model = DiffusionFile(root / "models" / "diffusion.pt", "realnet_diffusion")
    assert model.setting("image_size") == IMAGE_SIZE and model.setting("width") == 8


def test_a_missing_model_and_a_folder_with_other_files_are_reported_before_the_work(
    cohorts: dict[int, Path], tmp_path: Path
) -> None:
    root = copy_bundle("realnet", tmp_path)
    arguments = {"dataset_dir": str(cohorts[2]), **STAGE}
    text = refusal(root, "synthesize", **{**arguments, "trained": True})
    assert "there is no trained diffusion model" in text and "leave out --trained" in text
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    text = refusal(root, "synthesize", generated_dir=str(tmp_path / "full"), **arguments)
    assert "holds other files" in text and not (root / "models").exists()
    assert "did you mean --strength" in refusal(root, "synthesize", strenght=[0, 0], **arguments)


def test_channels_are_chosen_once_and_by_the_seed(cohorts: dict[int, Path], tmp_path: Path) -> None:
    chosen: list[torch.Tensor] = []
    for seed in (0, 0, 1):
        root = copy_bundle("realnet", tmp_path / str(len(chosen)))
        values = small_values(
            "realnet", seed=seed, datalist="fitting.csv", anomalous=1.0, layers=[1, 2], channels=[16, 16]
        )
        workflow = open_config(root, "train", dataset_dir=str(cohorts[2]), **values)
        network = workflow.network_def
        assert not network.is_chosen
        handlers = workflow.parser.get_parsed_content("train::handlers")
        (choose,) = [handler for handler in handlers if type(handler).__name__ == "ChooseChannels"]
        state = torch.get_rng_state()
        choose(None)
        assert torch.equal(torch.get_rng_state(), state), "a resumed training, which chooses nothing, draws the same"
        assert network.is_chosen and network.training
        before = [selection.losses.clone() for selection in network.selections]
        choose(None)
        assert all(torch.equal(a, s.losses) for a, s in zip(before, network.selections, strict=True))
        chosen.append(torch.cat([*before, *(s.chosen.float() for s in network.selections)]))
        set_determinism(None)
    assert torch.equal(chosen[0], chosen[1]) and not torch.equal(chosen[0], chosen[2])
