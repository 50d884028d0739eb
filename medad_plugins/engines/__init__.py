"""Engines: how a method is fitted, scored and kept."""

from __future__ import annotations

from medad_plugins.engines.case_evaluator import CaseEvaluator
from medad_plugins.engines.distributed import gather_list, join_ranks, shared_network
from medad_plugins.engines.fitting import FittingTrainer
from medad_plugins.engines.gradient import GradientTrainer
from medad_plugins.engines.model_file import ModelFile, save_model, write_model
from medad_plugins.engines.optimizers import NamedOptimizers, parameters_of
from medad_plugins.engines.phased import PhasedTrainer
from medad_plugins.engines.phases import Phase
from medad_plugins.engines.scan_batch import ScanBatch
from medad_plugins.engines.scoring import NormalScores, ScoredCase, score_cases, score_normals
from medad_plugins.engines.stable_adamw import StableAdamW
from medad_plugins.engines.training_setup import TrainingSetup

__all__ = [
    "CaseEvaluator",
    "FittingTrainer",
    "GradientTrainer",
    "ModelFile",
    "NamedOptimizers",
    "NormalScores",
    "Phase",
    "PhasedTrainer",
    "ScanBatch",
    "ScoredCase",
    "StableAdamW",
    "TrainingSetup",
    "gather_list",
    "join_ranks",
    "parameters_of",
    "save_model",
    "score_cases",
    "score_normals",
    "shared_network",
    "write_model",
]
