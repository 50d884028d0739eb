"""What a trainer takes of a batch: whole scans or slices, one image or several, and a target."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from medad_plugins.data import ScanFormat
from medad_plugins.engines import ScanBatch
from medad_plugins.engines.scan_batch import cut_slices

VOLUMES = torch.arange(2 * 1 * 3 * 4 * 5, dtype=torch.float32).reshape(2, 1, 3, 4, 5)


def _along(axis: int) -> ScanFormat:
    return ScanFormat(3, slice_axis=axis)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_all_slices_in_order_volume_by_volume(axis: int) -> None:
    found = cut_slices(VOLUMES, axis)
    expected = [volume.select(1 + axis, i) for volume in VOLUMES for i in range(VOLUMES.shape[2 + axis])]
    assert torch.equal(found, torch.stack(expected))


def test_drawn_slices_are_different_ones_of_their_volume() -> None:
    torch.manual_seed(0)
    for _ in range(5):
        found = cut_slices(VOLUMES, 2, 4)
        assert found.shape == (8, 1, 3, 4)
        for volume, own in zip(VOLUMES, found.reshape(2, 4, 1, 3, 4), strict=True):
            places = [int(one[0, 0, 0] - volume[0, 0, 0, 0]) for one in own]
            assert len(set(places)) == 4 and set(places) <= set(range(5))
            assert all(torch.equal(one, volume[..., place]) for one, place in zip(own, places, strict=True))


def test_more_slices_than_there_are_repeat_evenly_and_the_seed_decides() -> None:
    torch.manual_seed(4)
    first = cut_slices(VOLUMES, 0, 7)
    counts = torch.stack([(first[:7] == VOLUMES[0, :, i]).flatten(1).all(1).sum() for i in range(3)])
    assert sorted(counts.tolist()) == [2, 2, 3]
    torch.manual_seed(4)
    assert torch.equal(cut_slices(VOLUMES, 0, 7), first)
    assert not torch.equal(cut_slices(VOLUMES, 0, 7), first)


def test_a_batch_is_cut_or_left_as_it_is() -> None:
    batch = {"image": MetaTensor(VOLUMES), "label": torch.zeros(2)}
    image, label = ScanBatch()(batch)
    assert type(image) is torch.Tensor and torch.equal(image, VOLUMES) and torch.equal(label, torch.zeros(2))
    assert ScanBatch(_along(1))(batch)[0].shape == (8, 1, 3, 5)
    assert ScanBatch(_along(1), 2)({"image": VOLUMES})[0].shape == (4, 1, 3, 5)


def test_targets_are_cut_where_their_images_are() -> None:
    batch = {"image": VOLUMES, "target": MetaTensor(torch.cat([-VOLUMES, VOLUMES + 1], 1)), "label": torch.zeros(2)}
    torch.manual_seed(0)
    for axis, count in ((0, None), (2, 3)):
        image, target = ScanBatch(_along(axis), count, target="target")(batch)
        assert image.shape[1:2] == (1,) and torch.equal(target, torch.cat([-image, image + 1], 1))
    image, target = ScanBatch(target="target")(batch)
    assert torch.equal(image, VOLUMES) and target.shape == (2, 2, 3, 4, 5)


def test_no_slices_at_all_are_refused() -> None:
    with pytest.raises(ValueError, match="count must be at least 1"):
        ScanBatch(_along(0), 0)


def test_several_targets_are_cut_together_and_come_in_their_order() -> None:
    batch = {"image": VOLUMES, "clean": torch.cat([-VOLUMES, VOLUMES + 1], 1), "mask": VOLUMES * 2, "label": 0}
    torch.manual_seed(0)
    image, (mask, clean) = ScanBatch(_along(1), 2, target=["mask", "clean"])(batch)
    assert image.shape == mask.shape == (4, 1, 3, 5) and torch.equal(mask, image * 2)
    assert torch.equal(clean, torch.cat([-image, image + 1], 1))
    assert [one.shape[1] for one in ScanBatch(target=["clean", "mask"])(batch)[1]] == [2, 1]


def test_several_images_are_joined_in_the_order_of_their_keys() -> None:
    batch = {"image": MetaTensor(VOLUMES), "clean": -VOLUMES, "mask": torch.cat([VOLUMES * 2, VOLUMES * 3], 1)}
    joined, _ = ScanBatch(inputs=["clean", "image", "mask"])({**batch, "label": 0})
    assert type(joined) is torch.Tensor
    assert torch.equal(joined, torch.cat([-VOLUMES, VOLUMES, 2 * VOLUMES, 3 * VOLUMES], 1))
    torch.manual_seed(0)
    joined, mask = ScanBatch(_along(2), 3, ["image", "clean"], "mask")(batch)
    assert joined.shape == (6, 2, 3, 4) and torch.equal(joined[:, 1:], -joined[:, :1])
    assert torch.equal(mask, torch.cat([2 * joined[:, :1], 3 * joined[:, :1]], 1)), "all are cut in the same places"


def test_classes_of_scans_are_whole_numbers() -> None:
    batch = {"image": MetaTensor(torch.rand(3, 1, 4, 4)), "recipe_index": [2, 0, 1], "other": torch.tensor([1, 1, 1])}
    image, classes = ScanBatch(target="recipe_index")(batch, "cpu")
    assert type(image) is torch.Tensor and torch.equal(image, batch["image"].as_tensor())  # type: ignore[attr-defined]
    assert classes.dtype == torch.long and classes.tolist() == [2, 0, 1]
    assert ScanBatch(target="other")(batch)[1].tolist() == [1, 1, 1]


@pytest.mark.parametrize("kind", [torch.Tensor, MetaTensor])
def test_the_scan_can_be_its_own_target(kind: type[torch.Tensor]) -> None:
    scan = torch.rand(2, 1, 4, 4)
    image, target = ScanBatch(target="image")({"image": kind(scan), "label": torch.zeros(2)}, torch.device("cpu"), True)
    assert type(image) is torch.Tensor and torch.equal(image, scan) and torch.equal(target, scan)


def test_along_all_axes_every_slice_comes_once_upright_and_square() -> None:
    found = cut_slices(VOLUMES, "all")
    assert found.shape == (2 * (3 + 4 + 5), 1, 5, 5)
    # rows to inferior, columns to posterior
    assert torch.equal(found[0, 0, :, :4], VOLUMES[0, 0, 0].T.flip([0, 1])) and not found[0, 0, :, 4:].any()
    # every voxel is seen by three slices
    assert found[:12].sum() == 3 * VOLUMES[0].sum()
    torch.manual_seed(0)
    drawn = cut_slices(VOLUMES, "all", 12)
    assert sorted(map(float, drawn[:12].sum((1, 2, 3)))) == sorted(map(float, found[:12].sum((1, 2, 3))))
