"""Tiny imitations of published layouts, with their counts, the split to draw and what the list must hold."""

from __future__ import annotations

import csv
import json
import shutil
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image
from scan_samples import dicom_image

__all__ = ["IMITATIONS", "VARIANTS", "Imitation", "atlas", "picture", "volume"]


@dataclass(frozen=True)
class Imitation:
    """A small copy of a layout, its counts, the split to draw from it, and what the list must hold."""

    build: Callable[[Path], None]
    counts: dict[str, int]
    sizes: dict[tuple[str, str], int]
    expected: dict[str, int]
    masks: int = 0


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.RandomState(zlib.crc32(path.name.encode())).randint(0, 255, (12, 16), np.uint8)
    Image.fromarray(pixels).save(path)


def radiograph(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    dicom_image(np.random.RandomState(len(path.name)).randint(0, 4000, (20, 30)).astype(np.uint16)).save_as(path)


def volume(path: Path, mask: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = np.zeros((6, 7, 8), np.uint8)
    data[1:4, 2:5, 3:6] = 1 if mask else 90
    nib.save(nib.Nifti1Image(data, np.eye(4)), path)


def table(path: Path, header: str, rows: Sequence[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header.split(","), *rows])


def rsna(root: Path) -> None:
    kinds = ["Normal"] * 8 + ["Lung Opacity"] * 3 + ["No Lung Opacity / Not Normal"] * 2
    boxes, classes, patients = [], [], []
    for number, kind in enumerate(kinds):
        name = f"0004cfab-{number:04d}"
        radiograph(root / "stage_2_train_images" / f"{name}.dcm")
        for repeat in range(2 if kind == "Lung Opacity" else 1):
            corner = [repeat * 10, 2.0, 5.0, 4.0, 1] if kind == "Lung Opacity" else ["", "", "", "", 0]
            boxes.append([name, *corner])
            classes.append([name, kind])
        patients.append({"subset_img_id": name, "img_id": f"{number // 2:08d}_{number % 2:03d}.png"})
    table(root / "stage_2_train_labels.csv", "patientId,x,y,width,height,Target", boxes)
    table(root / "stage_2_detailed_class_info.csv", "patientId,class", classes)
    (root / "pneumonia-challenge-dataset-mappings_2018.json").write_text(json.dumps(patients), encoding="utf-8")


VINDR_READERS = [["a", "r1", 1], ["a", "r2", 1], ["b", "r1", 1], ["b", "r2", 0], ["c", "r1", 1], ["d", "r1", 1]]
VINDR_BOXES = [
    ["a", "r1", "No finding", "", "", "", ""],
    ["b", "r2", "Nodule/Mass", "3.0", "2.0", "8.0", "6.0"],
    ["c", "r1", "No finding", "", "", "", ""],
    ["d", "r1", "No finding", "", "", "", ""],
]
BOX_HEADER = "image_id,rad_id,class_name,x_min,y_min,x_max,y_max"


def vindr_physionet(root: Path) -> None:
    for name in "abcd":
        radiograph(root / "train" / f"{name}.dicom")
    table(root / "annotations" / "image_labels_train.csv", "image_id,rad_id,No finding", VINDR_READERS)
    table(root / "annotations" / "annotations_train.csv", BOX_HEADER, VINDR_BOXES)


def vindr_kaggle(root: Path) -> None:
    for name in "abcd":
        radiograph(root / "train" / f"{name}.dicom")
    table(root / "train.csv", BOX_HEADER, VINDR_BOXES)


def br35h(root: Path) -> None:
    outlines = {}
    for number in range(5):
        picture(root / "no" / f"No{number}.jpg")
        picture(root / "yes" / f"y{number}.jpg")
        picture(root / "pred" / f"pred{number}.jpg")
    shapes = (
        {"name": "polygon", "all_points_x": [2, 9, 9, 2], "all_points_y": [2, 2, 8, 8]},
        {"name": "ellipse", "cx": 8, "cy": 6, "rx": 3, "ry": 2, "theta": 0},
        {"name": "circle", "cx": 8, "cy": 6, "r": 3},
    )
    for number, shape in enumerate(shapes):
        outlines[f"y{number}.jpg123"] = {"filename": f"y{number}.jpg", "regions": [{"shape_attributes": shape}]}
        (root / "Br35H-Mask-RCNN" / "TRAIN").mkdir(parents=True, exist_ok=True)
        shutil.copy(root / "yes" / f"y{number}.jpg", root / "Br35H-Mask-RCNN" / "TRAIN" / f"y{number}.jpg")
    (root / "Br35H-Mask-RCNN" / "annotations_all.json").write_text(json.dumps(outlines), encoding="utf-8")


def brain_tumor(root: Path) -> None:
    for part, sizes in (("Training", (4, 1, 1, 1)), ("Testing", (2, 2, 2, 1))):
        for name, size in zip(("notumor", "glioma", "meningioma", "pituitary"), sizes, strict=True):
            for number in range(size):
                picture(root / part / name / f"{part[:2]}-{name[:2]}_{number:04d}.jpg")


def oct2017(root: Path) -> None:
    for number in range(4):
        picture(root / "train" / "NORMAL" / f"NORMAL-10{number}-1.jpeg")
        picture(root / "train" / "CNV" / f"CNV-20{number}-1.jpeg")
    for part, patient in (("test", 300), ("val", 400)):
        for name in ("NORMAL", "CNV", "DME", "DRUSEN"):
            picture(root / part / name / f"{name}-{patient}-1.jpeg")
    # a patient of train is tested on
    picture(root / "test" / "NORMAL" / "NORMAL-100-2.jpeg")


def lag(root: Path) -> None:
    for name in ("non_glaucoma", "suspicious_glaucoma"):
        for number in range(4):
            picture(root / name / "image" / f"{name}{number}.jpg")
            picture(root / name / "attention_map" / f"{name}{number}.jpg")


def aptos2019(root: Path) -> None:
    rows = []
    for number, grade in enumerate([0, 0, 0, 0, 1, 2, 3, 4]):
        picture(root / "train_images" / f"0a{number}.png")
        rows.append([f"0a{number}", grade])
    table(root / "train.csv", "id_code,diagnosis", rows)
    picture(root / "test_images" / "ff.png")
    table(root / "test.csv", "id_code", [["ff"]])


def isic2018(root: Path) -> None:
    header = "image,MEL,NV,BCC,AKIEC,BKL,DF,VASC"
    rows = {"Training": [1, 1, 1, 1, 0], "Validation": [1, 0, 2]}
    for part, classes in rows.items():
        lines = []
        for number, column in enumerate(classes):
            name = f"ISIC_{part[:1]}{number:04d}"
            picture(root / f"ISIC2018_Task3_{part}_Input" / f"{name}.jpg")
            lines.append([name, *[float(index == column) for index in range(7)]])
        truth = f"ISIC2018_Task3_{part}_GroundTruth"
        table(root / truth / f"{truth}.csv", header, lines)
    groups = [[f"ISIC_T{number:04d}", f"HAM_{number // 2}", "histo"] for number in range(5)]
    table(root / "ISIC2018_Task3_Training_LesionGroupings.csv", "image,lesion_id,diagnosis_confirm_type", groups)


def atlas(root: Path) -> None:
    for number in range(2):
        subject = f"sub-r001s{number:03d}"
        stem = root / "Training" / "R001" / subject / "ses-1" / "anat" / f"{subject}_ses-1_space-MNI152NLin2009aSym"
        volume(Path(f"{stem}_T1w.nii.gz"))
        volume(Path(f"{stem}_label-L_desc-T1lesion_mask.nii.gz"), mask=True)
    volume(root / "Testing" / "R005" / "sub-r005s1" / "ses-1" / "anat" / "sub-r005s1_ses-1_space-X_T1w.nii.gz")


def medianomaly(root: Path) -> None:
    content = {"train": {"0": ["a.png", "b.png", "c.png"]}, "test": {"0": ["d.png"], "1": ["e.png"]}}
    for name in "abcde":
        picture(root / "images" / f"{name}.png")
    (root / "data.json").write_text(json.dumps(content), encoding="utf-8")


def medianomaly_brats(root: Path) -> None:
    for patient in (1, 2, 3):
        picture(root / "train" / f"BraTS2021_{patient:05d}_flair_60.png")
    picture(root / "test" / "normal" / "BraTS2021_00007_flair_60.png")
    picture(root / "test" / "tumor" / "BraTS2021_00008_flair_60.png")
    picture(root / "test" / "annotation" / "BraTS2021_00008_seg_60.png")


def bmad(root: Path) -> None:
    for patient in (1, 2, 3):
        picture(root / "train" / "good" / "img" / f"{patient:05d}_60.png")
    for number, part in enumerate(("valid", "test")):
        picture(root / part / "good" / "img" / f"0001{number}_60.png")
        picture(root / part / "Ungood" / "img" / f"0002{number}_60.png")
        picture(root / part / "Ungood" / "anomaly_mask" / f"0002{number}_60.png")


def medmnist(root: Path) -> None:
    random = np.random.RandomState(0)
    arrays = {}
    for split, labels in (("train", [0, 0, 0, 1]), ("val", [0, 1]), ("test", [0, 1, 1])):
        arrays[f"{split}_images"] = random.randint(0, 255, (len(labels), 9, 8), np.uint8)
        arrays[f"{split}_labels"] = np.array(labels, np.uint8)[:, None]
    root.mkdir(parents=True, exist_ok=True)
    np.savez(root / "pneumoniamnist_28.npz", **arrays)  # type: ignore[arg-type]


NORMAL_ABNORMAL = {"train/normal": 3, "test/normal": 1, "test/abnormal": 1}
IMITATIONS = {
    "rsna": Imitation(
        rsna,
        {"normal": 8, "not normal": 2, "lung opacity": 3},
        {("train", "normal"): 4, ("test", "normal"): 2, ("test", "lung opacity"): 2},
        {"train/normal": 4, "test/normal": 2, "test/lung opacity": 2},
        masks=2,
    ),
    "vindr_cxr": Imitation(
        vindr_physionet,
        {"normal": 3, "abnormal": 1},
        {("train", "normal"): 2, ("test", "normal"): 1, ("test", "abnormal"): 1},
        {"train/normal": 2, "test/normal": 1, "test/abnormal": 1},
        masks=1,
    ),
    "br35h": Imitation(
        br35h,
        {"normal": 5, "tumor": 5},
        {("train", "normal"): 3, ("test", "normal"): 2, ("test", "tumor"): 5},
        {"train/normal": 3, "test/normal": 2, "test/tumor": 5},
        masks=3,
    ),
    "brain_tumor": Imitation(
        brain_tumor,
        {
            **{"Training/notumor": 4, "Training/glioma": 1, "Training/meningioma": 1, "Training/pituitary": 1},
            **{"Testing/notumor": 2, "Testing/glioma": 2, "Testing/meningioma": 2, "Testing/pituitary": 1},
        },
        {("train", "normal"): 3, ("test", "normal"): 3, ("test", "glioma"): 2, ("test", "meningioma"): 1},
        {"train/normal": 3, "test/normal": 3, "test/glioma": 2, "test/meningioma": 1},
    ),
    "oct2017": Imitation(
        oct2017,
        {"train/normal": 4, "test/normal": 3, "test/cnv": 2, "test/dme": 2, "test/drusen": 2},
        {},
        {"train/normal": 4, "test/normal": 3, "test/cnv": 2, "test/dme": 2, "test/drusen": 2},
    ),
    "lag": Imitation(
        lag,
        {"normal": 4, "glaucoma": 4},
        {("train", "normal"): 2, ("test", "normal"): 1, ("test", "glaucoma"): 3},
        {"train/normal": 2, "test/normal": 1, "test/glaucoma": 3},
    ),
    "aptos2019": Imitation(
        aptos2019,
        {"normal": 4, "mild": 1, "moderate": 1, "severe": 1, "proliferative": 1},
        {("train", "normal"): 2, ("test", "normal"): 2, ("test", "mild"): 1, ("test", "severe"): 1},
        {"train/normal": 2, "test/normal": 2, "test/mild": 1, "test/severe": 1},
    ),
    "isic2018": Imitation(
        isic2018,
        {"train/nevus": 4, "test/nevus": 1, "test/melanoma": 1, "test/basal cell carcinoma": 1},
        {},
        {"train/nevus": 4, "test/nevus": 1, "test/melanoma": 1, "test/basal cell carcinoma": 1},
    ),
    "medianomaly": Imitation(
        medianomaly, NORMAL_ABNORMAL, {}, {"train/normal": 3, "test/normal": 1, "test/abnormal": 1}
    ),
    "bmad": Imitation(
        bmad,
        {"train/normal": 3, "val/normal": 1, "val/abnormal": 1, "test/normal": 1, "test/abnormal": 1},
        {},
        {"train/good": 3, "val/good": 1, "val/Ungood": 1, "test/good": 1, "test/Ungood": 1},
        masks=2,
    ),
    "medmnist": Imitation(
        medmnist,
        {"pneumoniamnist train": 4, "pneumoniamnist val": 2, "pneumoniamnist test": 3},
        {},
        {"train/normal": 3, "val/normal": 1, "val/pneumonia": 1, "test/normal": 1, "test/pneumonia": 2},
    ),
}
# the same data set as another place publishes it
VARIANTS = {
    "vindr_cxr": replace(IMITATIONS["vindr_cxr"], build=vindr_kaggle),
    "medianomaly": Imitation(
        medianomaly_brats,
        NORMAL_ABNORMAL,
        {},
        {"train/normal": 3, "test/normal": 1, "test/tumor": 1},
        masks=1,
    ),
}
