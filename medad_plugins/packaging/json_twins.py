"""Configurations in JSON beside those in YAML, for readers that know no YAML."""

from __future__ import annotations

from pathlib import Path

from monai.bundle import ConfigParser

from medad_plugins.errors import InputError
from medad_plugins.files import write_json

__all__ = ["write_json_twins"]


def write_json_twins(configs: Path) -> list[Path]:
    """Write ``<name>.json`` beside every ``<name>.yaml`` of a folder and prove by reading that both say the same.

    ``monai.bundle.load`` and federated clients look for JSON only.

    Returns:
        the files written.

    Raises:
        InputError: a configuration holds what JSON cannot represent, e.g. a date, a key that is no text, or NaN.
    """
    twins = []
    for path in sorted(configs.glob("*.yaml")):
        twin, content = path.with_suffix(".json"), ConfigParser.load_config_file(path)
        try:
            write_json(twin, content)
            is_equal = ConfigParser.load_config_file(twin) == content
        except (TypeError, ValueError):
            is_equal = False
        if not is_equal:
            twin.unlink(missing_ok=True)
            todo = "write such values as text, e.g. in quotes"
            raise InputError("the configuration holds values that JSON cannot represent", where=path, todo=todo)
        twins.append(twin)
    return twins
