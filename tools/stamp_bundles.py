"""Writes what is the same in every bundle from bundles/.template.

    python tools/stamp_bundles.py                # write it
    python tools/stamp_bundles.py --check true   # only say what differs, for continuous integration

Whole files: inference.yaml, evaluate.yaml, logging.conf and LICENSE. Of train.yaml and metadata.json those entries that
the template has; all others are the bundle's own. The files stay whole, as hosts and readers want them, and nothing
happens at run time. A bundle that truly differs in an entry names it in its metadata:
``"medad": {"own": ["train.yaml scan"]}``.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from medad_plugins.command_line import run_tool
from medad_plugins.errors import InputError
from medad_plugins.files import write_text

BUNDLES = Path(__file__).resolve().parents[1] / "bundles"
WHOLE = ("LICENSE", "configs/evaluate.yaml", "configs/inference.yaml", "configs/logging.conf")
_ENTRY = re.compile(r"^(\w+):")


def stamped(root: Path, template: Path = BUNDLES / ".template") -> dict[Path, str]:
    """The stamped files of a bundle as they should be, by path.

    Args:
        root: the bundle's folder.
        template: folder of the shared texts.
    """
    metadata = json.loads((root / "configs" / "metadata.json").read_text("utf-8"))
    train = root / "configs" / "train.yaml"
    written = train.read_text("utf-8")
    kind = "passes" if "engines.FittingTrainer" in written else "gradient"
    names = {"slug": root.name, **{name: metadata["medad"][name] for name in ("title", "network")}}
    own = metadata["medad"].get("own", ())

    def text(name: str) -> str:
        return _filled((template / name).read_text("utf-8"), names)

    found = {root / name: text(name) for name in WHOLE}
    kept = {name.removeprefix("train.yaml ") for name in own}
    found[train] = _stamp_entries(written, text(f"train_by_{kind}.yaml"), kept)
    shared = json.loads(text("metadata.json"))
    found[root / "configs" / "metadata.json"] = json.dumps(_in_order(metadata, shared), indent=4) + "\n"
    return found


def _filled(text: str, names: dict[str, str]) -> str:
    for name, value in names.items():
        text = text.replace("{" + name + "}", value)
    return text


def _in_order(metadata: dict[str, Any], shared: dict[str, Any]) -> dict[str, Any]:
    """The shared entries in the place they have, new ones in front of the bundle's own."""
    new = {name: value for name, value in shared.items() if name not in metadata}
    return {**new, **{name: shared.get(name, value) for name, value in metadata.items()}}


def _pieces(text: str) -> list[tuple[str, str]]:
    """A YAML text as ``(name, lines)`` of its top-level entries; comments at the margin have no name."""
    pieces: list[tuple[str, str]] = []
    for line in text.splitlines(keepends=True):
        entry = _ENTRY.match(line)
        if entry or not pieces or line.startswith(("#", "\n")) or (not pieces[-1][0] and not line.startswith(" ")):
            pieces.append((entry[1] if entry else "", line))
        else:
            pieces[-1] = (pieces[-1][0], pieces[-1][1] + line)
    return pieces


def _stamp_entries(text: str, template: str, kept: set[str]) -> str:
    """The text with the template's first line and entries; one that it lacks comes after the template's one before."""
    pieces = _pieces(text)
    pieces[0] = _pieces(template)[0]
    before = ""
    for name, lines in _pieces(template)[1:]:
        if not name or name in kept:
            continue
        names = [known for known, _ in pieces]
        if name in names:
            pieces[names.index(name)] = (name, lines)
        else:
            pieces.insert(names.index(before) + 1, (name, lines))
        before = name
    return "".join(lines for _, lines in pieces)


def stamp_bundles(check: bool = False, bundles: str = "") -> None:
    """Write the shared texts of all bundles; with ``check`` refuse where one differs.

    Args:
        check: change nothing.
        bundles: folder of the bundles and of their template; the project's where none is given.

    Raises:
        InputError: with ``check``, a shared text was changed by hand.
    """
    home = Path(bundles or BUNDLES)
    for root in sorted(path.parent.parent for path in home.glob("[a-z]*/configs/metadata.json")):
        for path, text in stamped(root, home / ".template").items():
            if path.is_file() and path.read_text("utf-8") == text:
                continue
            if check:
                todo = "edit bundles/.template and run: python tools/stamp_bundles.py"
                raise InputError("text that all bundles share differs here", where=path, todo=todo)
            write_text(path, text)
            print(f"wrote {path.relative_to(home.parent)}")


if __name__ == "__main__":
    run_tool(stamp_bundles)
