"""Engines: how a method is fitted, scored and kept."""

from __future__ import annotations

from medad_plugins.engines.class_batch import ClassBatch
from medad_plugins.engines.distributed import gather_list, join_ranks, shared_network
from medad_plugins.engines.fitting import FittingTrainer
from medad_plugins.engines.joined_batch import JoinedBatch
from medad_plugins.engines.model_file import ModelFile, save_model
from medad_plugins.engines.optimizers import NamedOptimizers, parameters_of
from medad_plugins.engines.phased import PhasedTrainer
from medad_plugins.engines.phases import Phase
from medad_plugins.engines.schedule import epoch_length, image_as_target
from medad_plugins.engines.scoring import ScoredCase, score_cases
from medad_plugins.engines.side_by_side import SideBySideBatch
from medad_plugins.engines.slices import SliceBatch

__all__ = [
    "ClassBatch",
    "FittingTrainer",
    "JoinedBatch",
    "ModelFile",
    "NamedOptimizers",
    "Phase",
    "PhasedTrainer",
    "ScoredCase",
    "SideBySideBatch",
    "SliceBatch",
    "epoch_length",
    "gather_list",
    "image_as_target",
    "join_ranks",
    "parameters_of",
    "save_model",
    "score_cases",
    "shared_network",
]
