"""Make a published data set readable by every bundle: ``datalist.csv`` with the survey's split, scans kept in place.

    python tools/prepare_dataset.py                      # lists the data sets and where to get them
    python tools/prepare_dataset.py br35h --source ~/Downloads/br35h --output data/br35h

Nothing is downloaded. The counts are checked against the published ones, the terms of the data set are shown, and at
the end the leak audit looks for near copies and for attributes that give the label away.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medad_plugins.arguments import suggestion
from medad_plugins.command_line import run_tool
from medad_plugins.data.adapters import ADAPTERS, find_adapter
from medad_plugins.errors import InputError


def prepare_dataset(
    name: str = "list",
    source: str = "",
    output: str = "",
    seed: int = 0,
    allow_partial: bool | str = False,
    audit: bool | str = True,
    **options: Any,
) -> None:
    """Write ``<output>/datalist.csv`` for a data set as it was downloaded and unzipped.

    Args:
        name: the data set; without it (or as ``list``) the data sets are listed.
        source: the folder it was unzipped into.
        output: the new folder for the list, and for the masks and images the data set does not have as files.
        seed: draws the split where the survey draws one.
        allow_partial: go on where files are missing or the counts are not the published ones.
        audit: look for leaks at the end.
        options: what only this data set knows; the list names it.
    """
    if name == "list":
        print("\n\n".join(_describe(known) for known in ADAPTERS))
        return
    adapter = find_adapter(str(name))
    for key in options:
        if key not in adapter.options:
            known = ("source", "output", "seed", "allow_partial", "audit", *adapter.options)
            todo = suggestion("--", key, known)
            raise InputError(
                "there is no such option", where=f"--{key}", expected=f"one of {', '.join(known)}", todo=todo
            )
    for key, value in (("source", source), ("output", output)):
        if not value:
            raise InputError(
                "a folder is missing", where=f"--{key}", todo=f"see --source and --output of {adapter.name}"
            )
    look_for_leaks = _flag("audit", audit)
    print(f"{adapter.title}. Terms: {adapter.licence}", flush=True)
    path = adapter.prepare(str(source), str(output), seed, _flag("allow_partial", allow_partial), **options)
    if adapter.remark:
        print(f"Know: {adapter.remark}", flush=True)
    if look_for_leaks:
        _audit_at_end(path.parent, adapter.spatial_dims)


def _flag(name: str, value: bool | str) -> bool:
    """True or false, also as the command line leaves it in lower case."""
    flags = {"true": True, "false": False}
    if str(value).lower() not in flags:
        raise InputError("a flag is not understood", where=f"--{name}", expected="true or false", found=value)
    return flags[str(value).lower()]


def _describe(name: str) -> str:
    adapter = ADAPTERS[name]
    lines = [f"{name}: {adapter.title}", f"  get: {adapter.download}", f"  terms: {adapter.licence}"]
    lines += [f"  --{option}: {text}" for option, text in adapter.options.items()]
    return "\n".join(lines + ([f"  know: {adapter.remark}"] if adapter.remark else []))


def _audit_at_end(output: Path, spatial_dims: int) -> None:
    """Look for leaks in the prepared list; the report goes into its folder ``audit``."""
    # imported here: it brings the networks along, which nothing else in this tool needs
    from medad_plugins.audit import audit_dataset

    audit_dataset(output, output / "audit", spatial_dims=spatial_dims)


if __name__ == "__main__":
    run_tool(prepare_dataset)
