"""Coded terms of MedAD that no public coding scheme has."""

from __future__ import annotations

from typing import Any

from pydicom.sr.coding import Code

from medad_plugins.dicom_results.highdicom_package import highdicom

__all__ = [
    *("ALPHA", "ANOMALY_SCORE", "CALIBRATED_ON", "CANNOT_FLAG", "DECISION", "FLAGGED", "NOT_FLAGGED", "P_VALUE"),
    *("REGION", "code_item", "coding_scheme_item"),
]

_SCHEME = "99MEDAD"  # 99 marks a private scheme

P_VALUE = Code("C44185", "NCIt", "P-Value")
ANOMALY_SCORE = Code("anomaly_score", _SCHEME, "Anomaly score")
ALPHA = Code("alpha", _SCHEME, "Share of normal scans that may be flagged")
DECISION = Code("decision", _SCHEME, "Decision")
FLAGGED = Code("flagged", _SCHEME, "Flagged as anomalous")
NOT_FLAGGED = Code("not_flagged", _SCHEME, "Not flagged")
CANNOT_FLAG = Code("cannot_flag", _SCHEME, "Too few normal scans for alpha: none can be flagged")
CALIBRATED_ON = Code("calibrated_on", _SCHEME, "Normal scans that the decision is calibrated on")
# not a lesion: pixels above a threshold, which a share of normal scans has too
REGION = Code("region", _SCHEME, "Region above the calibrated threshold")


def code_item(code: Code) -> Any:
    """The term as highdicom's CodedConcept."""
    return highdicom().sr.CodedConcept.from_code(code)


def coding_scheme_item() -> Any:
    """What an object that uses these terms says of their scheme."""
    return highdicom().coding_schemes.CodingSchemeIdentificationItem(
        designator=_SCHEME, name="MedAD", responsible_organization="MedAD"
    )
