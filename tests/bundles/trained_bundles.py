"""Each bundle is trained once in 2D and once in 3D, and all suites ask these."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from bundle_runs import (
    BUNDLES,
    Trained,
    cannot,
    copy_bundle,
    run_config,
    small_values,
    write_cohort,
    write_scans,
)

ASKED = [(bundle, dims) for bundle in BUNDLES for dims in (2, 3) if not cannot(bundle, f"spatial_dims_{dims}")]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What costs seconds and says in 3D what it says in 2D is asked in 3D under ``slow`` alone; who asks what."""
    for item in items:
        if item.get_closest_marker("slow_in_3d") and "-3d]" in item.name:
            item.add_marker(pytest.mark.slow)
        # of several workers one trains a bundle, and one sets up a module
        item.add_marker(pytest.mark.xdist_group(_bundle_of(item) or item.location[0]))


def _bundle_of(item: pytest.Item) -> str | None:
    """The bundle that a test asks, if it is one."""
    for value in getattr(getattr(item, "callspec", None), "params", {}).values():
        name = value[0] if isinstance(value, tuple) and value else value
        if isinstance(name, str) and name in BUNDLES:
            return name
    return None


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


@pytest.fixture(scope="session", params=ASKED, ids=[f"{bundle}-{dims}d" for bundle, dims in ASKED])
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
