"""A machine that has nothing but the built wheel and an unpacked bundle."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
import torch
from bundle_runs import BUNDLES, copy_bundle, read_table, run_config, small_values, write_cohort

from medad_plugins.packaging import package_bundle

PROJECT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.slow


def _run(*arguments: str | Path, folder: Path) -> str:
    """Run a command in a folder, without anything of this project on Python's path; its output."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [str(argument) for argument in arguments],
        cwd=folder,
        env={**environment, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of a new environment with the wheel in it; what the wheel depends on is borrowed from this one."""
    folder = tmp_path_factory.mktemp("machine")
    source = folder / "source"
    # a copy: building leaves folders beside the code
    shutil.copytree(PROJECT / "medad_plugins", source / "medad_plugins", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, source)
    build = ("pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder / "wheels", source)
    pytest.importorskip("setuptools", minversion="77", reason="building the wheel here needs setuptools 77")
    _run(sys.executable, "-m", *build, folder=folder)
    (wheel,) = (folder / "wheels").glob("medad_plugins-*.whl")
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    python = folder / "venv" / "bin" / "python"
    site = Path(_run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", folder=folder).strip())
    target = ("install", "--quiet", "--no-deps", "--no-index", "--target", site, wheel)
    _run(sys.executable, "-m", "pip", *target, folder=folder)
    # a folder named in a .pth file is searched, but the .pth files in it, such as this project's, are not read
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    found = _run(python, "-c", "import medad_plugins; print(medad_plugins.__file__)", folder=folder).strip()
    assert Path(found).is_relative_to(site), "the wheel's package and no other"
    return python


@pytest.mark.parametrize("bundle", BUNDLES)
def test_a_packaged_bundle_infers_with_nothing_but_the_wheel(bundle: str, python: Path, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    root, cohort = copy_bundle(bundle, tmp_path / "source"), write_cohort(tmp_path / "cohort", 2)
    run_config(root, "train", dataset_dir=str(cohort), **small_values(bundle, datalist="fitting.csv"))
    run_config(root, "inference", dataset_dir=str(cohort), output_dir=str(tmp_path / "expected"), device="cpu", save=[])
    torch.set_num_threads(threads)
    with zipfile.ZipFile(package_bundle(root, tmp_path)) as archive:
        archive.extractall(tmp_path / "hospital")
    unpacked = tmp_path / "hospital" / bundle
    shutil.rmtree(root)
    command = ("-m", "monai.bundle", "run", "--config_file", "configs/inference.yaml", "--device", "cpu")
    _run(python, *command, "--dataset_dir", cohort, "--output_dir", tmp_path / "found", folder=unpacked)
    found, expected = read_table(tmp_path / "found"), read_table(tmp_path / "expected")
    assert [row["case_id"] for row in found] == [row["case_id"] for row in expected]
    for row, other in zip(found, expected, strict=True):
        assert float(row["anomaly_score"]) == pytest.approx(float(other["anomaly_score"]), rel=1e-4)
        assert row["p_value"] == other["p_value"] and row["error"] == other["error"] == ""
    assert len(list((tmp_path / "found" / "maps").iterdir())) == 4
