"""Handlers: what happens around a run."""

from __future__ import annotations

from medad_plugins.handlers.calibration import CalibrateAndSave, TestAtEnd
from medad_plugins.handlers.evaluation import EvaluationReport
from medad_plugins.handlers.learning_rate import StepLearningRate
from medad_plugins.handlers.metrics import Detection, Localization
from medad_plugins.handlers.progress import InferenceProgress, TrainingProgress
from medad_plugins.handlers.results import ResultsTable
from medad_plugins.handlers.selection import KeepBest
from medad_plugins.handlers.training import ClipGradients, ResumableCheckpoint

__all__ = [
    "CalibrateAndSave",
    "ClipGradients",
    "Detection",
    "EvaluationReport",
    "InferenceProgress",
    "KeepBest",
    "Localization",
    "ResultsTable",
    "ResumableCheckpoint",
    "StepLearningRate",
    "TestAtEnd",
    "TrainingProgress",
]
