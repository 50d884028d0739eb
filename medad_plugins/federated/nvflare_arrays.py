"""States of networks as NVFlare carries them: by NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["to_arrays", "to_tensors"]


def to_arrays(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Each tensor as an array of the same shape and type."""
    return {name: value.detach().cpu().numpy() for name, value in state.items()}


def to_tensors(arrays: Mapping[str, Any]) -> dict[str, Tensor]:
    """Each array as a tensor of its own memory."""
    return {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}
