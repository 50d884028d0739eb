"""Tensors without MONAI's metadata."""

from __future__ import annotations

import torch
from monai.data import MetaTensor

from medad_plugins.plain_tensor import plain_tensor


def test_metadata_goes_and_all_else_stays() -> None:
    values = torch.rand(1, 2, 3)
    plain = plain_tensor(MetaTensor(values))
    assert type(plain) is torch.Tensor and torch.equal(plain, values)
    for other in (values, [1, 2], "text", None):
        assert plain_tensor(other) is other
