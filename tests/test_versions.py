"""Which bundles and models fit the installed package."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import medad_plugins
from medad_plugins import versions
from medad_plugins.errors import InputError
from medad_plugins.versions import COMPATIBLE_SINCE, require_bundle_fits, require_fits


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Version 0.4.2 of the package, which computes as 0.3.0 did."""
    monkeypatch.setattr(medad_plugins, "__version__", "0.4.2")
    monkeypatch.setattr(versions, "COMPATIBLE_SINCE", "0.3.0")


@pytest.mark.parametrize("version", ["0.3", "0.3.0", "0.3.9", "0.4.2", "0.4.2.0", "0.4.1rc1"])
def test_versions_that_fit(version: str) -> None:
    require_fits(version, "bundle", "metadata.json")


@pytest.mark.parametrize("version", ["0.4.3", "0.10.0", "1"])
def test_newer_ones_ask_for_an_update(version: str) -> None:
    with pytest.raises(InputError) as raised:
        require_fits(version, "bundle", "metadata.json")
    assert str(raised.value) == (
        f"the bundle needs a newer medad-plugins: metadata.json (expected {version} or newer, found 0.4.2 installed); "
        f"pip install --upgrade 'medad-plugins>={version}'."
    )


@pytest.mark.parametrize("version", ["0.2.9", "0.2", "0"])
def test_older_ones_are_refused(version: str) -> None:
    with pytest.raises(InputError, match=f"older medad-plugins.*expected one made for 0.3.0 to 0.4.2, found {version}"):
        require_fits(version, "model", "model.pt")


@pytest.mark.parametrize("version", [None, "", "newest", 3])
def test_what_is_no_version(version: object) -> None:
    with pytest.raises(InputError, match="does not say which medad-plugins it was made for"):
        require_fits(version, "model", "model.pt")


def test_the_oldest_that_fits_is_not_newer_than_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    require_fits(COMPATIBLE_SINCE, "bundle", "here")


def _bundle(folder: Path, text: str) -> Path:
    (folder / "configs").mkdir()
    (folder / "configs" / "metadata.json").write_text(text)
    return folder


def test_a_bundle_says_what_it_needs_in_its_metadata(tmp_path: Path) -> None:
    require_bundle_fits(tmp_path)  # no metadata, nothing required
    root = _bundle(tmp_path, json.dumps({"required_packages_version": {"medad-plugins": "0.5.0"}}))
    with pytest.raises(InputError, match=r"the bundle needs a newer medad-plugins: .*configs/metadata\.json"):
        require_bundle_fits(root)


@pytest.mark.parametrize("text", ["{}", '{"required_packages_version": {"nibabel": "5"}}'])
def test_a_bundle_that_asks_for_no_version(tmp_path: Path, text: str) -> None:
    require_bundle_fits(_bundle(tmp_path, text))


@pytest.mark.parametrize("text", ["{", "[]", "\x00"])
def test_damaged_metadata(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match=r"metadata cannot be read: .*metadata\.json.*copy the bundle again"):
        require_bundle_fits(_bundle(tmp_path, text))
