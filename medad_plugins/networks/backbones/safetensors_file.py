"""Tensors of a ``.safetensors`` file: a length, a JSON header with names, types, shapes and places, and raw numbers."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medad_plugins.errors import InputError

__all__ = ["read_safetensors"]

TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """All tensors of the file by name, on the CPU.

    Raises:
        InputError: the file is truncated, foreign or not to be opened.
    """
    try:
        content = bytearray(path.read_bytes())
        start = 8 + int.from_bytes(content[:8], "little")
        header = json.loads(content[8:start].decode("utf-8"))
        return {name: _tensor(content, start, entry) for name, entry in header.items() if name != "__metadata__"}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise InputError(
            "the weights file cannot be read",
            where=path,
            found=reason or "a truncated or foreign file",
            todo="copy or make it again",
        ) from error


def _tensor(content: bytearray, start: int, entry: dict[str, Any]) -> Tensor:
    dtype, shape = TYPES[entry["dtype"]], [int(length) for length in entry["shape"]]
    first, last = entry["data_offsets"]
    count = math.prod(shape)
    if not 0 <= first <= last <= len(content) - start or last - first != count * dtype.itemsize:
        raise ValueError("a tensor does not lie in the file")
    if count == 0:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(content, dtype=dtype, count=count, offset=start + first).reshape(shape)
