"""The training set of scans with synthetic anomalies, from files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, RandFlipd, ScaleIntensityd

from medad_plugins.data import Case, IterationLoader
from medad_plugins.errors import InputError
from medad_plugins.synthesis import SourcePool, synthetic_dataset
from medad_plugins.synthesis.published import cutpaste, noise_blend, nsa, pii

PREPARE = Compose([LoadImaged("image", image_only=True), EnsureChannelFirstd("image"), ScaleIntensityd("image")])


def _cases(folder: Path, count: int) -> list[Case]:
    rng = np.random.RandomState(0)
    cases = []
    for number in range(count):
        scan = np.zeros((48, 48))
        scan[8:40, 8:40] = rng.rand(32, 32) + 0.5
        np.save(folder / f"{number}.npy", scan)
        cases.append({"image": str(folder / f"{number}.npy"), "case_id": str(number)})
    return cases


def test_a_share_has_anomalies_and_the_same_seed_the_same_ones(tmp_path: Path) -> None:
    data = synthetic_dataset(_cases(tmp_path, 6), PREPARE, [pii(), cutpaste("box"), nsa()], prob=0.5, in_body=True)
    batches = [list(IterationLoader(data, 16, 4, seed=3, num_workers=workers)) for workers in (0, 2)]
    for first, second in zip(*batches, strict=True):
        assert torch.equal(first["image"], second["image"]) and first["synthesis"] == second["synthesis"]
    made = torch.cat([batch["is_anomalous"] for batch in batches[0]]).bool()
    kinds = torch.cat([batch["recipe_index"] for batch in batches[0]])
    assert 0.3 < made.float().mean() < 0.7
    assert set(kinds[made].tolist()) == {1, 2, 3} and set(kinds[~made].tolist()) == {0}
    mask = torch.cat([batch["mask"] for batch in batches[0]]).bool()
    body = torch.cat([torch.as_tensor(batch["body"]) for batch in batches[0]]).bool()
    assert not (mask & ~body).any() and torch.equal(mask.flatten(1).any(1), made)


def test_one_scan_is_enough_for_recipes_that_take_nothing_foreign(tmp_path: Path) -> None:
    cases = _cases(tmp_path, 1)
    data = synthetic_dataset(cases, PREPARE, [cutpaste("scar")], prob=1)
    (batch,) = IterationLoader(data, 8, 1, seed=0)
    assert batch["is_anomalous"].float().mean() > 0.5  # not all: black on black is no change
    with pytest.raises(InputError, match=r"need other scans.*at least 2 normal cases.*found 1"):
        synthetic_dataset(cases, PREPARE, [cutpaste("scar"), pii()])


def test_what_was_augmented_is_the_clean_scan_and_comes_again_with_the_seed(tmp_path: Path) -> None:
    cases = _cases(tmp_path, 4)
    unchanged = synthetic_dataset(cases, PREPARE, [pii()], prob=0)
    plain = {unchanged[number]["case_id"]: unchanged[number]["image"] for number in range(4)}
    data = synthetic_dataset(cases, PREPARE, [pii()], prob=1, augment=RandFlipd(["image", "body"], 0.5, 0))
    batches = [list(IterationLoader(data, 8, 2, seed=3, num_workers=workers)) for workers in (0, 2)]
    assert all(torch.equal(first["image"], second["image"]) for first, second in zip(*batches, strict=True))
    flipped = 0
    for batch in batches[0]:
        for case_id, clean, image, mask in zip(batch["case_id"], batch["clean"], batch["image"], batch["mask"]):
            own = plain[case_id].as_tensor()
            is_flipped = torch.equal(clean.as_tensor(), own.flip(1))
            assert is_flipped or torch.equal(clean.as_tensor(), own)
            assert torch.equal(image[mask == 0], clean[mask == 0])
            flipped += is_flipped
    assert 0 < flipped < 16


def test_foreign_content_comes_from_the_pool_that_is_given(tmp_path: Path) -> None:
    grey = [{"image": torch.full((1, 48, 48), 0.5), "case_id": f"generated_{number}"} for number in range(2)]
    data = synthetic_dataset(
        _cases(tmp_path, 2), PREPARE, [noise_blend((1.0, 1.0))], prob=1, source_pool=SourcePool(grey)
    )
    (batch,) = IterationLoader(data, 2, 1, seed=0)
    changed = batch["image"].as_tensor()[batch["mask"] > 0]
    assert len(changed) and torch.allclose(changed, torch.full_like(changed, 0.5))
    assert all("generated_" in record for record in batch["synthesis"])
