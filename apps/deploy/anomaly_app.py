"""The application: a DICOM study in, DICOM results of any MedAD bundle out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from anomaly_operators import AnomalyInferenceOperator, BundleOptions, ResultWriterOperator, StudyReaderOperator
from monai.deploy.conditions import CountCondition
from monai.deploy.core import AppContext, Application

from medad_plugins.errors import InputError
from medad_plugins.versions import require_bundle_fits

__all__ = ["AnomalyApp"]


class AnomalyApp(Application):
    """Reads a study folder, applies a bundle, and writes region, map, overview and report as DICOM objects.

    Folders of study, results and bundle come from the SDK's own arguments ``--input``, ``--output`` and ``--model``,
    or from its variables HOLOSCAN_INPUT_PATH, HOLOSCAN_OUTPUT_PATH and HOLOSCAN_MODEL_PATH. A site may set MEDAD_SERIES
    (part of the series' description, a regular expression), MEDAD_ALPHA and MEDAD_DEVICE in the environment.

    Args:
        context: folders, see `monai.deploy.core.AppContext`.
    """

    def __init__(self, context: AppContext, *args: Any, **kwargs: Any) -> None:
        self.context = context
        super().__init__(*args, **kwargs)

    def compose(self) -> None:
        """Connect the steps."""
        root = Path(self.context.model_path)
        if not list((root / "configs").glob("inference.*")):
            raise InputError("there is no bundle in the folder", where=root, todo="give a bundle's folder as --model")
        require_bundle_fits(root)
        options = BundleOptions(os.environ.get("MEDAD_ALPHA"), os.environ.get("MEDAD_DEVICE"))
        inference = AnomalyInferenceOperator(
            self, bundle_root=root, options=options, app_context=self.context, name="inference"
        )
        reader = StudyReaderOperator(
            self,
            CountCondition(self, 1),
            study=Path(self.context.input_path),
            bundle=inference.reads,
            wanted=os.environ.get("MEDAD_SERIES", ""),
            name="reader",
        )
        writer = ResultWriterOperator(
            self,
            folder=Path(self.context.output_path),
            algorithm=inference.algorithm,
            picture=inference.picture,
            name="writer",
        )
        self.add_flow(reader, inference, {("image", "image")})
        self.add_flow(reader, writer, {("series", "series")})
        self.add_flow(inference, writer, {("case", "case")})
