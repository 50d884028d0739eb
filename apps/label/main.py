"""What MONAI Label loads from an app folder: the class of the app."""

from __future__ import annotations

from medad_label.app import MedADApp

__all__ = ["MedADApp"]
