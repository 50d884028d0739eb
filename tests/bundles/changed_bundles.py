"""Which bundles a change touches: the costly tests run for these and four fixed ones, for the others under ``slow``.

The change is what lies between a commit, ``MEDAD_CHANGES_SINCE``, and the working tree. Without that all are tested.
"""

from __future__ import annotations

import ast
import hashlib
import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

SINCE = "MEDAD_CHANGES_SINCE"
# one for each way to code a scan: convolutions in image space, a backbone that is trained, statistics of a backbone,
# a GAN with memories
FIXED = ("ae", "edc", "padim", "squid")
# A module that more bundles use than this share is like engines, handlers, transforms and data: the four fixed bundles
# stand for all, or a line in the base class would cost as much as testing all.
SHARE = 1 / 5
# that many of a change to the folders of more bundles than this share, such as a new key for all of them
MOST = 12
PACKAGE = "medad_plugins"
# rooms of the package whose modules belong to single methods or to a few
ROOMS = ("methods", "networks", "losses", "scorers", "diffusion")
_NAME = re.compile(rf"\b{PACKAGE}(?:\.\w+)*")
_IMPORT = re.compile(rf"\bfrom\s+({PACKAGE}[\w.]*)\s+import\s+([\w, ]+)")


@dataclass(frozen=True)
class CostlyBundles:
    """The bundles that the costly tests run for, and why these."""

    bundles: tuple[str, ...]
    reason: str
    known: bool = True

    def __str__(self) -> str:
        return f"{', '.join(self.bundles) if self.known else 'all bundles'} ({self.reason})"


def costly_bundles(project: Path, bundles: Sequence[str], since: str) -> CostlyBundles:
    """The four fixed bundles and those that the change touches; all where the change is not known.

    Args:
        project: root of the repository.
        bundles: slugs of all.
        since: a commit; may be empty.
    """
    paths = changed_paths(project, since)
    if paths is None:
        reason = f"no change since {since}, or no such ancestor" if since else f"{SINCE} is not set"
        return CostlyBundles(tuple(bundles), reason, known=False)
    return choose(ImportGraph(project), bundles, paths, salt=since)


def changed_paths(project: Path, since: str) -> list[str] | None:
    """Files that differ from a commit, relative to the project; None where nothing does or it is no ancestor."""
    if not since or _git(project, "merge-base", "--is-ancestor", since, "HEAD") is None:
        return None
    differ = _git(project, "diff", "--name-only", "--no-renames", "--relative", "-z", since)
    new = _git(project, "ls-files", "--others", "--exclude-standard", "-z")
    paths = f"{differ or ''}\0{new or ''}".split("\0")
    return sorted(filter(None, paths)) or None


def _git(folder: Path, *arguments: str) -> str | None:
    """What git prints; None where it fails or is not there."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.decode("utf-8", "replace")


def choose(graph: ImportGraph, bundles: Sequence[str], paths: Iterable[str], salt: str = "") -> CostlyBundles:
    """The four fixed bundles and those that the changed paths touch.

    Args:
        graph: of the project.
        bundles: slugs of all.
        paths: relative to the project.
        salt: decides which are tested where more are touched than can be.
    """
    fixed = [bundle for bundle in FIXED if bundle in bundles]
    most = SHARE * len(bundles)
    direct: set[str] = set()
    shared: set[str] = set()
    for path in map(PurePosixPath, paths):
        owner = _owner(path)
        if owner in bundles:
            direct.add(owner)
        elif path.parts[0] == PACKAGE and path.parts[1] in ROOMS and path.suffix == ".py":
            users = {bundle for bundle in bundles if graph.module_of(path) in graph.modules_of(bundle)}
            shared |= users if len(users) <= most else set()
    touched, reason = direct | shared, "four fixed ones and those that the change touches"
    if len(touched) > most:
        touched, reason = direct, "four fixed ones and those whose own files the change touches"
    if len(touched) > most:
        drawn = sorted(touched, key=lambda bundle: hashlib.sha256(f"{salt} {bundle}".encode()).digest())
        touched, reason = set(drawn[:MOST]), f"four fixed ones and {MOST} of {len(direct)} that the change touches"
    return CostlyBundles(tuple(fixed + sorted(touched.difference(fixed))), reason)


def _owner(path: PurePosixPath) -> str:
    """Slug of the bundle that a file belongs to: one of its folder, where the card is no code, or the method's."""
    match path.parts:
        case ("bundles", slug, room, *_) if room != "docs":
            return slug
        case (package, "methods", name, *_) if package == PACKAGE:
            return name.removesuffix(".py")
    return ""


class ImportGraph:
    """Modules of the package that a bundle's configurations name, and those that these import.

    A name is followed to the module that defines it, through what packages import in ``__init__``: otherwise one name
    of a package would lead to all that the package holds.

    Args:
        project: root of the repository.
    """

    def __init__(self, project: Path) -> None:
        self.project = project
        self._reached: dict[str, frozenset[str]] = {}
        self._imports: dict[str, list[str]] = {}

    @cached_property
    def _files(self) -> dict[str, Path]:
        """Paths of all modules."""
        paths = sorted((self.project / PACKAGE).rglob("*.py"))
        return {self.module_of(PurePosixPath(path.relative_to(self.project).as_posix())): path for path in paths}

    @staticmethod
    def module_of(path: PurePosixPath) -> str:
        """Name of the module in a file."""
        parts = path.with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def modules_of(self, bundle: str) -> frozenset[str]:
        """All modules that a bundle's configurations need, directly or through others."""
        if bundle not in self._reached:
            named = {self._defining(name) for name in self._named(bundle)}
            todo, reached = [name for name in named if name], set[str]()
            while todo:
                module = todo.pop()
                if module not in reached:
                    reached.add(module)
                    todo += self._imported(module)
            self._reached[bundle] = frozenset(reached)
        return self._reached[bundle]

    def _named(self, bundle: str) -> Iterator[str]:
        """Dotted names in the configurations."""
        for path in sorted((self.project / "bundles" / bundle / "configs").glob("*.yaml")):
            text = path.read_text("utf-8")
            for package, names in _IMPORT.findall(text):
                yield from (f"{package}.{name.split()[0]}" for name in names.split(",") if name.strip())
            yield from _NAME.findall(_IMPORT.sub("", text))

    def _imported(self, module: str) -> list[str]:
        """Modules that a module imports; none of a package, whose names are followed one by one."""
        if self._files[module].name == "__init__.py":
            return []
        if module not in self._imports:
            found = (self._defining(source) for source in self._sources(module).values())
            self._imports[module] = [name for name in found if name]
        return self._imports[module]

    def _sources(self, module: str) -> dict[str, str]:
        """Names that a module imports from the package, by the dotted names that they have there."""
        path = self._files[module]
        package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
        found: dict[str, str] = {}
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                names = {alias.asname or alias.name: alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                above = package[: len(package) + 1 - node.level] if node.level else []
                source = ".".join([*above, *filter(None, [node.module])])
                names = {alias.asname or alias.name: f"{source}.{alias.name}" for alias in node.names}
            else:
                continue
            found |= {name: source for name, source in names.items() if source.partition(".")[0] == PACKAGE}
        return found

    def _defining(self, name: str) -> str:
        """The module that defines a dotted name; empty where that is not of the package."""
        seen: set[str] = set()
        while name not in seen:
            seen.add(name)
            parts = name.split(".")
            module = next((m for n in range(len(parts), 0, -1) if (m := ".".join(parts[:n])) in self._files), "")
            rest = parts[len(module.split(".")) :]
            if not module or not rest or self._files[module].name != "__init__.py":
                return module
            source = self._exports(module).get(rest[0])
            if source is None:
                return module
            name = ".".join([source, *rest[1:]])
        return module

    def _exports(self, package: str) -> dict[str, str]:
        """What a package imports, by name."""
        if package not in self._package_exports:
            self._package_exports[package] = self._sources(package)
        return self._package_exports[package]

    @cached_property
    def _package_exports(self) -> dict[str, dict[str, str]]:
        return {}
