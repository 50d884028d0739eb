"""What made a result: the bundle and its version, as every object names them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.sr.codedict import codes

import medad_plugins
from medad_plugins.dicom_results.highdicom_package import highdicom
from medad_plugins.errors import InputError

__all__ = ["Algorithm"]

MANUFACTURER = "MedAD"
_LONGEST = 64  # characters of a DICOM long string


@dataclass(frozen=True)
class Algorithm:
    """A bundle as DICOM objects name it.

    Attributes:
        name: the bundle's display name, without its explanation.
        version: the bundle's version.
    """

    name: str
    version: str

    @classmethod
    def of_metadata(cls, metadata: Mapping[str, Any]) -> Algorithm:
        """Named by the content of a bundle's ``metadata.json``."""
        return cls(str(metadata["name"]).partition(":")[0][:_LONGEST], str(metadata["version"]))

    @classmethod
    def of_bundle(cls, bundle_root: str | Path) -> Algorithm:
        """Named by the metadata of the bundle in a folder.

        Raises:
            InputError: there is no bundle in the folder.
        """
        path = Path(bundle_root) / "configs" / "metadata.json"
        try:
            return cls.of_metadata(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError) as error:
            raise InputError("the folder is not a bundle", where=path, todo="give the bundle's own folder") from error

    @property
    def software(self) -> tuple[str, ...]:
        """Versions of everything that took part."""
        return (f"{self.name} {self.version}"[:_LONGEST], f"medad-plugins {medad_plugins.__version__}")

    def equipment(self) -> dict[str, Any]:
        """Arguments of highdicom's image classes that name the equipment."""
        return {
            "manufacturer": MANUFACTURER,
            "manufacturer_model_name": self.name,
            "software_versions": self.software,
            "device_serial_number": self.version,
        }

    def identification(self, parameters: Mapping[str, str]) -> Any:
        """Name, version and parameters as highdicom's AlgorithmIdentificationSequence."""
        return highdicom().AlgorithmIdentificationSequence(
            name=self.name,
            version=self.version,
            family=codes.DCM.ArtificialIntelligence,
            source=MANUFACTURER,
            parameters=dict(parameters),
        )
