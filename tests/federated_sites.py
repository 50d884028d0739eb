"""Sites of a federation over one small cohort, of unequal sizes, and their federation in this process."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bundle_runs import write_cohort
from monai.utils import set_determinism
from torch import Tensor

from medad_plugins.federated import BundleSite, Federation, Reply, Request

# which of the six training cases and of the four held-out ones a site has
SHARES = {"north": {"train": slice(0, 2), "val": slice(0, 1)}, "south": {"train": slice(2, 6), "val": slice(1, 4)}}


def write_sites(folder: Path, spatial_dims: int = 2) -> Path:
    """A cohort, with a list for each site (its share, no test cases) and one for all, ``fitting.csv``."""
    write_cohort(folder, spatial_dims)
    with (folder / "datalist.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    # four training cases would be too few to share out; nothing is concluded from the test cases here
    normal = [{**row, "split": row["split"].replace("test", "train")} for row in rows if row["label"] == "0"]
    by_split = {split: [row for row in normal if row["split"] == split] for split in ("train", "val")}
    for name, share in {**SHARES, "fitting": dict.fromkeys(by_split, slice(None))}.items():
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(row for split, cases in by_split.items() for row in cases[share[split]])
    return folder


def site_keys(data: Path, output: Path, lists: Mapping[str, str] | None = None) -> dict[str, dict[str, Any]]:
    """Keys of the sites' own: their lists of scans and where they write."""
    lists = {site: f"{site}.csv" for site in SHARES} if lists is None else lists
    return {
        site: {
            "dataset_dir": str(data),
            "datalist": name,
            "ckpt_path": str(output / site / "models" / "model.pt"),
            "output_dir": str(output / site / "output"),
        }
        for site, name in lists.items()
    }


class Wire:
    """Carries requests and replies between a server and sites in one process, and keeps a record."""

    def __init__(self, root: Path, sites: Mapping[str, Mapping[str, Any]], **keys: Any) -> None:
        self.sites = [BundleSite(name, root, least_cases=1, **{**keys, **own}) for name, own in sites.items()]
        self.record: list[tuple[Request, list[Reply]]] = []

    def ask(self, request: Request) -> Sequence[Reply]:
        """Every site's reply."""
        replies = [site.answer(request) for site in self.sites]
        self.record.append((request, replies))
        return replies


def federate(
    root: Path, sites: Mapping[str, Mapping[str, Any]], output: Path, rounds: int = 1, **keys: Any
) -> tuple[Path, Wire]:
    """Run a federation in this process.

    Returns:
        the server's model file, and what was said.
    """
    try:
        federation = Federation(
            root, rounds, **keys, dataset_dir="elsewhere", ckpt_path=str(output / "server" / "models" / "model.pt")
        )
        wire = Wire(root, sites, **keys)
        return federation.run(wire.ask), wire
    finally:
        set_determinism(None)


def assert_same_model(federated: Mapping[str, Tensor], pooled: Mapping[str, Tensor], tolerance: float = 1e-5) -> None:
    """Every entry of the state agrees to a share of its largest number; the scores of the calibration too."""
    assert federated.keys() == pooled.keys()
    for name, value in pooled.items():
        assert federated[name].shape == value.shape, name
        # a small cohort has too few pixels to distinguish the quantiles that finely, see Calibration.merge_buffers
        if value.numel() and name != "calibration.pixel_quantiles":
            difference = (federated[name].double() - value.double()).abs().max()
            assert float(difference) <= tolerance * max(1.0, float(value.abs().max())), name
