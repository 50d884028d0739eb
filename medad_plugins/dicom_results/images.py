"""The region, the map and the picture of a case as DICOM images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from medad_plugins.dicom_results.algorithm import MANUFACTURER, Algorithm
from medad_plugins.dicom_results.codes import ANOMALY_SCORE, REGION, code_item, coding_scheme_item
from medad_plugins.dicom_results.highdicom_package import highdicom
from medad_plugins.dicom_results.source_series import SourceSeries
from medad_plugins.reports.figures import decision_words

__all__ = ["map_image", "picture_image", "region_image"]

_LONGEST_LABEL = 64
# High, so that a PACS lists them after what the scanner made.
_SERIES_NUMBERS = {"region": 9901, "map": 9902, "picture": 9903}


def _new_object(kind: str) -> dict[str, Any]:
    """Identity of an object, in a series of its own; the identifiers say nothing about their maker."""
    return {
        "series_instance_uid": generate_uid(prefix=None),
        "series_number": _SERIES_NUMBERS[kind],
        "sop_instance_uid": generate_uid(prefix=None),
        "instance_number": 1,
    }


def region_image(source: SourceSeries, case: Mapping[Any, Any], algorithm: Algorithm) -> Any:
    """The mask as a DICOM segmentation of one segment; slices without a marked pixel are left out.

    Args:
        source: the series.
        case: with a mask ``(1, columns, rows[, slices])`` of at least one marked pixel, and its decision, which the
            segment's label says.
        algorithm: what made it.
    """
    package = highdicom()
    segment = package.seg.SegmentDescription(
        segment_number=1,
        segment_label=decision_words(case)[:_LONGEST_LABEL],
        segmented_property_category=codes.SCT.SpatialAndRelationalConcept,
        segmented_property_type=code_item(REGION),
        algorithm_type=package.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm.identification(
            {"alpha": f"{case['alpha']:g}", "calibrated on": f"{case['calibrated_on']} normal scans"}
        ),
        tracking_uid=generate_uid(prefix=None),
        tracking_id="MedAD anomalous region",
    )
    image = package.seg.Segmentation(
        source_images=source.images,
        pixel_array=source.frames(np.asarray(case["anomaly_mask"])).astype(np.uint8),
        segmentation_type=package.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[segment],
        content_label="ANOMALY",
        content_description="Pixels above the calibrated threshold",
        series_description=f"{MANUFACTURER} region, {'flagged' if case['is_anomalous'] else 'not flagged'}",
        coding_schemes=[coding_scheme_item()],
        **_new_object("region"),
        **algorithm.equipment(),
    )
    if not source.has_place:
        image.PatientOrientation = source.images[0].get("PatientOrientation")
    return image


def map_image(
    source: SourceSeries, anomaly_map: NDArray, algorithm: Algorithm, colour_range: tuple[float, float]
) -> Any:
    """The anomaly map as a DICOM parametric map, every value as it was computed (float32).

    Args:
        source: the series.
        anomaly_map: ``(1, columns, rows[, slices])``.
        algorithm: what made it.
        colour_range: values to show as black and as white.
    """
    package = highdicom()
    low, high = colour_range
    values = source.frames(anomaly_map).astype(np.float32)
    mapping = package.pm.RealWorldValueMapping(
        lut_label="ANOMALY",
        lut_explanation="Anomaly map, higher is more abnormal",
        unit=codes.UCUM.NoUnits,
        value_range=(float(values.min()), float(values.max())),
        slope=1.0,
        intercept=0.0,
        quantity_definition=code_item(ANOMALY_SCORE),
    )
    window = package.VOILUTTransformation(window_center=(low + high) / 2, window_width=high - low)
    image = package.pm.ParametricMap(
        source_images=source.images,
        pixel_array=values,
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[mapping],
        voi_lut_transformations=[window],
        content_label="ANOMALY_MAP",
        content_description="Anomaly map, higher is more abnormal",
        series_description=f"{MANUFACTURER} anomaly map",
        coding_schemes=[coding_scheme_item()],
        **_new_object("map"),
        **algorithm.equipment(),
    )
    _take_over_laterality(image, source)
    return image


def picture_image(source: SourceSeries, picture: Image.Image, algorithm: Algorithm) -> Any:
    """The overview picture as a colour secondary capture, for viewers that show neither of the other two."""
    package = highdicom()
    image = package.sc.SCImage.from_ref_dataset(
        ref_dataset=source.images[0],
        pixel_array=np.asarray(picture.convert("RGB")),
        photometric_interpretation=package.PhotometricInterpretationValues.RGB,
        bits_allocated=8,
        coordinate_system=package.CoordinateSystemNames.PATIENT,
        patient_orientation=("L", "P"),
        series_description=f"{MANUFACTURER} overview",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        **_new_object("picture"),
        **algorithm.equipment(),
    )
    image.copy_patient_and_study_information(source.images[0])
    _take_over_laterality(image, source)
    image.PatientOrientation = None  # several planes in one picture have none in common
    image.BurnedInAnnotation = "NO"  # nothing that names the patient
    image.DerivationDescription = "Overview of a computed anomaly map, research use only"
    image.SourceImageSequence = [_source_item(one) for one in source.images]
    return image


def _take_over_laterality(image: Dataset, source: SourceSeries) -> None:
    """It must be there, though it may be empty, where the body part might be one of a pair."""
    image.Laterality = source.images[0].get("Laterality")


def _source_item(image: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    item.PurposeOfReferenceCodeSequence = [
        highdicom().sr.CodedConcept.from_code(codes.DCM.SourceImageForImageProcessingOperation)
    ]
    return item
