"""MedAD's app for MONAI Label.

Importing it lets MONAI Label be imported beside pydicom 3: pydicom-seg 0.4.1, which MONAI Label 0.8.5 imports at its
start, asks for a module that pydicom 3 no longer has; what it needs of it lies in `pydicom.uid`.
"""

from __future__ import annotations

import sys

import pydicom.uid

__all__: list[str] = []

sys.modules.setdefault("pydicom._storage_sopclass_uids", pydicom.uid)
