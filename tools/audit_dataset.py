"""Finds what makes a data set's results too good: copies and patients across splits, attributes that reveal the label.

    python tools/audit_dataset.py --dataset_dir DATA [--datalist LIST] [--output_dir FOLDER] [--write_grouped LIST.csv]

Writes ``audit.md`` (short report), ``pairs.png`` (the most and the least similar pairs), ``pairs.csv`` (all pairs) and
``audit.json`` into the output folder; with ``--write_grouped`` also a datalist without leaks.
"""

from __future__ import annotations

from pathlib import Path

from medad_plugins.audit import audit_dataset
from medad_plugins.command_line import run_tool

__all__ = ["audit"]


def audit(
    dataset_dir: str = "",
    datalist: str = "",
    output_dir: str = "audit",
    write_grouped: str = "",
    spatial_dims: int = 2,
    weights: str = "none",
) -> None:
    """Audit a data set and print where the report lies.

    Args:
        dataset_dir: folder with a datalist or class folders, or one with scans in it; empty takes the sample cohort.
        datalist: the list's name, if not the usual one.
        output_dir: where the report goes.
        write_grouped: a datalist to write that keeps copies and patients in one split.
        spatial_dims: 2 or 3, which of the sample cohorts.
        weights: of a ResNet-18, for the baseline of frozen features: a path or imagenet; none leaves it out.
    """
    found = audit_dataset(dataset_dir, output_dir, datalist, spatial_dims, write_grouped=write_grouped, weights=weights)
    print(f"{len(found.signatures.items)} scans in {found.seconds:.0f} s; report in {Path(output_dir) / 'audit.md'}")


if __name__ == "__main__":
    run_tool(audit)
