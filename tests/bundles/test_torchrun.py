"""Two processes of ``torchrun`` train, infer and evaluate as one process does; other bundles under ``slow``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from bundle_runs import (
    BUNDLES,
    copy_bundle,
    read_config,
    read_table,
    run_config,
    small_values,
    write_cohort,
    write_scans,
)
from command_line import PROJECT, command, run_command, succeed

CHOSEN = "edc"
EXACT = 1e-4
# In single precision the gradients of a network on a few scans are noise from the third digit on, and an optimiser of
# Adam's kind blows that up; in double precision it shows whether batches, gradients and batch norms are the same.
IN_DOUBLE = "$lambda image, network, *args, **kwargs: network(torch.as_tensor(image).double())"


def torchrun(config_file: Path, **overrides: Any) -> list[str]:
    """The command that runs a configuration with two processes on gloo."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    return [*launcher, *command(config_file, **overrides)[1:]]


def _settings(bundle: str, data: Path) -> dict[str, Any]:
    written = read_config(bundle, "train")
    by_gradient = {"network_def": f"{written['network_def']}.double()", "inferer": IN_DOUBLE}
    settings = {"dataset_dir": str(data), **small_values(bundle, batch_size=4, max_iterations=3)}
    return {**settings, **(by_gradient if "optimizer" in written else {})}


def _figures(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "evaluation.json").read_text("utf-8"))
    return {key: value for key, value in content.items() if key != "run"}


def _flat(value: object) -> list[float]:
    if isinstance(value, dict):
        return [number for key in sorted(value) for number in _flat(value[key])]
    if isinstance(value, list):
        return [number for item in value for number in _flat(item)]
    return [-1.0 if value is None else float(value) if isinstance(value, bool) else float(str(value))]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cohort(tmp_path_factory.mktemp("cohort") / "heads", 2)


@pytest.mark.parametrize(
    "bundle", [name if name == CHOSEN else pytest.param(name, marks=pytest.mark.slow) for name in BUNDLES]
)
def test_two_processes_are_as_one(bundle: str, cohort: Path, tmp_path: Path) -> None:
    settings = _settings(bundle, cohort)
    roots = {name: copy_bundle(bundle, tmp_path / name) for name in ("one", "two")}
    run_config(roots["one"], "train", **settings)
    printed = succeed(torchrun(roots["two"] / "configs" / "train.yaml", **settings), tmp_path)
    assert printed.count("normal cases to train on") == printed.count("calibrated on 4 held-out") == 1

    one, two = (torch.load(root / "models" / "model.pt", weights_only=True) for root in roots.values())
    assert one["settings"] == two["settings"] and one["model"].keys() == two["model"].keys()
    for name, value in one["model"].items():
        torch.testing.assert_close(two["model"][name], value, rtol=EXACT, atol=EXACT, msg=name)
    figures = [_figures(root / "output") for root in roots.values()]
    assert figures[0].keys() == figures[1].keys()
    assert figures[1]["n_normal"] == figures[1]["n_abnormal"] == 2
    curves = [each["froc"]["thresholds"] for each in figures]
    if len(curves[0]) != len(curves[1]):
        # a tie that rounding breaks is one more point of the curve; where there is none, all points are compared
        for each in figures:
            del each["froc"]
    assert _flat(figures[1]) == pytest.approx(_flat(figures[0]), rel=1e-3, abs=1e-3)

    # the same folder of scans, one of them damaged, by one model
    scans = write_scans(tmp_path / "scans", 2)
    values = {"ckpt_path": roots["one"] / "models" / "model.pt", "dataset_dir": scans, "device": "cpu"}
    values = {key: str(value) for key, value in values.items()}
    run_config(roots["one"], "inference", output_dir=str(tmp_path / "alone"), **values)
    inference = roots["two"] / "configs" / "inference.yaml"
    printed = succeed(torchrun(inference, output_dir=str(tmp_path / "shared"), **values), tmp_path)
    assert printed.count("left out damaged") == printed.count("1 could not be read") == 1
    tables = [read_table(tmp_path / name) for name in ("alone", "shared")]
    for row, other in zip(*tables, strict=True):
        scores = [float(each.pop("anomaly_score") or -1) for each in (row, other)]
        assert row == other and scores[1] == pytest.approx(scores[0], rel=EXACT)
    files = [
        sorted(path.relative_to(tmp_path / name) for path in (tmp_path / name).rglob("*.*"))
        for name in ("alone", "shared")
    ]
    assert files[0] == files[1]


@pytest.mark.pictures
@pytest.mark.slow
def test_evaluation_by_two_processes(cohort: Path, tmp_path: Path) -> None:
    root = copy_bundle("padim", tmp_path)
    run_config(root, "train", **_settings("padim", cohort))
    run_config(root, "evaluate", dataset_dir=str(cohort), output_dir=str(tmp_path / "alone"), device="cpu")
    evaluate = root / "configs" / "evaluate.yaml"
    succeed(torchrun(evaluate, dataset_dir=cohort, output_dir=tmp_path / "shared", device="cpu"), tmp_path)
    alone, shared = (_figures(tmp_path / name) for name in ("alone", "shared"))
    assert _flat(shared) == pytest.approx(_flat(alone), rel=EXACT, abs=EXACT)
    pages = [(tmp_path / name / "report.html").read_text("utf-8") for name in ("alone", "shared")]
    assert pages[0].count("data:image") == pages[1].count("data:image") > 0


@pytest.mark.slow
def test_a_batch_that_cannot_be_shared_is_refused(cohort: Path, tmp_path: Path) -> None:
    train = PROJECT / "bundles" / "ae" / "configs" / "train.yaml"
    values = small_values("ae", batch_size=3, output_dir=tmp_path / "out", ckpt_path=tmp_path / "model.pt")
    done = run_command(torchrun(train, dataset_dir=cohort, **values), tmp_path)
    assert done.returncode != 0
    assert "error: the batch cannot be shared: batch_size (expected a multiple of the 2 processes" in done.stderr
    assert "give --batch_size 4" in done.stderr
