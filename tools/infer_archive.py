"""Apply a bundle to an archive with many processes or machines, by Ray; a stopped run continues where it was.

    pip install 'medad-plugins[ray]'
    python tools/infer_archive.py bundles/edc --dataset_dir ARCHIVE --output_dir RESULTS --workers 4
    python tools/infer_archive.py bundles/edc --dataset_dir ARCHIVE --output_dir RESULTS --address auto --workers 16

Every key of the bundle's inference.yaml works here too, e.g. --alpha 0.01 or --save "[map]".
"""

from __future__ import annotations

from typing import Any

from medad_plugins.archive import infer_archive
from medad_plugins.command_line import run_tool
from medad_plugins.errors import InputError


def main(
    bundle: str = "",
    dataset_dir: str = "",
    output_dir: str = "",
    workers: int = 2,
    cpus_per_worker: float = 1,
    gpus_per_worker: float = 0,
    address: str = "local",
    datalist: str = "",
    split: str = "test",
    where: str = "",
    **keys: Any,
) -> None:
    """Write maps, masks, overlays and one results.csv of all cases.

    Args:
        bundle: the bundle's folder.
        dataset_dir: the archive: a folder with a datalist, or any folder with scans in it.
        output_dir: folder for all results; of a stopped run, the same one.
        workers: processes, each with a network of its own.
        cpus_per_worker: processor cores for each.
        gpus_per_worker: GPUs for each, or a share of one.
        address: of a running Ray cluster, auto for the one of this machine; local starts one.
        datalist: file name in dataset_dir or path.
        split: train, val, test or all, of a list with splits.
        where: column=value limits the cases to these rows of a list.
        keys: of the bundle's inference.yaml.
    """
    for name, value in (("bundle", bundle), ("dataset_dir", dataset_dir), ("output_dir", output_dir)):
        if not value:
            raise InputError("a folder is missing", where=f"--{name}", todo="see tools/infer_archive.py --help")
    infer_archive(
        str(bundle),
        str(dataset_dir),
        str(output_dir),
        workers=workers,
        cpus_per_worker=cpus_per_worker,
        gpus_per_worker=gpus_per_worker,
        address=str(address),
        datalist=str(datalist),
        split=str(split),
        where=str(where),
        keys=keys,
    )


if __name__ == "__main__":
    run_tool(main)
