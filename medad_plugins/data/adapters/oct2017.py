"""OCT2017 (Kermany and others, 2018), version 2: optical coherence tomography of the retina in four classes.

Layout, seen in public descriptions: ``train`` and ``test`` (Kaggle's copy: and ``val``), each with ``CNV``, ``DME``,
``DRUSEN`` and ``NORMAL``, files ``<class>-<patient>-<number>.jpeg``. Counts seen: 26565 normal and 84484 images in all,
that is 26315 + 250 normal; version 3 has 51140 normal. Recalled: Kaggle's copy has 242 a class in test and the other 8
in val. Known from the literature: patients of the test set are also in train.
"""

from __future__ import annotations

import re

from medad_plugins.data.adapters.dataset_adapter import DatasetAdapter, Request
from medad_plugins.data.adapters.published_scan import Edition, Published, PublishedScan
from medad_plugins.data.adapters.source_folder import find_root, inside, pictures

__all__ = ["OCT2017"]

CLASSES = {"NORMAL": "normal", "DRUSEN": "drusen", "DME": "dme", "CNV": "cnv"}
WRONG = {
    "train/PNEUMONIA": "this is the chest X-ray part of the same publication: get OCT2017",
    "image": "this copy has lost the folders of classes: get the one with train and test",
}
PATIENT = re.compile(r"^[A-Za-z]+-(\d+)-\d+\.")


def read_oct2017(request: Request) -> Published:
    """Normal scans of ``train``, and all of ``test``, to which Kaggle's ``val`` belongs."""
    required = ["train/NORMAL", *(f"test/{name}" for name in CLASSES)]
    root, _ = find_root(request.source, required, wrong=WRONG)
    places = [("train", "train", "NORMAL"), *(("test", part, name) for part in ("test", "val") for name in CLASSES)]
    scans = []
    for split, part, name in places:
        folder = inside(root, f"{part}/{name}")
        for path in pictures(folder):
            match = PATIENT.match(path.name)
            patient = match.group(1) if match else ""
            scans.append(PublishedScan(path, CLASSES[name], int(name != "NORMAL"), split, patient=patient))
    return Published(scans)


OCT2017 = DatasetAdapter(
    name="oct2017",
    title="OCT2017",
    download="Mendeley Data, rscbjbr9sj version 2: OCT2017.tar.gz; or Kaggle, dataset paultimothymooney/kermany2018.",
    licence="CC BY 4.0 (recalled).",
    read=read_oct2017,
    editions=(
        Edition(
            "version 2", {"train/normal": 26315, **{f"test/{kind}": 250 for kind in ("normal", "drusen", "dme", "cnv")}}
        ),
    ),
    remark="The published split has test patients in train.",
)
