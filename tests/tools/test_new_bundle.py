"""A new bundle works as it is written."""

from __future__ import annotations

import importlib
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from bundle_runs import BUNDLES_FOLDER, run_config, small_values

import medad_plugins.methods
from medad_plugins.errors import InputError

PROJECT = BUNDLES_FOLDER.parent
IGNORED = shutil.ignore_patterns("models", "output", "eval", "__pycache__", ".*_cache")


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(PROJECT / "tools"))
    return runpy.run_path(str(PROJECT / "tools" / "new_bundle.py"))["new_bundle"]


@pytest.mark.usefixtures("process_settings")
@pytest.mark.parametrize("like", ["ae", "squid"])
def test_a_new_bundle_trains_under_its_own_names(
    tool: Any, like: str, tmp_path: Path, cohorts: dict[int, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (".template", like):
        shutil.copytree(BUNDLES_FOLDER / name, tmp_path / "bundles" / name, ignore=IGNORED)
    methods = tmp_path / "medad_plugins" / "methods"
    methods.mkdir(parents=True)
    for source in (PROJECT / "medad_plugins" / "methods").glob(f"{like}*"):
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, methods / source.name)
    shutil.copy(PROJECT / "README.md", tmp_path)
    slug = f"like_{like}"
    tool(slug, like=like, title="My Method", project=str(tmp_path))

    monkeypatch.setattr(medad_plugins.methods, "__path__", [*medad_plugins.methods.__path__, str(methods)])
    values = small_values(like, dataset_dir=str(cohorts[2]))
    run_config(tmp_path / "bundles" / slug, "train", **values)
    model = torch.load(tmp_path / "bundles" / slug / "models" / "model.pt", weights_only=True)
    assert model["bundle"] == slug
    network = getattr(importlib.import_module(f"medad_plugins.methods.{slug}"), f"Like{like.capitalize()}")
    assert network.__module__.startswith(f"medad_plugins.methods.{slug}"), "its own code and not that of the other"
    run_config(tmp_path / "bundles" / slug, "inference", dataset_dir=str(cohorts[2]), device="cpu", save=[])
    text = (tmp_path / "bundles" / slug / "configs" / "evaluate.yaml").read_text("utf-8")
    assert text.startswith(f"# Evaluate My Method: python -m monai.bundle run --config_file bundles/{slug}/")
    readme = (tmp_path / "README.md").read_text("utf-8").splitlines()
    row = readme[next(place for place, line in enumerate(readme) if line.startswith(f"| [{like}]")) + 1]
    assert row.startswith(f"| [{slug}](bundles/{slug}/docs/README.md) | My Method: ") and row.endswith(" |  |"), row
    assert row.count("|") == 7, "as many columns as every row"
    compile((tmp_path / "tests" / "methods" / f"test_{slug}.py").read_text("utf-8"), "test", "exec")


@pytest.mark.slow
@pytest.mark.parametrize("like", ["edc", "padim", "squid"])
def test_a_new_bundle_passes_the_suite(like: str, tmp_path: Path) -> None:
    for part in ("bundles", "medad_plugins", "tests", "tools", "apps"):
        shutil.copytree(PROJECT / part, tmp_path / part, ignore=IGNORED)
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(PROJECT / name, tmp_path)
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(tmp_path), "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}

    def run(*command: str) -> None:
        done = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]

    run("tools/new_bundle.py", "my_method", "--like", like, "--title", "My Method")
    suites = ["tests/bundles/test_contract.py", "tests/bundles/test_parity.py", "tests/bundles/test_bundle_files.py"]
    run("-m", "pytest", "-q", *suites, "tests/methods", "-k", "my_method or test_slugs")


@pytest.mark.parametrize(
    ("slug", "like", "sentence"),
    [
        ("My-Method", "edc", "this cannot be a bundle's name: My-Method"),
        ("lesion_detection", "edc", "MONAI Label takes for another task"),
        ("edc", "edc", "there is such a bundle already"),
        ("mine", "edcc", "there is no bundle to start from: edcc"),
    ],
)
def test_names_that_cannot_be_used_are_refused(tool: Any, slug: str, like: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        tool(slug, like=like)
