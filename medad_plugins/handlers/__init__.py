"""Handlers: what happens around a run."""

from __future__ import annotations

from medad_plugins.handlers.calibration import CalibrateAndSave, TestAtEnd
from medad_plugins.handlers.cosine_learning_rate import CosineLearningRate
from medad_plugins.handlers.evaluation import EvaluationReport
from medad_plugins.handlers.factor_learning_rate import LearningRate
from medad_plugins.handlers.fit_after_training import FitAfterTraining, FitBeforeEpochs
from medad_plugins.handlers.initial_centre import InitialCentre
from medad_plugins.handlers.loss_terms import LossTerms
from medad_plugins.handlers.metrics import Detection, Localization
from medad_plugins.handlers.moving_average import MovingAverage
from medad_plugins.handlers.progress import InferenceProgress, TrainingProgress
from medad_plugins.handlers.results import ResultsTable
from medad_plugins.handlers.save_at_end import SaveAtEnd
from medad_plugins.handlers.selection import KeepBest
from medad_plugins.handlers.step_learning_rate import StepLearningRate
from medad_plugins.handlers.tensorboard import TensorBoardLog
from medad_plugins.handlers.training import ClipGradients, ResumableCheckpoint
from medad_plugins.handlers.training_pictures import TrainingPictures

__all__ = [
    "CalibrateAndSave",
    "ClipGradients",
    "CosineLearningRate",
    "Detection",
    "EvaluationReport",
    "FitAfterTraining",
    "FitBeforeEpochs",
    "InferenceProgress",
    "InitialCentre",
    "KeepBest",
    "LearningRate",
    "Localization",
    "LossTerms",
    "MovingAverage",
    "ResultsTable",
    "ResumableCheckpoint",
    "SaveAtEnd",
    "StepLearningRate",
    "TensorBoardLog",
    "TestAtEnd",
    "TrainingPictures",
    "TrainingProgress",
]
