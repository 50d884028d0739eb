"""Each bundle is trained once in 2D and once in 3D, and all suites use these; which tests run for which bundle."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from bundle_runs import (
    BUNDLES,
    BUNDLES_FOLDER,
    Trained,
    cannot,
    copy_bundle,
    run_config,
    small_values,
    write_cohort,
    write_scans,
)
from changed_bundles import FIXED, SINCE, CostlyBundles, costly_bundles

from medad_plugins.handlers import EvaluationReport

TESTED = [(bundle, dims) for bundle in BUNDLES for dims in (2, 3) if not cannot(bundle, f"spatial_dims_{dims}")]
_COSTLY = pytest.StashKey[CostlyBundles]()


def pytest_configure(config: pytest.Config) -> None:
    """Find out once, for all workers, which bundles the costly tests run for."""
    given: Any = getattr(config, "workerinput", {}).get("costly")
    config.stash[_COSTLY] = (
        CostlyBundles(*given) if given else costly_bundles(BUNDLES_FOLDER.parent, BUNDLES, os.environ.get(SINCE, ""))
    )


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Pass the bundles to a worker of pytest-xdist."""
    tested = node.config.stash[_COSTLY]
    node.workerinput["costly"] = (tested.bundles, tested.reason, tested.known)


def pytest_report_header(config: pytest.Config) -> str:
    """Say which these are."""
    return f"costly tests run for: {config.stash[_COSTLY]}"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark as ``slow`` what repeats a check for other bundles, or in 3D; tests of one bundle go to one worker."""
    tested = config.stash[_COSTLY]
    for item in items:
        bundle, in_3d = bundle_of(item), _dims_of(item) == 3
        # a host's environment costs minutes: where nothing is known of a change, it does not get all bundles besides
        hosted = item.get_closest_marker("deploy") or item.get_closest_marker("label")
        chosen = FIXED if hosted and not tested.known else tested.bundles
        costly = item.get_closest_marker("costly") or (in_3d and item.get_closest_marker("costly_in_3d"))
        named = item.get_closest_marker("slow_but_for")
        if (
            (costly and bundle not in chosen)
            or (named and bundle not in named.args)
            or (in_3d and item.get_closest_marker("slow_in_3d"))
        ):
            item.add_marker(pytest.mark.slow)
        # with several workers, one trains a bundle, and one sets up a module
        item.add_marker(pytest.mark.xdist_group(bundle or item.location[0]))


def bundle_of(item: pytest.Item) -> str | None:
    """The bundle that a test is asked of, or whose method its file tests, as ``methods/test_memae_terms.py`` does."""
    for value in _parameters(item).values():
        name = value[0] if isinstance(value, tuple) and value else value
        if isinstance(name, str) and name in BUNDLES:
            return name
    file = item.path.stem.removeprefix("test_")
    own = [name for name in BUNDLES if f"{file}_".startswith(f"{name}_")] if item.path.parent.name == "methods" else []
    return max(own, key=len, default=None)


def _dims_of(item: pytest.Item) -> int | None:
    """The number of spatial axes of a test's bundle."""
    for name, value in _parameters(item).items():
        dims = value[-1] if isinstance(value, tuple) and value and isinstance(value[0], str) else value
        if isinstance(dims, int) and (dims is not value or name in ("dims", "spatial_dims")):
            return dims
    return None


def _parameters(item: pytest.Item) -> dict[str, Any]:
    return getattr(getattr(item, "callspec", None), "params", {})


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Charts and pages are the same code for every bundle: they are drawn for tests that are marked ``pictures``.

    The figures are always computed. A hook and no fixture, as also what fixtures of modules and of the session train
    and evaluate for the first time is meant.
    """
    with pytest.MonkeyPatch.context() as patch:
        if not item.get_closest_marker("pictures"):
            patch.setattr(EvaluationReport, "_offer", lambda self, *case: None)
            patch.setattr(EvaluationReport, "_draw", lambda self, figures: None)
            patch.setattr(EvaluationReport, "_write_page", lambda self, figures: None)
        return (yield)


@pytest.fixture(scope="session")
def cohorts(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Small data sets by their number of spatial axes."""
    folder = tmp_path_factory.mktemp("cohorts")
    return {dims: write_cohort(folder / f"{dims}d", dims) for dims in (2, 3)}


@pytest.fixture(scope="session")
def scans(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Folders of unlisted scans by their number of spatial axes."""
    folder = tmp_path_factory.mktemp("scans")
    return {dims: write_scans(folder / f"{dims}d", dims) for dims in (2, 3)}


@pytest.fixture(scope="session", params=TESTED, ids=[f"{bundle}-{dims}d" for bundle, dims in TESTED])
def trained(
    request: pytest.FixtureRequest, cohorts: dict[int, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Trained]:
    """A bundle trained on the small data set, on one thread as all that is compared with it."""
    bundle, dims = request.param
    folder = tmp_path_factory.mktemp(bundle)
    root = copy_bundle(bundle, folder)
    # a session's fixture comes before the module's that sets the threads: sums of two threads differ in the last digits
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    workflow = run_config(root, "train", dataset_dir=str(cohorts[dims]), **small_values(bundle, spatial_dims=dims))
    torch.set_num_threads(threads)
    yield Trained(bundle, dims, root, cohorts[dims], workflow)
    shutil.rmtree(folder)
