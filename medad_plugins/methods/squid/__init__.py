"""SQUID: normal anatomy remembered by its place."""

from __future__ import annotations

from medad_plugins.methods.squid.inpainting import InpaintingBlock
from medad_plugins.methods.squid.memories import MemoryMatrices, MemoryQueues
from medad_plugins.methods.squid.network import SQUID
from medad_plugins.methods.squid.terms import squid_discriminator_terms, squid_generator_terms

__all__ = [
    "SQUID",
    "InpaintingBlock",
    "MemoryMatrices",
    "MemoryQueues",
    "squid_discriminator_terms",
    "squid_generator_terms",
]
