"""Trivial baselines against plain computations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score

from audit.textured_heads import textured_head
from medad_plugins.audit.baselines import trivial_baselines
from medad_plugins.errors import InputError
from medad_plugins.networks import ResNetTaps


def _cases(folder: Path, size: int = 32) -> list[dict[str, Any]]:
    """12 normal training, 6 normal and 6 abnormal (brighter) test pictures, in mixed order, and one broken."""
    cases: list[dict[str, Any]] = []
    for number in range(24):
        split = "train" if number % 2 else "test"
        label = int(number % 4 == 0)
        head = textured_head(number, size)
        picture = (head * 0.6 + (30 * label)).astype(np.uint8)
        path = folder / f"{number}.png"
        Image.fromarray(picture).save(path)
        cases.append({"image": str(path), "case_id": str(number), "label": label, "split": split})
    (folder / "broken.png").write_bytes(b"")
    cases.insert(3, {"image": str(folder / "broken.png"), "case_id": "broken", "label": 0, "split": "train"})
    return cases


def _pixels(cases: list[dict[str, Any]], split: str, label: int | None = None) -> np.ndarray:
    wanted = [case for case in cases if case["split"] == split and case["case_id"] != "broken"]
    wanted = [case for case in wanted if label is None or case["label"] == label]
    return np.stack([np.asarray(Image.open(case["image"]), dtype=np.float64) for case in wanted])


def test_they_are_what_they_say(tmp_path: Path) -> None:
    cases = _cases(tmp_path)
    found = {baseline.name: baseline for baseline in trivial_baselines(cases)}
    silhouette = "field-of-view silhouette nearest neighbour"
    assert list(found) == ["thumbnail nearest neighbour", silhouette, "mean intensity"], "no mask, nothing to localize"
    known, new = _pixels(cases, "train", 0), _pixels(cases, "test")
    labels = np.array([case["label"] for case in cases if case["split"] == "test"])
    # 32 x 32 pictures are their own thumbnails
    nearest = np.sqrt(((new[:, None] - known[None]) ** 2).sum((2, 3))).min(1) / 255
    assert found["thumbnail nearest neighbour"].scores == pytest.approx(nearest, abs=1e-4)
    means = np.abs(new.mean((1, 2)) - known.mean((1, 2)).mean())
    assert found["mean intensity"].scores == pytest.approx(means, abs=1e-3)

    def outlines(pixels: np.ndarray) -> np.ndarray:
        low, high = (end(pixels, axis=(1, 2), keepdims=True) for end in (np.min, np.max))
        return (pixels > low + 0.05 * (high - low)).astype(np.float64)

    differing = ((outlines(new)[:, None] - outlines(known)[None]) ** 2).sum((2, 3))
    assert found[silhouette].scores == pytest.approx(np.sqrt(differing.min(1)), abs=1e-5)
    for baseline in found.values():
        assert baseline.localization == {}
        assert baseline.labels.tolist() == labels.tolist()
        assert baseline.auroc == pytest.approx(roc_auc_score(labels, baseline.scores))
        assert baseline.average_precision == pytest.approx(average_precision_score(labels, baseline.scores))
        low, high = baseline.auroc_95ci
        assert 0 <= low <= baseline.auroc <= high <= 1


def test_a_silhouette_sees_the_outline_and_nothing_inside(tmp_path: Path) -> None:
    """Discs of one radius are normal whatever is in them; wider discs are the abnormal ones, with the same content."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:64, :64] - 31.5
    cases: list[dict[str, Any]] = []
    for number in range(24):
        label = int(number >= 18)
        values = rng.uniform(60, 250) * (np.hypot(rows, columns) < (26 if label else 20))
        Image.fromarray(values.astype(np.uint8)).save(tmp_path / f"{number}.png")
        split = "train" if number < 12 else "test"
        cases.append({"image": str(tmp_path / f"{number}.png"), "case_id": str(number), "label": label, "split": split})
    found = {baseline.name: baseline for baseline in trivial_baselines(cases)}
    assert found["field-of-view silhouette nearest neighbour"].auroc == 1
    assert found["field-of-view silhouette nearest neighbour"].scores[:6].max() == 0, "they are one outline"


def test_the_intensity_threshold_localizes_what_is_bright(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    cases: list[dict[str, Any]] = []
    for number in range(16):
        label = int(number >= 12)
        values = rng.uniform(0, 100, (40, 40))
        mask = np.zeros((40, 40), dtype=np.uint8)
        if label:
            mask[8:16, 10:20] = 255
            values[mask > 0] = 200
        Image.fromarray(values.astype(np.uint8)).save(tmp_path / f"{number}.png")
        Image.fromarray(mask).save(tmp_path / f"mask_{number}.png")
        split = "train" if number < 8 else "test"
        case = {"image": str(tmp_path / f"{number}.png"), "case_id": str(number), "label": label, "split": split}
        cases.append({**case, "mask": str(tmp_path / f"mask_{number}.png") if label else ""})
    (baseline,) = [found for found in trivial_baselines(cases) if found.name == "intensity threshold"]
    assert baseline.auroc == 1
    figures = baseline.localization
    assert figures["n_masked"] == 4 and figures["pixel_ap"] == pytest.approx(1)
    # up to a twentieth of the rest is marked beside the lesion, less where whole grey values decide
    most, least = (2 * 80 / (80 + 80 + share * (1600 - 80)) for share in (0.03, 0.05))
    assert least <= figures["dice_case_mean"] <= most


def test_frozen_features_are_the_networks(tmp_path: Path) -> None:
    cases = _cases(tmp_path, 192)
    torch.manual_seed(0)
    network = ResNetTaps("resnet18", in_channels=3, stages=3).eval()
    state = {name: value for name, value in network.state_dict().items() if not name.startswith("adapter")}
    torch.save(state, tmp_path / "weights.pth")
    found = trivial_baselines(cases, str(tmp_path / "weights.pth"))[-1]
    assert found.name == "k-NN on frozen pooled features"

    def features(pixels: np.ndarray) -> np.ndarray:
        image = torch.from_numpy(pixels / 255).float()[:, None].expand(-1, 3, -1, -1)
        with torch.no_grad():
            return torch.cat([tap.mean((2, 3)) for tap in network(image)[1:]], 1).double().numpy()

    known, new = features(_pixels(cases, "train", 0)), features(_pixels(cases, "test"))
    distances = np.sort(np.sqrt(((new[:, None] - known[None]) ** 2).sum(2)), axis=1)
    assert found.scores == pytest.approx(distances[:, :3].mean(1), rel=1e-3)


def test_a_test_set_of_one_class_is_refused_in_one_sentence(tmp_path: Path) -> None:
    cases = [case for case in _cases(tmp_path) if case["split"] == "train" or case["label"] == 0]
    with pytest.raises(InputError, match="no trivial baseline can be computed.*6 normal and 0 abnormal in test"):
        trivial_baselines(cases)


def test_wrong_weights_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the weights file does not exist"):
        trivial_baselines([], str(tmp_path / "nowhere.pth"))


def test_volumes_are_compared_voxel_by_voxel(tmp_path: Path) -> None:
    rng, cases = np.random.RandomState(0), []
    for number in range(12):
        values = 100 + 10 * rng.rand(20, 20, 20)
        split, label = ("train", 0) if number < 6 else ("test", number % 2)
        mask = np.zeros(values.shape, np.uint8)
        if label:
            mask[4:10, 5:11, 6:12] = 1
            values[mask > 0] += 60
        image, truth = tmp_path / f"{number}.nii.gz", tmp_path / f"{number}_mask.nii.gz"
        for path, array in ((image, values.astype(np.uint8)), (truth, mask)):
            nib.save(nib.Nifti1Image(array, np.diag([-2.0, 2, 2, 1])), path)
        cases.append(
            {
                "image": str(image),
                "mask": str(truth) if label else "",
                "case_id": str(number),
                "label": label,
                "split": split,
            }
        )
    found = {baseline.name: baseline for baseline in trivial_baselines(cases, workers=0)}
    judged = found["voxel z-score"]
    assert judged.auroc == 1 and judged.localization["pixel_ap"] > 0.9
    assert not found["mean intensity"].localization
