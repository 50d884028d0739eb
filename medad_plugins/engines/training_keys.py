"""What a training was started with, as plain values that its file can keep and another start be compared with."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from monai.bundle import ConfigParser

from medad_plugins.data import Case, Cohort

__all__ = ["differing_keys", "known_data", "plain_keys"]

# where things lie and how they are shown; the data are compared case by case
_MAY_DIFFER = {
    *("bundle_root", "dataset_dir", "datalist", "where", "output_dir", "ckpt_path", "generated_dir"),
    *("device", "num_workers", "resume", "tensorboard"),
}


def plain_keys(parser: ConfigParser | None) -> dict[str, Any]:
    """The keys of a running configuration that a training depends on, with their values as far as they are known.

    Args:
        parser: that reads the configuration; None has no keys.
    """
    if parser is None:
        return {}
    content, resolved = parser.get(), parser.ref_resolver.resolved_content
    found = {}
    for key, written in content.items():
        value = resolved.get(key, written)
        is_open = key not in resolved and isinstance(value, str) and value.startswith(("$", "@", "%"))
        if key not in _MAY_DIFFER and not is_open and _is_plain(value):
            found[key] = list(value) if isinstance(value, tuple) else value
    return found


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_is_plain(part) for part in value)
    return value is None or type(value) in (bool, int, float, str)


def differing_keys(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """A phrase for each key that both know and that differs."""
    shared = [key for key in now if key in was and was[key] != now[key]]
    return [f"--{key} was {was[key]} and is {now[key]}" for key in shared]


def known_data(cohort: Cohort) -> dict[str, str]:
    """The cases of a training in words, and a digest of which these are, wherever they lie."""

    def digest(*parts: Sequence[Case]) -> str:
        names = "|".join(",".join(sorted(str(case.get("case_id", "")) for case in part)) for part in parts)
        return hashlib.sha256(names.encode("utf-8", "backslashreplace")).hexdigest()[:16]

    counts = f"{len(cohort.train)} normal cases and {len(cohort.validation)} held-out ones of {cohort.name}"
    parts = [cohort.train, cohort.validation, cohort.selection]
    if cohort.anomalies:
        counts, parts = f"{counts}, {len(cohort.anomalies)} labelled anomalies", [*parts, cohort.anomalies]
    return {"cases": counts, "digest": digest(*parts)}
