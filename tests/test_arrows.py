"""Which folders of the package may import which, read from the source without running it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import medad_plugins

ROOT = Path(medad_plugins.__path__[0])
# what a room may import beside itself; "networks" alone stands for the files directly in it
NETWORKS = ["networks", "networks.blocks", "networks.coders", "networks.families", "networks.fitted"]
MAY_IMPORT = {
    "errors": [],
    "files": ["errors"],
    "tile_grid": [],
    "volume_slices": [],
    "opposite_side": [],
    "data": ["medad_plugins", "errors", "files", "tile_grid", "volume_slices"],
    "plain_tensor": [],
    "inferers": ["data", "errors", "opposite_side", "plain_tensor", "tile_grid", "volume_slices"],
    "scorers": ["errors"],
    "protocols": ["scorers"],
    "networks": ["errors", "files", "opposite_side", "scorers", "tile_grid", "volume_slices"],
    "networks.fitted": ["errors", "scorers"],
    "networks.blocks": ["errors", "networks", "scorers"],
    "networks.coders": ["errors", "networks", "networks.blocks", "scorers"],
    "networks.families": ["errors", "scorers", *NETWORKS],
    "losses": ["errors", "scorers", *NETWORKS],
}
MUST_NOT_IMPORT = {
    "transforms": ["bundle", "diffusion", "engines", "handlers", "losses", "methods", "networks"],
    "synthesis": ["bundle", "diffusion", "engines", "handlers", "losses", "methods", "networks"],
    "metrics": ["bundle", "diffusion", "engines", "handlers", "losses", "methods", "networks"],
    "reports": ["bundle", "engines", "handlers", "losses", "methods", "networks"],
    "diffusion": ["bundle", "handlers", "losses", "methods"],
    "engines": ["bundle", "diffusion", "handlers", "losses", "methods"],
    "handlers": ["bundle", "diffusion", "losses", "methods"],
    "methods": ["bundle", "handlers", "metrics", "reports"],
}


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(tree: ast.AST, modules: set[str]) -> Iterator[str]:
    """Every module of the package that a file imports, inside functions and for type checking too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found = [f"{node.module}.{alias.name}" for alias in node.names]
            found = [name if name in modules else str(node.module) for name in found]
        else:
            continue
        yield from (name for name in found if name in modules)


def _read() -> dict[str, set[str]]:
    trees = {_name(path): ast.parse(path.read_text("utf-8")) for path in ROOT.rglob("*.py")}
    return {name: set(_imports(tree, set(trees))) - {name} for name, tree in trees.items()}


IMPORTS = _read()
ROOMS_OF_NETWORKS = [room.partition(".")[2] for room in NETWORKS[1:]]


def _room(module: str) -> str:
    parts = module.split(".")[1:]
    if not parts:
        return "medad_plugins"
    # the list of what `medad_plugins.networks` offers belongs to no room of its own
    if parts[0] == "networks" and len(parts) > 1:
        return f"networks.{parts[1]}" if parts[1] in ROOMS_OF_NETWORKS else "networks"
    return "networks.__init__" if parts == ["networks"] else parts[0]


ARROWS = [(module, imported) for module, found in IMPORTS.items() for imported in found]


def _arrows_from(room: str) -> list[tuple[str, str]]:
    return [arrow for arrow in ARROWS if _room(arrow[0]) == room and _room(arrow[1]) != room]


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_what_lies_below_it(room: str) -> None:
    assert [arrow for arrow in _arrows_from(room) if _room(arrow[1]) not in MAY_IMPORT[room]] == []


@pytest.mark.parametrize("room", MUST_NOT_IMPORT)
def test_a_room_knows_nothing_of_those_above_it(room: str) -> None:
    forbidden = MUST_NOT_IMPORT[room]
    assert [arrow for arrow in _arrows_from(room) if _room(arrow[1]).partition(".")[0] in forbidden] == []


def test_only_methods_import_methods_and_no_method_another_one() -> None:
    def method(module: str) -> str:
        return ".".join(module.split(".")[:3])

    arrows = [arrow for arrow in ARROWS if _room(arrow[1]) == "methods"]
    assert [arrow for arrow in arrows if method(arrow[0]) != method(arrow[1])] == []


def test_no_module_imports_itself_by_way_of_others() -> None:
    try:
        TopologicalSorter(IMPORTS).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_the_rules_name_rooms_that_there_are() -> None:
    rooms = {_room(module) for module in IMPORTS}
    named = {*MAY_IMPORT, *MUST_NOT_IMPORT, *(room for found in MAY_IMPORT.values() for room in found)}
    assert named <= rooms and {room for found in MUST_NOT_IMPORT.values() for room in found} <= rooms | {"networks"}
