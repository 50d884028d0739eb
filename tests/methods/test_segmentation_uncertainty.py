"""Uncertainty of a Bayesian U-Net: against plain sums over the draws, labels from files, and that it learns."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.losses import DiceCELoss
from PIL import Image
from scipy.ndimage import gaussian_filter
from sklearn.metrics import roc_auc_score
from torch import Tensor

from medad_plugins.data import ScanFormat
from medad_plugins.data.sample_cohort import generate_case
from medad_plugins.errors import InputError
from medad_plugins.methods.segmentation_uncertainty import Anatomy, SegmentationUncertainty, anatomy_dataset
from medad_plugins.methods.segmentation_uncertainty.anatomy import ParcelsOfBodyd, read_anatomy
from medad_plugins.networks.blocks.kept_dropout import KeptDropout
from medad_plugins.transforms import ScanPreprocessing


def _network(spatial_dims: int = 2, **settings: object) -> SegmentationUncertainty:
    torch.manual_seed(0)
    arguments = {"classes": 3, "features": (4, 8), "samples": 5, "sigma": 0.0, **settings}
    return SegmentationUncertainty(spatial_dims, **arguments).eval()  # type: ignore[arg-type]


def _answers(network: SegmentationUncertainty, image: Tensor) -> Tensor:
    """Probabilities ``(draws, B, classes, *spatial)`` by the masks as they are kept."""
    found = []
    levels = network.unet.encode(image)
    for draw in range(network.samples):
        masks = [dropout.kept[draw] for dropout in network.dropouts]  # type: ignore[index]
        left = [x * mask.reshape([1, -1] + [1] * (x.dim() - 2)) for x, mask in zip(levels, masks, strict=True)]
        found.append(network.unet.decode(left).softmax(1))
    return torch.stack(found)


@pytest.mark.parametrize("spatial_dims", [2, 3])
@torch.no_grad()
def test_the_map_is_what_the_draws_do_not_agree_on(spatial_dims: int) -> None:
    image = torch.rand(2, 1, *[16] * spatial_dims)
    answers = _answers(_network(spatial_dims), image)
    expected = {"variance": answers.var(0, correction=0).mean(1)}

    def entropy(p: Tensor, axis: int) -> Tensor:
        return -(p * p.log()).sum(axis)

    expected["entropy"] = entropy(answers.mean(0), 1)
    expected["mutual_information"] = expected["entropy"] - entropy(answers, 2).mean(0)
    for uncertainty, values in expected.items():
        found = _network(spatial_dims, uncertainty=uncertainty)(image)
        torch.testing.assert_close(found[:, 0], values, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(_network(spatial_dims).segment(image), answers.mean(0))


@torch.no_grad()
def test_a_map_is_the_same_at_every_call_and_in_every_batch() -> None:
    network = _network()
    image = torch.rand(3, 1, 16, 16)
    first = network(image)
    assert torch.equal(network(image), first)
    torch.testing.assert_close(network(image[1:2]), first[1:2])
    assert not _network(dropout=0.0)(image).any(), "without dropout all draws agree"
    # and in training the draws are new ones
    network.train()
    assert not torch.equal(network(image), network(image))


def test_dropout_keeps_the_mean() -> None:
    dropout = KeptDropout(2000, rate=0.25, samples=3)
    x = torch.ones(2, 2000, 4)
    for values in (dropout(x, 1), dropout(x)):
        assert values.unique().tolist() == pytest.approx([0.0, 4 / 3])
        assert float(values.mean()) == pytest.approx(1.0, abs=0.05)
        assert bool((values[..., 0] == values[..., 1]).all()), "whole channels"
    assert torch.equal(dropout(x, 2), dropout(x, 2)) and not torch.equal(dropout(x, 1), dropout(x, 2))
    with pytest.raises(ValueError, match="rate must be"):
        KeptDropout(2, rate=1.0)


# labels


def _write_volume(folder: Path) -> None:
    """A smooth volume that lies askew, and labels of where it is bright."""
    values = gaussian_filter(np.random.default_rng(0).random((30, 44, 36)), 4)
    values = (values - values.min()) / (values.max() - values.min())
    affine = np.array([[0, -2.0, 0, 30], [1.5, 0, 0.3, -20], [0, 0.3, 3.0, 5], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image((values * 255).astype(np.uint8), affine), folder / "scan.nii.gz")
    nib.save(nib.Nifti1Image((values > 0.5).astype(np.uint8) * 2, affine), folder / "labels.nii.gz")


@pytest.mark.parametrize(
    "scan", [ScanFormat(3, (40, 24, 32)), ScanFormat(3, 48, spacing=1.7), ScanFormat(3, 40, crop=0.8)]
)
def test_labels_come_to_the_grid_as_the_scan_does(tmp_path: Path, scan: ScanFormat) -> None:
    _write_volume(tmp_path)
    image = ScanPreprocessing(scan)({"image": str(tmp_path / "scan.nii.gz")})["image"]
    labels = read_anatomy(tmp_path / "labels.nii.gz", image)
    assert labels.shape == image.shape and set(labels.unique().tolist()) == {0.0, 2.0}
    assert float(((labels > 0) == (image.as_tensor() > 0.5)).float().mean()) > 0.95


def test_labels_of_pictures(tmp_path: Path) -> None:
    values = gaussian_filter(np.random.default_rng(0).random((30, 44)), 4)
    values = (values - values.min()) / (values.max() - values.min())
    Image.fromarray((values * 255).astype(np.uint8)).save(tmp_path / "scan.png")
    Image.fromarray((values > 0.5).astype(np.uint8)).save(tmp_path / "labels.png")
    case = {"image": str(tmp_path / "scan.png"), "anatomy": "labels.png"}
    anatomy = Anatomy([case])
    prepared = anatomy_dataset([case], ScanPreprocessing(ScanFormat(image_size=(64, 48))), anatomy)[0]
    assert anatomy.from_files and anatomy.classes == 2
    assert float((prepared["anatomy"] == (prepared["image"].as_tensor() > 0.5)).float().mean()) > 0.9


def test_labels_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    _write_volume(tmp_path)
    case = {"image": str(tmp_path / "scan.nii.gz"), "anatomy": "none.nii.gz"}
    with pytest.raises(InputError, match="a map of labels is missing: none.nii.gz"):
        _ = Anatomy([case]).classes
    image = ScanPreprocessing(ScanFormat(3, 32))({"image": case["image"]})["image"]
    far = np.diag([1.0, 1, 1, 1])
    far[:3, 3] = 900
    nib.save(nib.Nifti1Image(np.ones((8, 8, 8), np.uint8), far), tmp_path / "far.nii.gz")
    with pytest.raises(InputError, match="lie elsewhere"):
        read_anatomy(tmp_path / "far.nii.gz", image)
    nib.save(nib.Nifti1Image(np.full((8, 8, 8), 0.5, np.float32), far), tmp_path / "half.nii.gz")
    with pytest.raises(InputError, match="no map of labels"):
        read_anatomy(tmp_path / "half.nii.gz", image)
    nib.save(nib.Nifti1Image(np.zeros((8, 8, 8), np.uint8), far), tmp_path / "empty.nii.gz")
    with pytest.raises(InputError, match="labels of the anatomy are empty"):
        _ = Anatomy([{**case, "anatomy": "empty.nii.gz"}]).classes


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_parcels_mean_the_same_in_scans_that_lie_alike(spatial_dims: int) -> None:
    find = ParcelsOfBodyd(3)
    heads = [torch.from_numpy(generate_case(spatial_dims, 40, index)[0])[None] for index in (3, 4)]
    first, second = (find({"image": head})["anatomy"] for head in heads)
    assert first.shape == heads[0].shape and set(first.unique().tolist()) <= set(range(3**spatial_dims + 1))
    assert first.unique().numel() > 0.7 * 3**spatial_dims
    torch.testing.assert_close(find({"image": heads[0] * 0.4})["anatomy"], first)
    middles = [
        torch.stack([torch.argwhere(labels[0] == k).float().mean(0) for k in range(1, 3**spatial_dims + 1)])
        for labels in (first, second)
    ]
    apart = (middles[0] - middles[1]).norm(dim=1)
    assert float(apart[apart.isfinite()].median()) < 6, "of 40 pixels"


def test_cases_without_labels_stay_out_where_others_have_some(tmp_path: Path) -> None:
    _write_volume(tmp_path)
    cases = [{"image": str(tmp_path / "scan.nii.gz"), "anatomy": name} for name in ("labels.nii.gz", "")]
    anatomy = Anatomy(cases)
    assert len(anatomy_dataset(cases, ScanPreprocessing(ScanFormat(3, 16)), anatomy)) == 1
    with pytest.raises(InputError, match="no case has labels of its anatomy"):
        anatomy.labelled(cases[1:])


# learning


@pytest.mark.slow
def test_it_learns_the_anatomy_and_does_not_know_what_is_none() -> None:
    torch.manual_seed(0)
    find = ParcelsOfBodyd(3)
    heads = torch.stack([torch.from_numpy(generate_case(2, 48, (1, index))[0])[None] for index in range(36)])
    labels = torch.stack([find({"image": image})["anatomy"] for image in heads])
    network = _network(classes=10, features=(8, 16, 32), sigma=1.0, reduction=0.05)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.003)
    loss = DiceCELoss(to_onehot_y=True, softmax=True)
    network.train()
    for _ in range(150):
        chosen = torch.randperm(24)[:8]
        optimizer.zero_grad()
        loss(network(heads[chosen]), labels[chosen]).backward()
        optimizer.step()
    network.eval()
    clean, expected = heads[24:], labels[24:]
    missing = clean.clone()
    missing[..., 12:30, 24:40] = 0
    with torch.no_grad():
        answers = network.segment(clean).argmax(1, keepdim=True)
        assert float((answers == expected).float().mean()) > 0.6
        own = network.pool(network(clean))
        for name, changed in (("upside down", clean.flip(2)), ("a part is missing", missing)):
            scores = network.pool(network(changed))
            assert roc_auc_score([0] * 12 + [1] * 12, torch.cat([own, scores])) > 0.8, name
