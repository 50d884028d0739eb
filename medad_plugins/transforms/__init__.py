"""Transforms: from a file to the network's input, and from its map back to the scan."""

from __future__ import annotations

from medad_plugins.transforms.check_contrast import CheckContrastd
from medad_plugins.transforms.check_scan import CheckScand
from medad_plugins.transforms.describe_input import DescribeInputd, input_figures
from medad_plugins.transforms.equalize import EqualizeScand
from medad_plugins.transforms.load_image import LoadImageScan, LoadImageScand
from medad_plugins.transforms.load_mask import read_mask, read_mask_of
from medad_plugins.transforms.postprocessing import (
    AnomalyPostprocessing,
    RestoreScanGridd,
    ScoreAnomalyMapd,
    ThresholdAnomalyMapd,
    fitted_calibration,
)
from medad_plugins.transforms.preprocessing import RepeatGreyd, ScanPreprocessing
from medad_plugins.transforms.scale_intensity import ScaleScanIntensityd
from medad_plugins.transforms.shrink import SmoothResized
from medad_plugins.transforms.spacing import SmoothSpacingd
from medad_plugins.transforms.tiles import RandScanTiled
from medad_plugins.transforms.two_views import TwoViews
from medad_plugins.transforms.writers import (
    CaseWriter,
    SaveImageAnomalyd,
    SaveImageOverlayd,
    files_of_other_cases,
    remove_case_files,
)

__all__ = [
    "AnomalyPostprocessing",
    "CaseWriter",
    "CheckContrastd",
    "CheckScand",
    "DescribeInputd",
    "EqualizeScand",
    "LoadImageScan",
    "LoadImageScand",
    "RandScanTiled",
    "RepeatGreyd",
    "RestoreScanGridd",
    "SaveImageAnomalyd",
    "SaveImageOverlayd",
    "ScaleScanIntensityd",
    "ScanPreprocessing",
    "ScoreAnomalyMapd",
    "SmoothResized",
    "SmoothSpacingd",
    "ThresholdAnomalyMapd",
    "TwoViews",
    "files_of_other_cases",
    "fitted_calibration",
    "input_figures",
    "read_mask",
    "read_mask_of",
    "remove_case_files",
]
