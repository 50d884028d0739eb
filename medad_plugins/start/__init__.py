"""From a folder of scans to a decision: what the data is, which detector works on it, and what to do next."""

from __future__ import annotations

from medad_plugins.start.detectors import Detector, usual_detectors
from medad_plugins.start.first_data import FirstData, read_first_data
from medad_plugins.start.ranking import Ranked, Trial, rank_trials
from medad_plugins.start.start import start

__all__ = [
    "Detector",
    "FirstData",
    "Ranked",
    "Trial",
    "rank_trials",
    "read_first_data",
    "start",
    "usual_detectors",
]
