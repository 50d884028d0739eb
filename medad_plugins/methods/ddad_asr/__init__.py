"""DDAD-ASR: autoencoders that disagree, and a network that refines where."""

from __future__ import annotations

from medad_plugins.methods.ddad_asr.network import DDADASR
from medad_plugins.methods.ddad_asr.terms import ddad_ensembles, ddad_refinement

__all__ = ["DDADASR", "ddad_ensembles", "ddad_refinement"]
