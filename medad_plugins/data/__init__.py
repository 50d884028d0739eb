"""Data: datalists and cohorts, scans and how they are found and read, loaders, the built-in sample cohort."""

from __future__ import annotations

from medad_plugins.data.cached_dataset import cached_dataset
from medad_plugins.data.cohort import Cohort, labelled_validation
from medad_plugins.data.datalists import Case, read_datalist
from medad_plugins.data.dicom_series import read_series
from medad_plugins.data.drawn_beside import DrawnBesided
from medad_plugins.data.fault_tolerant_loader import FaultTolerantLoader
from medad_plugins.data.find_cases import find_cases
from medad_plugins.data.hold_out import case_group, hold_out
from medad_plugins.data.iteration_loader import IterationLoader, IterationSampler
from medad_plugins.data.labelled_dataset import labelled_dataset
from medad_plugins.data.pass_loader import PassLoader
from medad_plugins.data.reference_set import ReferenceSet
from medad_plugins.data.sample_cohort import generate_case, sample_cohort
from medad_plugins.data.scan import Scan
from medad_plugins.data.scan_files import find_scans, read_scan
from medad_plugins.data.scan_format import ScanFormat
from medad_plugins.data.upright import upright_turn
from medad_plugins.data.varied_dataset import varied_dataset

__all__ = [
    "Case",
    "Cohort",
    "DrawnBesided",
    "FaultTolerantLoader",
    "IterationLoader",
    "IterationSampler",
    "PassLoader",
    "ReferenceSet",
    "Scan",
    "ScanFormat",
    "cached_dataset",
    "case_group",
    "find_cases",
    "find_scans",
    "generate_case",
    "hold_out",
    "labelled_dataset",
    "labelled_validation",
    "read_datalist",
    "read_scan",
    "read_series",
    "sample_cohort",
    "upright_turn",
    "varied_dataset",
]
