"""Brain Tumor MRI Dataset (Nickparvar, Kaggle): four classes of brain MR slices.

Layout, seen in public code: ``Training`` and ``Testing``, each with ``glioma``, ``meningioma``, ``notumor`` and
``pituitary``. Counts recalled: 5712 + 1311 = 7023 images; a later revision has 1400 + 400 of each class. The survey
tests on 300 glioma and 300 meningioma; that they come from ``Testing`` is assumed.
"""

from __future__ import annotations

from medad_plugins.data.adapters.dataset_adapter import DatasetAdapter, Request
from medad_plugins.data.adapters.published_scan import Edition, Published, PublishedScan
from medad_plugins.data.adapters.source_folder import find_root, inside, pictures

__all__ = ["BRAIN_TUMOR"]

CLASSES = {"notumor": "normal", "glioma": "glioma", "meningioma": "meningioma", "pituitary": "pituitary"}
PARTS = ("Training", "Testing")
WRONG = {
    "Training/no_tumor": "this is Bhuvaji's data set, a part of this one: get masoudnickparvar/brain-tumor-mri-dataset",
    "yes": "this is Br35H: prepare it by that name",
}


def read_brain_tumor(request: Request) -> Published:
    """Normal slices of both parts, and the tumours of ``Testing``."""
    root, _ = find_root(request.source, [f"{part}/{name}" for part in PARTS for name in CLASSES], wrong=WRONG)
    scans, counts = [], {}
    for part in PARTS:
        for name, kind in CLASSES.items():
            files = pictures(inside(root, f"{part}/{name}"))
            counts[f"{part}/{name}"] = len(files)
            if kind == "normal" or part == "Testing":
                scans += [PublishedScan(path, kind, int(kind != "normal")) for path in files]
    return Published(scans, counts=counts)


def _counts(training: tuple[int, int, int, int], testing: tuple[int, int, int, int]) -> dict[str, int]:
    pairs = zip(PARTS, (training, testing), strict=True)
    return {f"{part}/{name}": n for part, sizes in pairs for name, n in zip(CLASSES, sizes, strict=True)}


BRAIN_TUMOR = DatasetAdapter(
    name="brain_tumor",
    title="Brain Tumor MRI Dataset",
    download="Kaggle, dataset masoudnickparvar/brain-tumor-mri-dataset: the folders Training and Testing.",
    licence="CC0 as declared on Kaggle (recalled); it is gathered from three other data sets.",
    read=read_brain_tumor,
    editions=(
        Edition("7023 images", _counts((1595, 1321, 1339, 1457), (405, 300, 306, 300))),
        Edition("7200 images", _counts((1400, 1400, 1400, 1400), (400, 400, 400, 400))),
    ),
    sizes={
        ("train", "normal"): 1000,
        ("test", "normal"): 600,
        ("test", "glioma"): 300,
        ("test", "meningioma"): 300,
    },
    remark="The normal slices are Br35H's, with its near copies; tumours come from other scanners. No patients known.",
)
