"""Scans that are varied at every visit."""

from __future__ import annotations

from typing import Any

import torch
from monai.transforms import Lambda, RandLambdad

from medad_plugins.data import varied_dataset


def test_every_visit_varies_what_is_prepared_once() -> None:
    def prepare(case: dict[str, Any]) -> dict[str, Any]:
        return {**case, "image": torch.full((1, 2), float(case["image"]))}

    vary = RandLambdad("image", lambda image: image + torch.rand(()), prob=1.0)
    cases: Any = [{"image": n} for n in range(3)]
    dataset = varied_dataset(cases, Lambda(prepare), vary)
    first, again = dataset[1]["image"], dataset[1]["image"]
    assert bool((first > 1).all()) and not torch.equal(first, again)
    assert torch.equal(dataset.data[1]["image"], torch.ones(1, 2)), "what is prepared stays as it is"
