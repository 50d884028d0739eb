"""ATLAS v2.0: T1-weighted MR of stroke patients with traced lesions (Liew and others, 2022).

Layout, seen in a public description: ``Training/R<site>/sub-r<site>s<number>/ses-1/anat/`` with
``<subject>_ses-1_space-MNI152NLin2009aSym_T1w.nii.gz`` and ``..._label-L_desc-T1lesion_mask.nii.gz``; ``Testing`` has
no masks. Counts seen: 655 and 300. All are patients: normal scans come from elsewhere (option ``normals``).
"""

from __future__ import annotations

from pathlib import Path

from medad_plugins.data.adapters.dataset_adapter import DatasetAdapter, Request
from medad_plugins.data.adapters.published_scan import Edition, Published, PublishedScan
from medad_plugins.data.adapters.source_folder import find_root, inside
from medad_plugins.data.scan_files import find_scans
from medad_plugins.errors import InputError

__all__ = ["ATLAS"]

SCAN, MASK = "_T1w.nii.gz", "_label-L_desc-T1lesion_mask.nii.gz"
WRONG = {
    "Testing": "the masks of Testing are not published: get the folder Training",
    "ATLAS_R1.2": "this is ATLAS R1.2: get version 2.0",
}


def read_atlas(request: Request) -> Published:
    """The stroke volumes to test on, and the volumes below ``normals``, if given, to train on."""
    root, _ = find_root(request.source, ("Training",), wrong=WRONG)
    scans = sorted(inside(root, "Training").glob(f"*/*/*/anat/*{SCAN}"))
    if not scans:
        expected = f"Training/R001/sub-r001s001/ses-1/anat/...{SCAN}"
        todo = "unpack the archive with its password, by its authors' instructions"
        raise InputError("there are no T1-weighted volumes", where=root, expected=expected, todo=todo)
    stroke = []
    for path in scans:
        mask = path.with_name(path.name[: -len(SCAN)] + MASK)
        if not mask.exists() and not request.allow_partial:
            todo = "unpack the archive again, or go on without this mask by --allow_partial true"
            raise InputError("a lesion mask is missing", where=mask, todo=todo)
        subject = path.name.split("_")[0]
        stroke.append(PublishedScan(path, "stroke", 1, "test", mask if mask.exists() else None, patient=subject))
    normals = request.options.get("normals")
    healthy = [PublishedScan(path, "normal", 0, "train") for path in find_scans(Path(str(normals)))] if normals else []
    return Published(stroke + healthy, counts={"stroke": len(stroke)})


ATLAS = DatasetAdapter(
    name="atlas",
    title="ATLAS v2.0",
    download="fcon_1000.projects.nitrc.org/indi/retro/atlas.html: the archive of version 2.0, its password on request.",
    licence="Terms of INDI, to be agreed to before download (recalled): research, no re-identification.",
    read=read_atlas,
    editions=(Edition("version 2.0, Training", {"stroke": 655}),),
    options={"normals": "folder of healthy T1-weighted volumes to train on, e.g. of IXI, in the same space"},
    remark=(
        "Volumes. Without normals it serves to test only. Normal scans from elsewhere differ in scanner and "
        "preparation: a figure without normal test cases says nothing of false alarms."
    ),
    spatial_dims=3,
)
