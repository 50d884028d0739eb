"""A case's results as DICOM objects that a PACS stores beside the series they were computed from."""

from medad_plugins.dicom_results.algorithm import Algorithm
from medad_plugins.dicom_results.source_series import SourceSeries
from medad_plugins.dicom_results.transform import SaveImageDicomResultsd
from medad_plugins.dicom_results.writing import FILE_NAMES, write_dicom_results

__all__ = ["FILE_NAMES", "Algorithm", "SaveImageDicomResultsd", "SourceSeries", "write_dicom_results"]
