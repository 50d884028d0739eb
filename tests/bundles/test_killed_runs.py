"""Commands that are killed, or started twice: the next one works, and nothing false stands there."""

from __future__ import annotations

import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from bundle_runs import BUNDLES, copy_bundle, read_table, small_values, write_cohort
from command_line import command, environment, interrupt, run_command, succeed

pytestmark = pytest.mark.slow
MANY = 80
SIGNALS = [signal.SIGKILL, signal.SIGTERM, signal.SIGINT]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cohort(tmp_path_factory.mktemp("cohort") / "heads", 2)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory, cohort: Path) -> Path:
    """A folder of so many scans that a run can be killed among them."""
    folder = tmp_path_factory.mktemp("many")
    scan = sorted(cohort.glob("test*"))[0]
    for number in range(MANY):
        shutil.copy(scan, folder / f"scan{number:03d}{scan.suffix}")
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, cohort: Path) -> Path:
    root = copy_bundle(BUNDLES[0], tmp_path_factory.mktemp("trained"))
    succeed(command(root / "configs" / "train.yaml", dataset_dir=cohort, **small_values(BUNDLES[0])), root)
    return root


def _hidden(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(".*") if path.is_file()]


@pytest.mark.parametrize("number", SIGNALS, ids=lambda n: n.name)
def test_a_killed_inference(number: signal.Signals, trained: Path, many: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = command(trained / "configs" / "inference.yaml", dataset_dir=many, output_dir=out, batch_size=1)
    status, _, errors = interrupt(arguments, tmp_path, lambda _: (out / "results.csv").exists(), number)
    assert status == -number
    assert "Traceback" not in errors
    done = {row["case_id"] for row in read_table(out)}
    assert len(done) < MANY, "killed too late to show anything"
    for folder in ("maps", "masks", "overlays") if done else ():
        assert {path.name.split(".")[0] for path in (out / folder).iterdir()} >= done
    succeed(arguments, tmp_path)
    assert len(read_table(out)) == MANY
    assert _hidden(out) == []


@pytest.mark.parametrize("number", SIGNALS, ids=lambda n: n.name)
def test_a_killed_training(number: signal.Signals, cohort: Path, tmp_path: Path) -> None:
    root = copy_bundle(BUNDLES[0], tmp_path)
    train = root / "configs" / "train.yaml"
    values = small_values(BUNDLES[0], max_iterations=1_000_000)
    status, _, errors = interrupt(
        command(train, dataset_dir=cohort, **values), tmp_path, lambda text: "training will take about" in text, number
    )
    assert status != 0
    assert "Traceback" not in errors
    assert not (root / "models" / "model.pt").exists()
    succeed(command(train, dataset_dir=cohort, **small_values(BUNDLES[0]), resume="true"), tmp_path)
    assert (root / "models" / "model.pt").is_file()
    assert _hidden(root / "models") == _hidden(root / "output") == []


def test_two_runs_into_one_folder_at_once(trained: Path, many: Path, tmp_path: Path) -> None:
    arguments = command(trained / "configs" / "inference.yaml", dataset_dir=many, output_dir=tmp_path / "out")
    runs = [
        subprocess.Popen(arguments, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True) for _ in "ab"
    ]
    errors = [run.communicate(timeout=300)[1] for run in runs]
    assert sorted(run.returncode for run in runs) == [0, 1]
    assert any("another run is writing into this folder" in text for text in errors)
    assert len(read_table(tmp_path / "out")) == MANY


def test_a_name_that_monai_reads_as_a_macro_is_written_with_its_folder(
    trained: Path, cohort: Path, tmp_path: Path
) -> None:
    cohort.rename(tmp_path / "%x")
    try:
        arguments = command(trained / "configs" / "inference.yaml", dataset_dir="./%x", output_dir=tmp_path / "out")
        assert run_command(arguments, tmp_path).returncode == 0
    finally:
        (tmp_path / "%x").rename(cohort)
