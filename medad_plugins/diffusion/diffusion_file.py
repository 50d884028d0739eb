"""The file of a trained diffusion model."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from medad_plugins.engines import ModelFile
from medad_plugins.errors import InputError

__all__ = ["DiffusionFile"]


class DiffusionFile(ModelFile):
    """A `ModelFile` that is no bundle's model but that of a stage before it.

    Raises:
        InputError: as `ModelFile`; for a missing file with this stage's own advice.
    """

    @cached_property
    def content(self) -> dict[str, Any]:
        """The checked content."""
        if not self.path.is_file():
            todo = "train one first: leave out --trained, or give its --ckpt_path"
            raise InputError("there is no trained diffusion model", where=self.path, todo=todo)
        return super().content
