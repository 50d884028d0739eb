"""From the network's map to a decision on the scan's own grid."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd, MapTransform, Transform
from torch import Tensor

from medad_plugins.errors import InputError, find_input_error
from medad_plugins.plain_tensor import plain_tensor
from medad_plugins.protocols import Calibrated
from medad_plugins.scorers import Calibration
from medad_plugins.transforms.describe_input import DescribeInputd, Hashed
from medad_plugins.transforms.writers import SaveImageAnomalyd, SaveImageOverlayd

__all__ = [
    "AnomalyPostprocessing",
    "RestoreScanGridd",
    "ScoreAnomalyMapd",
    "ThresholdAnomalyMapd",
    "fitted_calibration",
]

logger = logging.getLogger(__name__)

SAVEABLE = ("map", "mask", "overlay")
MASKS = ("flagged", "all")


def fitted_calibration(network: Calibrated) -> Calibration:
    """The network's calibration.

    Raises:
        InputError: the network is not calibrated.
    """
    calibration = network.calibration
    if not calibration.is_fitted:
        raise InputError(
            "the network is not calibrated, so it cannot decide",
            expected="a checkpoint with the scores of held-out normal cases",
            todo="train the bundle, or give a trained checkpoint as --ckpt_path",
        )
    return calibration


class ScoreAnomalyMapd(MapTransform):
    """Adds ``anomaly_score`` (float), ``p_value`` (0..1), ``alpha`` and ``is_anomalous`` (``p_value <= alpha``).

    Where the calibration has groups, a case is compared with those of its own, by the calibration's column of the list;
    where too few are of its group to flag any at alpha, with all, which is said once for each group.

    Also how far the decision can be trusted: ``calibrated_on``, the number of held-out normal scans behind the p-value,
    and ``can_flag``, whether they are enough for any scan to be flagged at this alpha.

    Args:
        network: has ``pool`` (map ``(B, 1, *spatial)`` to scores ``(B,)``) and ``calibration``.
        alpha: share of normal scans that may be flagged, between 0 and 1; may be set anew at any time.
        key: the map ``(1, *spatial)`` on the network's own grid, as it was calibrated.

    Raises:
        InputError: alpha is not between 0 and 1; the network is not calibrated; a map is not finite.
    """

    def __init__(self, network: Calibrated, alpha: float | str = 0.05, key: str = "pred") -> None:
        super().__init__(key)  # MONAI Deploy takes a chain for a dictionary's only by its first transform's type
        self.network, self.key = network, key
        self.alpha = alpha
        self._warned_alpha: float | None = None
        self._warned_groups: set[str] = set()

    @property
    def alpha(self) -> float:
        return self._alpha

    @alpha.setter
    def alpha(self, value: float | str) -> None:
        try:
            alpha = float(value)  # viewers hand options over as text
        except (TypeError, ValueError):
            alpha = math.nan
        if not 0 < alpha < 1:
            todo = "choose the share of normal scans that may be flagged, e.g. --alpha 0.05"
            raise InputError("alpha is out of range", expected="a number between 0 and 1", found=value, todo=todo)
        self._alpha = alpha

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        case = dict(data)
        calibration = fitted_calibration(self.network)
        self._warn_if_unreachable(calibration)
        anomaly_map: Tensor = case[self.key]
        score = float(self.network.pool(anomaly_map.detach().float()[None]))
        if not (math.isfinite(score) and bool(torch.isfinite(anomaly_map).all())):
            todo = "check that the training did not diverge and that --ckpt_path is the right file"
            raise InputError("the anomaly map is not finite", where=case.get("case_id"), todo=todo)
        group = self._group(case, calibration)
        p_value = calibration.p_value(score, group)
        case.update(anomaly_score=score, p_value=p_value, alpha=self.alpha, is_anomalous=p_value <= self.alpha)
        compared = calibration.reference_scores.numel() if group is None else calibration.group_size(group)
        case.update(calibrated_on=compared, can_flag=calibration.can_flag(self.alpha))
        return case

    def _group(self, case: Mapping[Hashable, Any], calibration: Calibration) -> str | None:
        """The group whose scores the case is compared with; None for all."""
        column = calibration.group_column
        if not column:
            return None
        group = str(case.get(column, ""))
        size, needed = calibration.group_size(group), calibration.cases_needed(self.alpha)
        if size >= needed:
            return group
        if group not in self._warned_groups:
            self._warned_groups.add(group)
            logger.warning(
                "%s %s has %d normal scans, too few for alpha %g (%d are needed): compared with all %d.",
                column,
                group or "(none)",
                size,
                self.alpha,
                needed,
                calibration.reference_scores.numel(),
            )
        return None

    def _warn_if_unreachable(self, calibration: Calibration) -> None:
        if calibration.can_flag(self.alpha) or self._warned_alpha == self.alpha:
            return
        self._warned_alpha = self.alpha
        logger.warning(
            "nothing can be flagged at alpha %g: calibrated on %d normal cases, which is enough for %.3g or more",
            self.alpha,
            calibration.reference_scores.numel(),
            calibration.smallest_alpha,
        )


class RestoreScanGridd(MapTransform):
    """Brings what lies on the network's grid ``(C, *network)`` back onto the scan's own ``(C, *scan)``, float32, CPU.

    The preprocessing of ``image_key`` is inverted with linear interpolation; the affine is the scan's own.

    Args:
        keys: what to restore.
        preprocessing: the very transform that made ``image_key``.
        image_key: the preprocessed scan, a MetaTensor that knows what was done to it.
        output_keys: where to put the results, by default in place.
    """

    def __init__(
        self,
        keys: str | Sequence[str],
        preprocessing: Compose,
        image_key: str = "image",
        output_keys: str | Sequence[str] | None = None,
    ) -> None:
        super().__init__(keys)
        self.image_key = image_key
        outputs = self.keys if output_keys is None else (output_keys,) if isinstance(output_keys, str) else output_keys
        if len(outputs) != len(self.keys):
            raise ValueError(f"as many output_keys as keys: got {len(outputs)} and {len(self.keys)}.")
        self.output_keys = tuple(outputs)
        self._invert = Invertd(
            "restored", transform=preprocessing, orig_keys=image_key, nearest_interp=False, device="cpu"
        )

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        case = dict(data)
        for key, output_key in zip(self.keys, self.output_keys, strict=True):
            # without its own history: Invertd writes the scan's history onto the tensor it is given
            values = torch.as_tensor(case[key]).detach().float()
            values = plain_tensor(values)
            inverted = self._invert({self.image_key: case[self.image_key], "restored": MetaTensor(values)})
            case[output_key] = inverted["restored"].contiguous()
        return case


class ThresholdAnomalyMapd(Transform):
    """Adds the mask (uint8, 1 where the map exceeds the case's threshold, see `Calibration.mask_threshold`).

    Args:
        network: has ``calibration``.
        masks: ``"flagged"`` leaves the mask of a case empty that is not flagged; ``"all"`` marks it too.
        pixel_alpha: share of normal pixels that may lie above a mask's lowest value; None takes the model's.
        key: the map to threshold.
        mask_keys: all names the mask gets. The default also replaces the network's raw output, because hosts
            (MONAI Label, Deploy) show what stands under the bundle's output name, and that must be on the scan's grid.
    """

    def __init__(
        self,
        network: Calibrated,
        key: str = "anomaly_map",
        mask_keys: Sequence[str] = ("anomaly_mask", "pred"),
        masks: str = "flagged",
        pixel_alpha: float | None = None,
    ) -> None:
        if pixel_alpha is not None and not (isinstance(pixel_alpha, (int, float)) and 0 < pixel_alpha < 1):
            expected, todo = "a number between 0 and 1", "leave it out, or choose e.g. --pixel_alpha 0.01"
            raise InputError("pixel_alpha is out of range", expected=expected, found=pixel_alpha, todo=todo)
        self.pixel_alpha = pixel_alpha
        if masks not in MASKS:
            todo = "correct --masks"
            raise InputError("unknown choice of masks", expected=" or ".join(MASKS), found=masks, todo=todo)
        self.network, self.key, self.mask_keys, self.masks = network, key, tuple(mask_keys), masks

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        case = dict(data)
        anomaly_map = case[self.key]
        threshold = self.threshold(float(anomaly_map.max()), case["alpha"])
        mask = (anomaly_map > threshold).to(torch.uint8)
        if self.masks == "flagged" and not case["is_anomalous"]:
            mask = torch.zeros_like(mask)
        case["pixel_threshold"] = threshold
        case.update(dict.fromkeys(self.mask_keys, mask))
        return case

    def threshold(self, peak: float, alpha: float) -> float:
        """Map value above which a case is marked whose map has this highest value."""
        return fitted_calibration(self.network).mask_threshold(peak, alpha, self.pixel_alpha)


class AnomalyPostprocessing(Compose):
    """Score, p-value and decision of a case, its map and mask on the scan's grid, and the files of it.

    A case comes with ``image`` (preprocessed) and ``pred`` (the map ``(1, *spatial)`` on the network's grid) and leaves
    with ``anomaly_score``, ``p_value``, ``alpha``, ``is_anomalous``, ``calibrated_on``, ``can_flag``, ``anomaly_map``
    (MetaTensor ``(1, *scan grid)``), ``pixel_threshold``, ``anomaly_mask`` (uint8, same grid; also under ``pred``),
    what the scan is like as `DescribeInputd` says, and the names of the files written.

    Args:
        preprocessing: the transform that made ``image``.
        network: has ``pool`` and ``calibration``; looked at when a case comes, so weights may be loaded later.
        alpha: share of normal scans that may be flagged; may be set anew at any time.
        output_dir: where to write; nothing is written when empty.
        save: which of ``map``, ``mask`` and ``overlay`` to write.
        masks: see `ThresholdAnomalyMapd`.
        pixel_alpha: see `ThresholdAnomalyMapd`.
        model: the file that the network comes from, so that a case knows it.

    Raises:
        InputError: alpha, ``save``, ``masks``, the calibration or the output folder cannot be used.

    Example:
        >>> from medad_plugins.data import ScanFormat, find_cases
        >>> from medad_plugins.networks import AnomalyNetwork
        >>> from medad_plugins.transforms import ScanPreprocessing
        >>> network, preprocessing = AnomalyNetwork(), ScanPreprocessing(ScanFormat(image_size=64))
        >>> network.calibration.fit(scores=torch.linspace(0, 0.5, 39), pixels=torch.rand(1000))
        >>> case = preprocessing(find_cases()[0])
        >>> case = AnomalyPostprocessing(preprocessing, network)(case | {"pred": case["image"]})
        >>> case["p_value"], case["is_anomalous"], tuple(case["anomaly_map"].shape)
        (0.025, True, (1, 128, 128))
    """

    def __init__(
        self,
        preprocessing: Compose,
        network: Calibrated,
        alpha: float | str = 0.05,
        output_dir: str | os.PathLike[str] | None = None,
        save: Sequence[str] = SAVEABLE,
        masks: str = "flagged",
        model: Hashed | None = None,
        pixel_alpha: float | None = None,
    ) -> None:
        wanted = {save} if isinstance(save, str) else set(save)
        if not wanted <= set(SAVEABLE):
            todo = "correct --save"
            raise InputError("unknown kind of output", expected=", ".join(SAVEABLE), found=sorted(wanted), todo=todo)
        self.preprocessing, self.network = preprocessing, network
        self._score = ScoreAnomalyMapd(network, alpha)
        self._mask = ThresholdAnomalyMapd(network, masks=masks, pixel_alpha=pixel_alpha)
        steps: list[Callable] = [
            self._score,
            RestoreScanGridd("pred", preprocessing, output_keys="anomaly_map"),
            self._mask,
            DescribeInputd(getattr(preprocessing, "scan", None), model),
        ]
        if output_dir:
            keys = [f"anomaly_{kind}" for kind in ("map", "mask") if kind in wanted]
            if keys:
                steps.append(SaveImageAnomalyd(keys, output_dir))
            if "overlay" in wanted:
                restore = RestoreScanGridd("image", preprocessing, output_keys="scan")
                steps.append(SaveImageOverlayd(restore, network, output_dir))
        super().__init__(steps)

    def __call__(self, input_: Any, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        try:
            return super().__call__(input_, *args, **kwargs)
        except RuntimeError as error:
            found = find_input_error(error)  # MONAI wraps whatever a transform raises
            if found is None:
                raise
            raise found from None

    @property
    def lowest_mask_value(self) -> float:
        """Map value below which nothing is marked in any case."""
        return self._mask.threshold(-math.inf, self.alpha)

    @property
    def alpha(self) -> float:
        """Share of normal scans that may be flagged."""
        return self._score.alpha

    @alpha.setter
    def alpha(self, value: float | str) -> None:
        self._score.alpha = value
