"""Rank an unsorted folder of scans, sick and healthy ones alike and none of them labelled, the most suspicious first.

    python tools/rank_archive.py --dataset_dir ARCHIVE --output_dir RANKING --weights VIT.pth --precision bfloat16

Writes ``ranking.csv`` and ``ranking.html``. Every key of ``bundles/musc/configs/train.yaml`` works here too, e.g.
--backbone resnet18, --spatial_dims 3 or --references 300.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medad_plugins.archive import rank_archive
from medad_plugins.command_line import run_tool
from medad_plugins.errors import InputError

_BUNDLE = Path(__file__).resolve().parents[1] / "bundles" / "musc"


def main(
    dataset_dir: str = "",
    output_dir: str = "",
    datalist: str = "",
    split: str = "all",
    where: str = "",
    shown: int = 50,
    bundle: str = str(_BUNDLE),
    **keys: Any,
) -> None:
    """Compare the scans of a folder with each other and say which are most unlike the rest.

    Args:
        dataset_dir: any folder with scans in it, or one with a datalist.
        output_dir: where ranking.csv and ranking.html go.
        datalist: file name in dataset_dir or path; labels in it are copied, not looked at.
        split: train, val, test or all, of a list with splits.
        where: column=value limits the scans to these rows of a list.
        shown: how many of the first are on the page.
        bundle: the folder of the bundle musc.
        keys: of the bundle's train.yaml.
    """
    for name, value in (("dataset_dir", dataset_dir), ("output_dir", output_dir)):
        if not value:
            raise InputError("a folder is missing", where=f"--{name}", todo="see tools/rank_archive.py --help")
    rank_archive(str(dataset_dir), str(output_dir), str(bundle), str(datalist), str(split), str(where), shown, keys)


if __name__ == "__main__":
    run_tool(main)
