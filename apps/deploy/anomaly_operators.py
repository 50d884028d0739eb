"""The application's steps: read the study, apply the bundle, write the results."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from monai.data import MetaTensor
from monai.deploy.core import AppContext, ConditionType, Fragment, Image, IOType, Operator, OperatorSpec
from monai.deploy.operators.monai_bundle_inference_operator import IOMapping, MonaiBundleInferenceOperator
from series_selection import BundleInput, Series, select_series

from medad_plugins.dicom_results import Algorithm, SourceSeries, write_dicom_results
from medad_plugins.dicom_results.transform import CasePicture

__all__ = ["AnomalyInferenceOperator", "BundleOptions", "ResultWriterOperator", "StudyReaderOperator"]

logger = logging.getLogger(__name__)


class BundleOptions(NamedTuple):
    """What a site may set of any bundle; what is None stays as the bundle has it.

    Attributes:
        alpha: share of normal scans that may be flagged.
        device: cpu or cuda.
    """

    alpha: str | None = None
    device: str | None = None


class AnomalyInferenceOperator(MonaiBundleInferenceOperator):
    """MONAI Deploy's operator for a bundle folder, which also emits the whole case and not only its mask.

    Named input:
        image: the scan as the SDK's Image, with the bundle's own meta data.
    Named outputs:
        pred: the mask as the SDK's Image; needs no receiver.
        case: everything that the bundle's postprocessing gives.

    Args:
        fragment: the application.
        bundle_root: folder of the bundle.
        options: see `BundleOptions`.
        app_context: of the application.
    """

    def __init__(
        self,
        fragment: Fragment,
        *args: Any,
        bundle_root: Path,
        options: BundleOptions,
        app_context: AppContext,
        **kwargs: Any,
    ) -> None:
        self._options = options
        self._case: Mapping[Any, Any] = {}
        # The SDK takes a folder given as its model for a loaded network; without one it reads the bundle by itself.
        app_context.models = None
        super().__init__(
            fragment,
            *args,
            app_context=app_context,
            input_mapping=[IOMapping("image", Image, IOType.IN_MEMORY)],
            output_mapping=[IOMapping("pred", Image, IOType.IN_MEMORY)],
            bundle_path=bundle_root,
            **kwargs,
        )
        # now and not with the first scan, so that errors in the bundle are reported before anything is read
        self._init_config(self._bundle_config_names.config_names)
        self._init_completed = True

    def setup(self, spec: OperatorSpec) -> None:
        """Ports of the operator."""
        spec.input("image")
        spec.output("pred").condition(ConditionType.NONE)
        spec.output("case")

    def _get_compose(self, obj_name: str, disallowed_prefixes: list[str]) -> Any:
        """Gives the parser, which the SDK has just built, the bundle's folder and the site's settings."""
        parser: Any = self._parser
        if parser.get("bundle_root") != str(self.bundle_path):
            parser["bundle_root"] = str(self.bundle_path)
            for key, value in self._options._asdict().items():
                if value is not None:
                    parser[key] = value
            self._device = parser.get_parsed_content("device")
        return super()._get_compose(obj_name, disallowed_prefixes)

    def post_process(self, data: Any, *args: Any, **kwargs: Any) -> Any:
        """The bundle's postprocessing of one map ``(1, *spatial)``."""
        name = next(iter(self._outputs))
        self._case = self._postproc({name: data, **kwargs[self.kw_preprocessed_inputs]})
        return dict(self._case)

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        """Apply the bundle."""
        super().compute(op_input, op_output, context)
        op_output.emit(self._case, "case")

    @property
    def reads(self) -> BundleInput:
        """What the bundle reads."""
        parser: Any = self._parser
        modality = str(self._inputs["image"].get("modality", "any"))
        return BundleInput(int(parser.get_parsed_content("spatial_dims")), modality)

    @property
    def algorithm(self) -> Algorithm:
        """The bundle as results name it."""
        parser: Any = self._parser
        return Algorithm.of_metadata(parser["_meta_"])

    @property
    def picture(self) -> CasePicture:
        """Draws the overview of a case."""
        parser: Any = self._parser
        return CasePicture(self._preproc, parser.get_parsed_content("network_def"), self.algorithm)


class StudyReaderOperator(Operator):
    """Selects the series of a study that the bundle reads, and reads it as the bundle's own inference does.

    The SDK's own chain of loader, selector and volume operators is not used: it logs descriptions and identifiers of
    the series, fills a missing slice with nothing said, and mixes up the two spacings within a slice.

    Named outputs:
        image: the scan as the SDK's Image.
        series: the selected `Series`.

    Args:
        fragment: the application.
        study: folder of DICOM files.
        bundle: what the bundle reads.
        wanted: see `select_series`.
    """

    def __init__(
        self, fragment: Fragment, *args: Any, study: Path, bundle: BundleInput, wanted: str, **kwargs: Any
    ) -> None:
        self.study, self.bundle, self.wanted = study, bundle, wanted
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Ports of the operator."""
        spec.output("image")
        spec.output("series")

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        """Read the study."""
        series, scan = select_series(self.study, self.bundle, self.wanted)
        logger.info("reading %s", series.name)
        op_output.emit(sdk_image(scan), "image")
        op_output.emit(series, "series")


def sdk_image(scan: MetaTensor) -> Image:
    """A scan as the SDK's Image, with meta data that its bundle operator hands on as they are."""
    meta = dict(scan.meta)
    for key in ("affine", "original_affine"):
        meta[key] = np.asarray(meta[key])
    # the mark by which the SDK knows that nothing has to be converted
    meta["spacing"] = np.linalg.norm(meta["affine"][:3, :3], axis=0)
    if np.isnan(meta["original_channel_dim"]):
        meta["original_channel_dim"] = "no_channel"
    return Image(scan.as_tensor().numpy(), meta)


class ResultWriterOperator(Operator):
    """Writes the DICOM objects of a case.

    Named inputs:
        case: from `AnomalyInferenceOperator`.
        series: from `StudyReaderOperator`.

    Args:
        fragment: the application.
        folder: where to write.
        algorithm: what the objects name.
        picture: draws the overview.
    """

    def __init__(
        self, fragment: Fragment, *args: Any, folder: Path, algorithm: Algorithm, picture: CasePicture, **kwargs: Any
    ) -> None:
        self.folder, self.algorithm, self.picture = folder, algorithm, picture
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Ports of the operator."""
        spec.input("case")
        spec.input("series")

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        """Write the results."""
        case: Mapping[Any, Any] = op_input.receive("case")
        series: Series = op_input.receive("series")
        anomaly_map: MetaTensor = case["anomaly_map"]
        source = SourceSeries.read(series.files, np.asarray(anomaly_map.affine), anomaly_map.shape[1:])
        limits = self.picture.colour_range
        written = write_dicom_results(case, source, self.algorithm, self.picture(case), limits, self.folder)
        logger.info(
            "score %.4g, p %.3g, %s at alpha %g; %s in %s",
            case["anomaly_score"],
            case["p_value"],
            "anomalous" if case["is_anomalous"] else "not anomalous",
            case["alpha"],
            ", ".join(path.name for path in written.values()),
            self.folder,
        )
