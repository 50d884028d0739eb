"""Handlers: what happens around a run."""

from __future__ import annotations

from medad_plugins.handlers.calibrate_and_save import CalibrateAndSave
from medad_plugins.handlers.clip_gradients import ClipGradients
from medad_plugins.handlers.evaluation import EvaluationReport
from medad_plugins.handlers.fit_after_training import FitAfterTraining, FitBeforeEpochs, FitBeforeTraining
from medad_plugins.handlers.initial_centre import InitialCentre
from medad_plugins.handlers.keep_frozen_taps import KeepFrozenTaps
from medad_plugins.handlers.learning_rate import LearningRate, cosine_decay, step_decay, warm_cosine_decay
from medad_plugins.handlers.look_at_scans import LookAtScans
from medad_plugins.handlers.loss_terms import LossTerms
from medad_plugins.handlers.metrics import Detection, Localization
from medad_plugins.handlers.moving_average import MovingAverage
from medad_plugins.handlers.progress import InferenceProgress, TrainingProgress
from medad_plugins.handlers.results import ResultsTable
from medad_plugins.handlers.resumable_checkpoint import ResumableCheckpoint
from medad_plugins.handlers.save_at_end import SaveAtEnd
from medad_plugins.handlers.save_backbone import SaveBackbone
from medad_plugins.handlers.selection import KeepBest
from medad_plugins.handlers.standard import StandardHandlers
from medad_plugins.handlers.tensorboard import TensorBoardLog
from medad_plugins.handlers.testing import TestAtEnd
from medad_plugins.handlers.training_pictures import TrainingPictures

__all__ = [
    "CalibrateAndSave",
    "ClipGradients",
    "Detection",
    "EvaluationReport",
    "FitAfterTraining",
    "FitBeforeEpochs",
    "FitBeforeTraining",
    "InferenceProgress",
    "InitialCentre",
    "KeepBest",
    "KeepFrozenTaps",
    "LearningRate",
    "Localization",
    "LookAtScans",
    "LossTerms",
    "MovingAverage",
    "ResultsTable",
    "ResumableCheckpoint",
    "SaveAtEnd",
    "SaveBackbone",
    "StandardHandlers",
    "TensorBoardLog",
    "TestAtEnd",
    "TrainingPictures",
    "TrainingProgress",
    "cosine_decay",
    "step_decay",
    "warm_cosine_decay",
]
