"""Scans and their classes as MONAI's engines take a batch."""

from __future__ import annotations

from typing import Any

import torch
from monai.engines.utils import default_prepare_batch
from torch import Tensor

from medad_plugins.plain_tensor import plain_tensor

__all__ = ["ClassBatch"]


class ClassBatch:
    """``prepare_batch`` for MONAI's engines whose target is a class of each scan.

    Args:
        key: of the classes, whole numbers.

    Shape:
        a batch with ``image`` ``(B, C, *spatial)`` and the key to the image and int64 ``(B,)``.
    """

    def __init__(self, key: str = "recipe_index") -> None:
        self.key = key

    def __call__(
        self, batchdata: Any, device: str | torch.device | None = None, non_blocking: bool = False, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        image = plain_tensor(default_prepare_batch(batchdata, device, non_blocking, **kwargs)[0])
        classes = torch.as_tensor(batchdata[self.key], dtype=torch.long)
        return image, classes.to(image.device, non_blocking=non_blocking)
