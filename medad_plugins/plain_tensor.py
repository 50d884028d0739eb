"""Tensors without the metadata that MONAI's transforms carry along."""

from __future__ import annotations

from typing import Any

__all__ = ["plain_tensor"]


def plain_tensor(value: Any) -> Any:
    """The tensor of a `monai.data.MetaTensor`, which would pass every operation through Python; all else as it is."""
    return value.as_tensor() if hasattr(value, "as_tensor") else value
