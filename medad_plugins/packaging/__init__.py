"""Packaging: a trained bundle as one zip that other places can trust and use."""

from __future__ import annotations

from pathlib import Path

from medad_plugins.packaging.json_twins import write_json_twins
from medad_plugins.packaging.model_metadata import describe_model
from medad_plugins.packaging.package import package_bundle

__all__ = ["METADATA_SCHEMA", "describe_model", "package_bundle", "write_json_twins"]

# what a bundle's metadata.json must hold; MONAI's verify_metadata would download it
METADATA_SCHEMA = Path(__file__).with_name("metadata.schema.json")
