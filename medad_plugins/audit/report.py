"""The audit in words: findings, a short Markdown report, and everything as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medad_plugins import __version__
from medad_plugins.audit.audit import Audit
from medad_plugins.audit.baselines import Baseline
from medad_plugins.audit.copy_shares import CopyShare
from medad_plugins.audit.shortcuts import Shortcut
from medad_plugins.files import write_csv, write_json, write_text

__all__ = ["audit_as_json", "find_results", "write_audit"]

_STRONG_AUROC = 0.7
_LEVEL = 0.01
_LISTED = 20
# Recompressed, resized, brightened and noisy copies stay above this.
_ALIKE = 0.97


def find_results(audit: Audit) -> list[str]:
    """What the audit found, a sentence each, the gravest first; one reassuring sentence where it found nothing."""
    found = []
    if audit.shared_patients:
        found.append(f"{audit.shared_patients} patients are in two splits or more.")
    if audit.repeated_across:
        found.append(f"{len(audit.repeated_across)} rows name a file that another split has too.")
    if len(audit.repeated_files) > len(audit.repeated_across):
        found.append(f"{len(audit.repeated_files) - len(audit.repeated_across)} rows repeat a file of their own split.")
    found += [_share_sentence(share) for share in _leaks(audit)]
    contrary = sum(
        {audit.cases[pair.first].get("label"), audit.cases[pair.second].get("label")} == {0, 1} for pair in audit.pairs
    )
    if contrary:
        found.append(f"{contrary} pairs of copies are labelled normal once and abnormal once.")
    found += [_shortcut_sentence(shortcut) for shortcut in audit.shortcuts if _is_strong(shortcut)][:3]
    inside = [share for share in audit.shares if share.part == share.other and share.part[0] == "test"]
    for share in inside:
        if share.any_way >= 0.05 * share.cases:
            found.append(
                f"{_of(share.any_way, share.cases)} {_name(share.part)} cases have a copy among themselves: "
                "intervals that count cases are too narrow, count groups."
            )
    if audit.floor > _ALIKE:
        found.append(
            f"Different scans of this set are alike up to a similarity of {audit.floor:.3f} by chance: copies that "
            "were changed more than that cannot be distinguished from them."
        )
    if audit.signatures.unreadable:
        found.append(f"{len(audit.signatures.unreadable)} scans could not be read and were left out.")
    return found or ["No copies across splits and no attribute that predicts the label."]


def audit_as_json(audit: Audit, baselines: Sequence[Baseline] = ()) -> dict[str, Any]:
    """All figures of an audit as plain values; patients are counted, never named."""
    names = [str(case.get("case_id", "")) for case in audit.cases]
    read = len(audit.signatures.items)
    return {
        "version": __version__,
        "findings": find_results(audit),
        "counts": [{"split": split, "label": label, "cases": n} for (split, label), n in audit.counts.items()],
        "near_copy_similarity": audit.threshold,
        "noise_floor": audit.floor,
        "copies": [
            {
                "split": share.part[0],
                "label": share.part[1],
                "in_split": share.other[0],
                "in_label": share.other[1],
                "cases": share.cases,
                "with_exact_duplicate": share.exact,
                "with_near_copy_as_it_is": share.upright,
                "with_any_copy": share.any_way,
            }
            for share in audit.shares
        ],
        "pairs": len(audit.pairs),
        "groups": int(audit.groups.max(initial=-1)) + 1,
        "patients_in_two_splits": audit.shared_patients,
        "rows_of_a_file_in_another_split": [names[i] for i in audit.repeated_across],
        "rows_of_a_repeated_file": [names[i] for i in audit.repeated_files],
        "shortcuts_tested_on": audit.shortcuts_in,
        "shortcuts": [vars(shortcut) for shortcut in audit.shortcuts],
        "baselines": [
            {
                "name": baseline.name,
                "auroc": baseline.auroc,
                "auroc_95ci": list(baseline.auroc_95ci),
                "average_precision": baseline.average_precision,
            }
            for baseline in baselines
        ],
        "unreadable": [{"case_id": names[i], "reason": reason} for i, reason in audit.signatures.unreadable],
        "seconds": round(audit.seconds, 2),
        "scans_per_second": round(read / max(audit.seconds, 1e-3), 1),
    }


def write_audit(folder: Path, audit: Audit, title: str, baselines: Sequence[Baseline] = ()) -> None:
    """Write ``audit.json``, ``audit.md`` and ``pairs.csv`` (every pair of copies) into an existing folder."""
    write_json(folder / "audit.json", audit_as_json(audit, baselines))
    write_text(folder / "audit.md", _markdown(audit, title, baselines))
    names = [str(case.get("case_id", "")) for case in audit.cases]
    rows: list[list[Any]] = [["first", "second", "similarity", "second_must_be", "equal_pixels", "group"]]
    for pair in audit.pairs:
        ends = names[pair.first], names[pair.second]
        group = int(audit.groups[pair.first])
        rows.append([*ends, f"{pair.similarity:.4f}", pair.orientation, int(pair.exact), group])
    write_csv(folder / "pairs.csv", rows)


def _markdown(audit: Audit, title: str, baselines: Sequence[Baseline]) -> str:
    lines = [f"# Audit of {title}", "", *(f"- {sentence}" for sentence in find_results(audit)), ""]
    lines += ["## Cases", "", "| split | label | cases |", "|---|---|---|"]
    lines += [f"| {split} | {label} | {count} |" for (split, label), count in audit.counts.items()]
    lines += [
        "",
        "## Copies",
        "",
        f"{len(audit.pairs)} pairs of copies in {_torn_groups(audit)} groups. A near copy has a similarity of "
        f"{audit.threshold:.2f} or more (correlation of local contrast after alignment); pairs of different scans of "
        f"this set are not expected beyond {audit.floor:.2f}. Copies count where they are resized, recompressed, "
        "brightened, slightly shifted, mirrored or turned; zoomed ones are not found.",
        "",
        "| of | with a copy in | any | not mirrored or turned | equal pixels |",
        "|---|---|---|---|---|",
    ]
    for share in audit.shares:
        if share.any_way or _is_leak_question(share):
            values = [_of(count, share.cases) for count in (share.any_way, share.upright, share.exact)]
            lines.append(f"| {_name(share.part)} | {_name(share.other)} | {' | '.join(values)} |")
    if audit.pairs:
        lines += ["", "![the most and the least similar pairs](pairs.png)"]
    lines += ["", "## What predicts the label", "", f"Tested on {audit.shortcuts_in}."]
    if audit.shortcuts:
        lines += [
            "",
            "| attribute alone | cross-validated AUROC | p (Holm) | normal | abnormal |",
            "|---|---|---|---|---|",
        ]
        lines += [
            f"| {one.attribute} | {one.auroc:.3f} | {one.p_value:.2g} | {one.normal} | {one.abnormal} |"
            for one in audit.shortcuts
        ]
    if baselines:
        lines += ["", "## Trivial baselines", "", "| detector | AUROC (95 %) | AP |", "|---|---|---|"]
        lines += [
            f"| {one.name} | {one.auroc:.3f} [{one.auroc_95ci[0]:.3f}, {one.auroc_95ci[1]:.3f}] "
            f"| {one.average_precision:.3f} |"
            for one in baselines
        ]
    if audit.signatures.unreadable:
        lines += ["", "## Not read", ""]
        lines += [f"- {audit.cases[i].get('case_id', '')}: {why}" for i, why in audit.signatures.unreadable[:_LISTED]]
        more = len(audit.signatures.unreadable) - _LISTED
        lines += [f"- and {more} more, see audit.json"] if more > 0 else []
    return "\n".join(lines) + "\n"


def _is_leak_question(share: CopyShare) -> bool:
    """Whether copies from here to there would flatter a result: test in train or val."""
    return share.part[0] == "test" and share.other[0] in ("train", "val")


def _leaks(audit: Audit) -> list[CopyShare]:
    """Parts with copies in another split, test in train first, each pair of parts once."""
    across = [share for share in audit.shares if share.part[0] != share.other[0] and share.any_way]
    order = {"test": 0, "val": 1, "train": 2}
    across = [share for share in across if order.get(share.part[0], 3) < order.get(share.other[0], 3)]
    return sorted(across, key=lambda share: (share.part[0] != "test", -share.any_way / share.cases))


def _share_sentence(share: CopyShare) -> str:
    detail = f"{share.upright} not mirrored or turned, {share.exact} of equal pixels"
    where = f"a copy in {_name(share.other)}"
    return f"{_of(share.any_way, share.cases)} {_name(share.part)} cases have {where} ({detail})."


def _shortcut_sentence(shortcut: Shortcut) -> str:
    values = f"normal {shortcut.normal}, abnormal {shortcut.abnormal}"
    return f"{shortcut.attribute.capitalize()} alone predicts the label: AUROC {shortcut.auroc:.2f} ({values})."


def _is_strong(shortcut: Shortcut) -> bool:
    return shortcut.auroc >= _STRONG_AUROC and shortcut.p_value < _LEVEL


def _torn_groups(audit: Audit) -> int:
    return len({int(audit.groups[pair.first]) for pair in audit.pairs})


def _name(part: tuple[str, str]) -> str:
    return " ".join(part)


def _of(count: int, cases: int) -> str:
    return f"{count} of {cases} ({100 * count / max(cases, 1):.3g} %)"
