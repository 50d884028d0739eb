"""The values on a bundle's command line: names are what was written, and what cannot work is said before any work."""

from __future__ import annotations

import ast
import inspect
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from monai.bundle import ConfigExpression, ConfigItem, ConfigParser, run

from medad_plugins.arguments import given_values, is_path_key, is_text_key, suggestion
from medad_plugins.errors import InputError
from medad_plugins.files import home_path
from medad_plugins.inferers.precision import PRECISIONS
from medad_plugins.volume_slices import ALL_AXES, REFERENCES

__all__ = ["as_written", "names_as_written", "require_device", "settle_values", "unknown_key"]

_NEVER_EMPTY = {"bundle_root", "dataset_dir", "output_dir", "ckpt_path"}
_MAY_BE_NONE = {"crop", "roi_size", "slice_axis", "spacing"}
_FLAGS = {"true": True, "false": False, "yes": True, "no": False, "1": True, "0": False}
_DEVICES = ("cpu", "cuda", "mps", "xpu")


def as_written(text: str) -> str:
    """What MONAI's configuration must hold to mean this very text, also where that has ``$``, ``@``, ``#`` or ``%``.

    Example:
        >>> as_written("scans"), as_written("$scans")
        ('scans', "$'$scans'")
    """
    if not text.startswith(("$", "%")) and "@" not in text and "#" not in text:
        return text
    return "$" + ascii(text).replace("@", "\\x40").replace("#", "\\x23")


def names_as_written(keys: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration's values by key, those that are names such that MONAI leaves them as they are.

    Example:
        >>> names_as_written({"dataset_dir": "$scans", "alpha": "$0.1"})
        {'dataset_dir': "$'$scans'", 'alpha': '$0.1'}
    """
    return {
        key: as_written(str(value)) if is_text_key(key) and value is not None else value for key, value in keys.items()
    }


def require_device(device: Any) -> None:
    """Refuse a device that this machine does not have.

    Raises:
        InputError: there is no such device, or PyTorch cannot use it here.
    """
    try:
        wanted = torch.device(device)
    except (RuntimeError, TypeError, ValueError) as error:
        raise _no_device(device) from error
    if wanted.type not in _DEVICES:
        raise _no_device(device)
    if wanted.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (wanted.index or 0) >= count:
            found = f"{device}, and {count or 'no'} GPU that PyTorch {torch.__version__} can use"
            todo = "leave out --device to take what there is, or install PyTorch for your GPU"
            raise InputError("there is no such GPU", where="--device", expected="cpu", found=found, todo=todo)
    elif wanted.type != "cpu":
        try:
            torch.empty(1, device=wanted)
        except Exception as error:  # each kind of device has its own
            raise _no_device(device) from error


def _no_device(device: Any) -> InputError:
    expected = "cpu, or cuda where there is a GPU"
    todo = "leave out --device to take what there is"
    return InputError("there is no such device", where="--device", expected=expected, found=device, todo=todo)


def settle_values(parser: ConfigParser, known: Mapping[str, Any], arguments: Sequence[str]) -> None:
    """Give the keys of a parsed configuration the values that were meant on the command line, and check them.

    MONAI takes what looks like a number, a list, a reference, ... for one: a folder's name never is. ``true`` and
    ``false`` are what they say.

    Args:
        parser: that has read the configuration; what depends on the keys is not resolved yet.
        known: what the configuration itself says, by key.
        arguments: of the command line.

    Raises:
        InputError: a key is unknown or has no value, or a value cannot work.
    """
    content = parser.get()
    taken = inspect.signature(run).parameters
    for key, text in given_values(arguments).items():
        if key in taken or "::" in key or "#" in key:
            continue
        if key not in known and key not in content:
            # MONAI leaves out keys whose value is None
            raise unknown_key(key, known)
        if is_text_key(key):
            name = _required(key, text)
            if key == "weights" and isinstance(content.get(key), (list, tuple)) and not os.path.lexists(name):
                continue  # of several backbones
            _put(parser, key, home_path(name) if is_path_key(key) else name)
        elif text == "None":
            default = known.get(key)
            if default is not None and key not in _MAY_BE_NONE and "None" not in str(default):
                raise _refused(key, "None", f"a value, e.g. {default}")
            _put(parser, key, None)
    for key, default in known.items():
        if key in content and content[key] != default:
            value = _checked(key, content[key], default)
            if value is not content[key]:
                _put(parser, key, value)


def unknown_key(key: str, known: Mapping[str, Any]) -> InputError:
    """The sentence for a key that a bundle does not have."""
    keys = ", ".join(name for name, value in known.items() if not isinstance(value, (dict, list)))
    todo = suggestion("--", key, known)
    return InputError("this bundle has no such key", where=f"--{key}", expected=f"one of {keys}", todo=todo)


def _required(key: str, text: str | None) -> str:
    if text is None or (text == "" and key in _NEVER_EMPTY):
        todo = f"write --{key}=NAME; a name that begins with a dash is written ./-name"
        raise InputError("a value is missing", where=f"--{key}", expected="a name", found="nothing", todo=todo)
    return text


def _put(parser: ConfigParser, key: str, value: Any) -> None:
    """Replace an item of a parsed configuration, of which nothing else is parsed anew."""
    written = as_written(value) if isinstance(value, str) and is_text_key(key) else value
    parser.get()[key] = written
    is_expression = isinstance(written, str) and written.startswith("$")
    item = ConfigExpression(written, key, parser.globals) if is_expression else ConfigItem(written, key)
    resolver = parser.ref_resolver
    resolver.items[key] = item
    resolver.resolved_content.pop(key, None)


def _checked(key: str, value: Any, default: Any) -> Any:
    """The value as the configuration takes it."""
    if isinstance(value, str) and value.startswith(("$", "@", "%")):
        return value
    if value is None:
        return value  # whoever takes the key says whether it does without
    check = _CHECKS.get(key) or _CHECK_OF.get(_kind_of(default) or "")
    return value if check is None else check(key, value)


def _kind_of(default: Any) -> str | None:
    """``flag`` or ``number`` where a configuration's own value, or all that its expression can give, is one."""
    if isinstance(default, bool):
        return "flag"
    if isinstance(default, (int, float)):
        return "number"
    if not (isinstance(default, str) and default.startswith("$")):
        return None
    try:
        kinds = set(map(_kind_of_leaf, _leaves(ast.parse(re.sub(r"@[\w:#]+", "x", default[1:]), mode="eval").body)))
    except SyntaxError:
        return None
    return kinds.pop() if len(kinds) == 1 else None


def _leaves(node: ast.expr) -> list[ast.expr]:
    return [*_leaves(node.body), *_leaves(node.orelse)] if isinstance(node, ast.IfExp) else [node]


def _kind_of_leaf(node: ast.expr) -> str | None:
    is_truth = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "bool"
    if is_truth or isinstance(node, ast.Compare) or (isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)):
        return "flag"
    return _kind_of(node.value) if isinstance(node, ast.Constant) and not isinstance(node.value, str) else None


def _refused(key: str, value: Any, expected: str) -> InputError:
    what = "a value is missing" if value is True else "a value cannot be used"
    found = "nothing" if value is True else value
    return InputError(what, where=f"--{key}", expected=expected, found=found)


def _flag(key: str, value: Any) -> bool:
    if str(value).lower() not in _FLAGS:
        raise _refused(key, value, "true or false")
    return _FLAGS[str(value).lower()]


def _paired(key: str, value: Any) -> bool | str:
    if str(value).lower() not in (*_FLAGS, REFERENCES):
        raise _refused(key, value, f"true, false or {REFERENCES}")
    return _FLAGS.get(str(value).lower(), REFERENCES)


def _number(key: str, value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
        raise _refused(key, value, "a number")
    return value


def _whole(least: int, most: float = math.inf) -> Callable[[str, Any], int]:
    expected = f"a whole number, {least} or more" if most == math.inf else f"a whole number from {least} to {most:,.0f}"

    def check(key: str, value: Any) -> int:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or value != value // 1 or not least <= value <= most:
            raise _refused(key, value, expected)
        return value if isinstance(value, int) else int(value)

    return check


def _one_of(*choices: Any) -> Callable[[str, Any], Any]:
    def check(key: str, value: Any) -> Any:
        if isinstance(value, bool) or value not in choices:
            raise _refused(key, value, " or ".join(map(str, choices)))
        return value

    return check


def _sizes(key: str, value: Any) -> Any:
    sizes = value if isinstance(value, (list, tuple)) else [value]
    is_right = [type(size) is int and size >= 1 for size in sizes]
    if not is_right or not all(is_right):
        raise _refused(key, value, "pixels along every axis: a whole number of 1 or more, or a list, e.g. [64,96]")
    return list(value) if isinstance(value, tuple) else value


def _lengths(key: str, value: Any) -> Any:
    lengths = value if isinstance(value, (list, tuple)) else [value]
    is_right = [isinstance(mm, (int, float)) and not isinstance(mm, bool) and 0 < mm < math.inf for mm in lengths]
    if not is_right or not all(is_right):
        raise _refused(key, value, "mm along every axis: a number above 0, or a list, e.g. [1,1,2.5]")
    return list(value) if isinstance(value, tuple) else value


def _share(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 0.9:
        raise _refused(key, value, "a share of 0 to 0.9")
    return float(value)


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "seed": _whole(0),
    "batch_size": _whole(1, 100_000),
    "max_iterations": _whole(1),
    "num_workers": _whole(0, 1_000),
    "in_channels": _whole(1),
    "spatial_dims": _one_of(2, 3),
    "equalize": _flag,
    "slice_axis": _one_of(0, 1, 2, ALL_AXES),
    "paired": _paired,
    "image_size": _sizes,
    "roi_size": _sizes,
    "spacing": _lengths,
    "overlap": _share,
    "precision": _one_of("auto", *PRECISIONS),
    "select_by": _one_of("last", "normal", "synthetic"),
}
_CHECK_OF: dict[str, Callable[[str, Any], Any]] = {"flag": _flag, "number": _number}
