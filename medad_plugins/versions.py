"""Which bundles and models fit the installed package: those whose maps it computes as they were made."""

from __future__ import annotations

import json
import re
from pathlib import Path

import medad_plugins
from medad_plugins.errors import InputError

__all__ = ["COMPATIBLE_SINCE", "PACKAGE", "require_bundle_fits", "require_fits"]

PACKAGE = "medad-plugins"
# The oldest version whose bundles and models still give the same maps. Raised with every release that changes what
# preprocessing, a network, a score or a calibration computes.
COMPATIBLE_SINCE = "0.1.0"


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version without trailing zeros, so that 0.2 equals 0.2.0; empty for none."""
    found = re.match(r"\d+(\.\d+)*", version)
    numbers = [int(part) for part in found.group().split(".")] if found else []
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


def require_fits(version: object, what: str, where: object) -> None:
    """Refuse what was made for a version of this package that computes something else than the installed one.

    Args:
        version: the version it was made for.
        what: what it is to the user, e.g. ``"model"``.
        where: the file that says so.

    Raises:
        InputError: the version is newer than the installed one, older than `COMPATIBLE_SINCE`, or none at all.
    """
    installed = medad_plugins.__version__
    if not isinstance(version, str) or not re.match(r"\d", version):
        what = f"the {what} does not say which {PACKAGE} it was made for"
        raise InputError(what, where=where, expected=f"a version, e.g. {installed}", found=repr(version))
    if _numbers(version) > _numbers(installed):
        raise InputError(
            f"the {what} needs a newer {PACKAGE}",
            where=where,
            expected=f"{version} or newer",
            found=f"{installed} installed",
            todo=f"pip install --upgrade '{PACKAGE}>={version}'",
        )
    if _numbers(version) < _numbers(COMPATIBLE_SINCE):
        raise InputError(
            f"the {what} was made for an older {PACKAGE}, and this one would give other maps and scores",
            where=where,
            expected=f"one made for {COMPATIBLE_SINCE} to {installed}",
            found=version,
            todo=f"take a newer {what} or train again, or pip install '{PACKAGE}=={version}' for this one",
        )


def require_bundle_fits(root: Path) -> None:
    """Refuse a bundle whose metadata requires another version of this package; no requirement is fine.

    Args:
        root: the bundle's folder; where it has no metadata nothing is required.

    Raises:
        InputError: see `require_fits`; the metadata cannot be read.
    """
    path = root / "configs" / "metadata.json"
    if not path.is_file():
        return
    try:
        required = json.loads(path.read_text("utf-8")).get("required_packages_version", {})
    except (OSError, ValueError, AttributeError) as error:
        todo = "copy the bundle again"
        raise InputError("the bundle's metadata cannot be read", where=path, found=str(error), todo=todo) from error
    if PACKAGE in required:
        require_fits(required[PACKAGE], "bundle", path)
