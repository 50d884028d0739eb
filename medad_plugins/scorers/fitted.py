"""Modules whose buffers take their size from the data they were fitted on."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["FittedModule"]


class FittedModule(nn.Module):
    """Base for fitted state: on loading, every buffer of this module takes the shape it has in the checkpoint.

    Torch refuses buffers whose shape differs, but a memory bank or a set of reference scores has no shape until it is
    fitted; with this base a strict ``load_state_dict`` works all the same.
    """

    def additive_buffers(self) -> tuple[str, ...]:
        """Names of the buffers that hold sums over the cases collected: of two halves of the data, they add up."""
        return ()

    def united_buffers(self) -> tuple[str, ...]:
        """Names of the buffers that are banks, an entry in each row: those of two halves of the data lie together."""
        return ()

    def merge_buffers(self, states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Merge this module's buffers from several sites.

        By default `additive_buffers` are added up and `united_buffers` laid together; a module with another way
        overrides this. Buffers that are left out are averaged, see `medad_plugins.federated.merge_replies`.

        Args:
            states: the buffers of each site by name; sums and banks of a site without cases are empty.
        """
        merged = {}
        for name in self.additive_buffers():
            sums = [state[name] for state in states if state[name].numel()]
            merged[name] = functools.reduce(torch.add, sums) if sums else states[0][name]
        for name in self.united_buffers():
            banks = [state[name] for state in states if state[name].numel()]
            merged[name] = torch.cat(banks) if banks else states[0][name]
        return merged

    def after_merge(self) -> None:
        """Called once the module holds merged buffers, e.g. to select from a bank that is too large now."""

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        for name, buffer in self.named_buffers(recurse=False):
            saved = state_dict.get(prefix + name)
            if saved is not None and saved.shape != buffer.shape:
                setattr(self, name, torch.empty(saved.shape, dtype=buffer.dtype, device=buffer.device))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
