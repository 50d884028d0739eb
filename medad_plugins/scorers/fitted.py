"""Modules whose buffers take their size from the data they were fitted on."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

__all__ = ["FittedModule"]


class FittedModule(nn.Module):
    """Base for fitted state: on loading, every buffer of this module takes the shape it has in the checkpoint.

    Torch refuses buffers whose shape differs, but a memory bank or a set of reference scores has no shape until it is
    fitted; with this base a strict ``load_state_dict`` works all the same.
    """

    def additive_buffers(self) -> tuple[str, ...]:
        """Names of the buffers that hold sums over the cases collected: of two halves of the data, they add up."""
        return ()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        for name, buffer in self.named_buffers(recurse=False):
            saved = state_dict.get(prefix + name)
            if saved is not None and saved.shape != buffer.shape:
                setattr(self, name, torch.empty(saved.shape, dtype=buffer.dtype, device=buffer.device))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
