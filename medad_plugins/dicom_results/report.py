"""The figures of a case as a DICOM structured report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from monai.data.utils import to_affine_nd
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from medad_plugins.dicom_results.algorithm import MANUFACTURER, Algorithm
from medad_plugins.dicom_results.codes import (
    ALPHA,
    ANOMALY_SCORE,
    CALIBRATED_ON,
    CANNOT_FLAG,
    DECISION,
    FLAGGED,
    NOT_FLAGGED,
    P_VALUE,
    REGION,
    coding_scheme_item,
)
from medad_plugins.dicom_results.highdicom_package import highdicom
from medad_plugins.dicom_results.source_series import SourceSeries

__all__ = ["report"]

_SERIES_NUMBER = 9904
_IMAGING_PROCEDURE = Code("363679005", "SCT", "Imaging procedure")


def report(source: SourceSeries, case: Mapping[Any, Any], algorithm: Algorithm, region: Any = None) -> Any:
    """A measurement report (TID 1500): score, p-value, alpha, decision, and what it is calibrated on.

    A flagged scan also has a finding, the marked region with its size; one that is not flagged has none.

    Args:
        source: the series.
        case: a case as it leaves `medad_plugins.transforms.AnomalyPostprocessing`.
        algorithm: what made it, named with its version.
        region: the segmentation; None where nothing is marked.
    """
    sr = highdicom().sr
    identification = sr.AlgorithmIdentification(
        name=algorithm.name,
        version=algorithm.version,
        parameters=[f"alpha {case['alpha']:g}", *algorithm.software[1:]],
        manufacturer=MANUFACTURER,
    )
    decision = FLAGGED if case["is_anomalous"] else NOT_FLAGGED if case["can_flag"] else CANNOT_FLAG
    groups = [
        sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=_tracking("MedAD decision"),
            algorithm_id=identification,
            measurements=[
                _measurement(ANOMALY_SCORE, case["anomaly_score"], codes.UCUM.NoUnits),
                _measurement(P_VALUE, case["p_value"], codes.UCUM.NoUnits),
                _measurement(ALPHA, case["alpha"], codes.UCUM.NoUnits),
                _measurement(CALIBRATED_ON, case["calibrated_on"], codes.UCUM.NoUnits),
            ],
            qualitative_evaluations=[sr.QualitativeEvaluation(name=DECISION, value=decision)],
            source_images=[
                sr.SourceImageForMeasurementGroup(str(image.SOPClassUID), str(image.SOPInstanceUID))
                for image in source.images
            ],
        )
    ]
    found = region if case["is_anomalous"] else None
    if found is not None:
        name, unit = _size_terms(case)
        groups.append(
            sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
                tracking_identifier=_tracking("MedAD anomalous region"),
                referenced_segment=sr.ReferencedSegment(
                    sop_class_uid=found.SOPClassUID,
                    sop_instance_uid=found.SOPInstanceUID,
                    segment_number=1,
                    source_series=sr.SourceSeriesForSegmentation(source.images[0].SeriesInstanceUID),
                ),
                finding_type=REGION,
                algorithm_id=identification,
                measurements=[_measurement(name, marked_size(case), unit)],
            )
        )
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=_observer(algorithm)),
        procedure_reported=_IMAGING_PROCEDURE,
        imaging_measurements=groups,
    )
    return sr.ComprehensiveSR(
        evidence=[*source.images, *([] if found is None else [found])],
        content=content,
        series_instance_uid=generate_uid(prefix=None),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=generate_uid(prefix=None),
        instance_number=1,
        is_complete=True,
        series_description=f"{MANUFACTURER} report",
        coding_schemes=[coding_scheme_item()],
        manufacturer=MANUFACTURER,
        **{key: value for key, value in algorithm.equipment().items() if key != "manufacturer"},
    )


def marked_size(case: Mapping[Any, Any]) -> float:
    """Volume in mm3, or area in mm2 of a 2D scan, that the mask marks."""
    mask = case["anomaly_mask"]
    affine = to_affine_nd(3, np.asarray(case["anomaly_map"].affine, dtype=float))
    voxel = np.linalg.norm(affine[:3, : mask.ndim - 1], axis=0).prod()
    return float(voxel) * int(mask.sum())


def _size_terms(case: Mapping[Any, Any]) -> tuple[Code, Code]:
    if case["anomaly_mask"].ndim == 3:
        return codes.SCT.Area, codes.UCUM.SquareMillimeter
    return codes.SCT.Volume, codes.UCUM.CubicMillimeter


def _tracking(name: str) -> Any:
    return highdicom().sr.TrackingIdentifier(uid=generate_uid(prefix=None), identifier=name)


def _measurement(name: Code, value: float, unit: Code) -> Any:
    return highdicom().sr.Measurement(name=name, value=float(value), unit=unit)


def _observer(algorithm: Algorithm) -> Any:
    sr = highdicom().sr
    return sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=generate_uid(prefix=None, entropy_srcs=[MANUFACTURER, *algorithm.software]),
            name=algorithm.name,
            manufacturer_name=MANUFACTURER,
            model_name=algorithm.software[0],
        ),
    )
