"""What a model needs where it is used: a site's own calibration, and an eye on whether the promise still holds."""

from __future__ import annotations

from medad_plugins.deployment.exchangeability import ExchangeabilityAlarm
from medad_plugins.deployment.monitoring import MonitoredScans, Reference, read_results, watch
from medad_plugins.deployment.recalibration import Recalibration, recalibrate, restore_calibration

__all__ = [
    "ExchangeabilityAlarm",
    "MonitoredScans",
    "Recalibration",
    "Reference",
    "read_results",
    "recalibrate",
    "restore_calibration",
    "watch",
]
