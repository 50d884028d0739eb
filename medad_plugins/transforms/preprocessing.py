"""From a path to what a network takes (checked, oriented, scaled, resized), and back again by MONAI's Invertd."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import (
    CenterScaleCropd,
    Compose,
    CropForegroundd,
    EnsureChannelFirstd,
    MapTransform,
    Orientationd,
)
from monai.utils import ensure_tuple

from medad_plugins.data.scan_format import ScanFormat
from medad_plugins.data.upright import UPRIGHT_SLICES
from medad_plugins.errors import InputError, find_input_error
from medad_plugins.transforms.check_contrast import CheckContrastd
from medad_plugins.transforms.check_scan import CheckScand
from medad_plugins.transforms.equalize import EqualizeScand
from medad_plugins.transforms.load_image import LoadImageScand
from medad_plugins.transforms.scale_intensity import ScaleScanIntensityd
from medad_plugins.transforms.scan_values import with_values
from medad_plugins.transforms.shrink import SmoothResized
from medad_plugins.transforms.spacing import SmoothSpacingd
from medad_plugins.transforms.tiles import RandScanTiled
from medad_plugins.transforms.upright import UprightScand

__all__ = ["RepeatGreyd", "ScanPreprocessing"]


_RAS_LABELS = (("L", "R"), ("P", "A"), ("I", "S"))
_FOREGROUND = 0.1  # of the highest intensity
_DEFAULT = ScanFormat()


class RepeatGreyd(MapTransform):
    """Repeat a single channel ``in_channels`` times; images with that many channels pass."""

    def __init__(self, keys: KeysCollection, in_channels: int) -> None:
        super().__init__(keys)
        self.in_channels = in_channels

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            image: MetaTensor = result[key]
            if len(image) != self.in_channels:
                repeats = (self.in_channels,) + (1,) * (image.ndim - 1)
                result[key] = with_values(image, image.as_tensor().repeat(repeats))
        return result


def _is_foreground(image: torch.Tensor) -> torch.Tensor:
    return image > _FOREGROUND * image.max()


class ScanPreprocessing(Compose):
    """Everything between a case's path and the network, the same for every format and invertible for predictions.

    Gives a float32 MetaTensor ``(in_channels, *image_size)`` with intensities 0..1, or where the format has a spacing
    ``(in_channels, *spatial)``, of whatever size a scan has at it. Volumes are oriented to RAS; what a
    2D network sees, an image or a slice of a volume, is ``(rows, columns)`` as a radiologist sees it, see
    `medad_plugins.data.upright_turn`.
    ``Invertd(keys="pred", transform=preprocessing, orig_keys="image", nearest_interp=False)`` brings a map back onto
    the scan's own grid and affine.

    Args:
        scan: the grid, channels and intensities in which scans reach the network, or the first of these values.
        more: the other values, where ``scan`` is the first: ``ScanPreprocessing(2, 64, 1)``.
        keys: key or keys of the paths.
        min_size: fewest voxels a scan may have along an axis.

    Attributes:
        training_tiles: random transform that draws a tile of a prepared case, for a network that looks at tiles, which
            `medad_plugins.data.cached_dataset` applies after all else; None where scans are looked at whole.

    Raises:
        InputError: an option or a scan that cannot be used; see `CheckScand` and `medad_plugins.data.read_scan`.

    Example:
        >>> from medad_plugins.data import ScanFormat, sample_cohort
        >>> preprocessing = ScanPreprocessing(ScanFormat(image_size=64))
        >>> path = sorted((sample_cohort(2) / "images").iterdir())[0]
        >>> tuple(preprocessing({"image": path})["image"].shape)
        (1, 64, 64)
    """

    def __init__(
        self, scan: ScanFormat | int = _DEFAULT, *more: Any, keys: KeysCollection = "image", min_size: int = 8
    ) -> None:
        scan = scan if isinstance(scan, ScanFormat) else ScanFormat(scan, *more)
        self.scan = scan
        spatial_dims, in_channels = scan.spatial_dims, scan.in_channels
        self.training_tiles = None if scan.tiles is None else RandScanTiled(scan.edges)
        transforms: list[Any] = [
            LoadImageScand(keys, spatial_dims),
            EnsureChannelFirstd(keys),
            CheckScand(keys, spatial_dims, in_channels, min_size),
        ]
        is_upright = scan.orientation == "upright"
        if spatial_dims == 3:
            # what is cut along all axes is turned slice by slice
            axes = UPRIGHT_SLICES[scan.slice_axis] if is_upright and isinstance(scan.slice_axis, int) else "RAS"
            transforms.append(Orientationd(keys, axcodes=axes, labels=_RAS_LABELS))
        elif is_upright:
            transforms.append(UprightScand(keys))
        transforms.append(ScaleScanIntensityd(keys, scan.intensity))
        transforms += _crops(keys, scan.crop)
        mode = "bilinear" if spatial_dims == 2 else "trilinear"
        steps = scan.steps
        resize = SmoothResized(keys, scan.whole_edges, mode) if steps is None else SmoothSpacingd(keys, steps, mode)
        transforms += [resize, CheckContrastd(keys)]
        if scan.equalize:
            transforms.append(EqualizeScand(keys))
        if in_channels == 3:
            transforms.append(RepeatGreyd(keys, in_channels))
        super().__init__(transforms)

    def __call__(self, input_: Any, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        try:
            return super().__call__(input_, *args, **kwargs)
        except RuntimeError as error:
            # MONAI wraps whatever a transform raises; the sentence for the user lies at the bottom
            found = find_input_error(error)
            if found is None:
                raise
            raise found from None


def _crops(keys: KeysCollection, crop: str | float | None) -> list[MapTransform]:
    if crop is None:
        return []
    if crop == "foreground":
        names = [str(key) for key in ensure_tuple(keys)]
        return [CropForegroundd(name, name, select_fn=_is_foreground, allow_smaller=True) for name in names]
    if isinstance(crop, (int, float)) and 0 < crop <= 1:
        return [CenterScaleCropd(keys, roi_scale=float(crop))]
    raise InputError("unknown crop", where="crop", expected="foreground, or a part of 0 to 1", found=crop)
