"""Which bundles the costly tests run for."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from bundle_runs import BUNDLES, BUNDLES_FOLDER
from changed_bundles import FIXED, MOST, ImportGraph, changed_paths, choose, costly_bundles

NAMES = ("ae", "edc", "padim", "squid", *(f"method{index}" for index in range(16)))
NETWORK = "from medad_plugins.networks.blocks import {block}\nfrom medad_plugins.networks import Base\n"


def _write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Twenty bundles: method0 to method3 share a block, and all a base class; method9's YAML names its loss."""
    for bundle in NAMES:
        block = "Rare" if bundle in ("method0", "method1", "method2", "method3") else "Common"
        _write(tmp_path, f"medad_plugins/methods/{bundle}.py", NETWORK.format(block=block))
        config = f"- $from medad_plugins.methods import {bundle}\n- $from medad_plugins.methods.{bundle} import X\n"
        _write(tmp_path, f"bundles/{bundle}/configs/train.yaml", config)
    _write(tmp_path, "bundles/method9/configs/train.yaml", "loss: {_target_: medad_plugins.losses.OneLoss}\n")
    _write(tmp_path, "medad_plugins/__init__.py", "")
    _write(tmp_path, "medad_plugins/methods/__init__.py", "")
    _write(tmp_path, "medad_plugins/losses/__init__.py", "from medad_plugins.losses.one import OneLoss\n")
    _write(tmp_path, "medad_plugins/losses/one.py", "from . import terms\n")
    _write(tmp_path, "medad_plugins/losses/terms.py", "")
    init = "from medad_plugins.networks.base import Base\nfrom medad_plugins.networks.blocks import Common, Rare\n"
    _write(tmp_path, "medad_plugins/networks/__init__.py", init)
    _write(tmp_path, "medad_plugins/networks/base.py", "")
    blocks = "from .rare import Rare\nfrom medad_plugins.networks.blocks.common import Block as Common\n"
    _write(tmp_path, "medad_plugins/networks/blocks/__init__.py", blocks)
    _write(tmp_path, "medad_plugins/networks/blocks/rare.py", "import medad_plugins.networks.blocks.seldom as seldom\n")
    _write(tmp_path, "medad_plugins/networks/blocks/seldom.py", "import torch\n")
    _write(tmp_path, "medad_plugins/networks/blocks/common.py", "")
    return tmp_path


def _touched(project: Path, *paths: str) -> set[str]:
    return {*choose(ImportGraph(project), NAMES, paths).bundles} - {*FIXED}


@pytest.mark.parametrize(
    ("path", "touched"),
    [
        ("bundles/method5/docs/README.md", set()),
        ("bundles/method5/configs/metadata.json", {"method5"}),
        ("medad_plugins/methods/method5.py", {"method5"}),
        ("medad_plugins/methods/method5/network.py", {"method5"}),
        ("medad_plugins/networks/blocks/rare.py", {"method0", "method1", "method2", "method3"}),
        ("medad_plugins/networks/blocks/seldom.py", {"method0", "method1", "method2", "method3"}),
        ("medad_plugins/losses/terms.py", {"method9"}),
        ("medad_plugins/losses/__init__.py", set()),
        ("medad_plugins/networks/base.py", set()),
        ("medad_plugins/networks/gone.py", set()),
        ("medad_plugins/engines/trainer.py", set()),
        ("medad_plugins/methods/__init__.py", set()),
        ("bundles/of_old/configs/train.yaml", set()),
        ("README.md", set()),
    ],
)
def test_a_path_touches_its_bundle_and_those_that_import_it(project: Path, path: str, touched: set[str]) -> None:
    assert _touched(project, path) == touched


def test_the_fixed_ones_are_tested_whatever_changes(project: Path) -> None:
    tested = choose(ImportGraph(project), NAMES, ["README.md"])
    assert tested.bundles == FIXED and tested.known
    assert str(tested) == "ae, edc, padim, squid (four fixed ones and those that the change touches)"


def test_where_shared_modules_touch_too_many_their_own_files_count(project: Path) -> None:
    rare, own = "medad_plugins/networks/blocks/rare.py", [f"bundles/method{index}/LICENSE" for index in range(4, 8)]
    assert _touched(project, rare) == {f"method{index}" for index in range(4)}
    assert _touched(project, rare, *own[:2]) == {"method4", "method5"}
    assert _touched(project, rare, *own) == {f"method{index}" for index in range(4, 8)}


def test_of_a_change_to_most_folders_a_few_are_drawn_by_the_commit(project: Path) -> None:
    paths, graph = [f"bundles/{bundle}/LICENSE" for bundle in NAMES], ImportGraph(project)
    tested = [choose(graph, NAMES, paths, salt) for salt in ("one", "one", "other")]
    assert tested[0] == tested[1] != tested[2]
    for each in tested:
        assert {*FIXED} <= {*each.bundles} <= {*NAMES} and MOST <= len(each.bundles) <= MOST + len(FIXED)
        assert f"{MOST} of {len(NAMES)} that the change touches" in each.reason


def _git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=N", "-c", "user.email=n@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", folder, *identity, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_change_is_what_was_committed_edited_added_and_moved(tmp_path: Path) -> None:
    _git(tmp_path, "init", "--quiet")
    for name in ("edited", "committed", "moved", "same"):
        _write(tmp_path, f"bundles/{name}", name)
    _write(tmp_path, ".gitignore", "ignored\n")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "--quiet", "-m", "ground")
    ground = _git(tmp_path, "rev-parse", "HEAD")
    assert changed_paths(tmp_path, ground) is None, "a clean tree"

    _write(tmp_path, "bundles/committed", "otherwise")
    _git(tmp_path, "commit", "--quiet", "-a", "-m", "change")
    assert changed_paths(tmp_path, ground) == ["bundles/committed"]
    _write(tmp_path, "bundles/edited", "otherwise")
    _write(tmp_path, "bundles/ignored", "")
    _write(tmp_path, "new file ä", "")
    _git(tmp_path, "mv", "bundles/moved", "elsewhere")
    expected = ["bundles/committed", "bundles/edited", "bundles/moved", "elsewhere", "new file ä"]
    assert changed_paths(tmp_path, ground) == expected

    _git(tmp_path, "checkout", "--quiet", "--orphan", "another")
    for since in ("", ground, "0" * 40, "no such name"):
        assert changed_paths(tmp_path, since) is None, "no ancestor"
    assert changed_paths(tmp_path / "bundles" / "nowhere", "HEAD") is None


def test_all_are_tested_where_the_change_is_not_known(project: Path) -> None:
    for since, reason in (("", "MEDAD_CHANGES_SINCE is not set"), ("abc", "no change since abc, or no such ancestor")):
        tested = costly_bundles(project, NAMES, since)
        assert tested.bundles == NAMES and str(tested) == f"all bundles ({reason})"


def test_every_bundle_of_this_project_leads_to_its_network() -> None:
    graph = ImportGraph(BUNDLES_FOLDER.parent)
    for bundle in BUNDLES:
        modules = {module for module in graph.modules_of(bundle) if module.split(".")[1:2] != ["data"]}
        assert "medad_plugins.networks.anomaly_network" in modules, bundle
        assert "medad_plugins.networks" not in modules, "a package is more than a bundle needs"
    assert {*FIXED} <= {*BUNDLES}
