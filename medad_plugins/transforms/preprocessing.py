"""From a path to what a network takes (checked, oriented, scaled, resized), and back again by MONAI's Invertd."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
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
    Resized,
)
from monai.transforms.inverse import InvertibleTransform
from monai.utils import TraceKeys, ensure_tuple
from scipy.ndimage import gaussian_filter1d

from medad_plugins.data.scan import stored_bits_of
from medad_plugins.errors import InputError, find_input_error
from medad_plugins.plain_tensor import plain_tensor
from medad_plugins.transforms.equalize import EqualizeScand
from medad_plugins.transforms.load_image import LoadImageScand

__all__ = ["AntiAliasd", "CheckScand", "RepeatGreyd", "ScaleScanIntensityd", "ScanPreprocessing"]

_RAS_LABELS = (("L", "R"), ("P", "A"), ("I", "S"))
_PERCENTILES = (0.5, 99.5)
_FOREGROUND = 0.1  # of the highest intensity


class CheckScand(MapTransform, InvertibleTransform):
    """Refuse scans that cannot give a meaningful map.

    Takes ``(C, *spatial)``, gives a float32 MetaTensor ``(in_channels, *spatial)``, or ``(1, *spatial)`` where a grey
    scan is to be repeated for three channels (see `RepeatGreyd`); three equal channels are taken as grey for one.
    Its inverse sets the scan's own affine, free of the rounding that other inverses leave.

    Args:
        keys: keys of the images.
        spatial_dims: 2 or 3.
        in_channels: channels the network takes.
        min_size: fewest voxels along any axis.

    Raises:
        InputError: wrong number of axes or channels, too thin, NaN or infinite voxels, or one value everywhere.
    """

    def __init__(
        self, keys: KeysCollection = "image", spatial_dims: int = 2, in_channels: int = 1, min_size: int = 8
    ) -> None:
        super().__init__(keys)
        self.spatial_dims, self.in_channels, self.min_size = spatial_dims, in_channels, min_size

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            image = result[key]
            meta = dict(image.meta) if isinstance(image, MetaTensor) else {}
            where = meta.get("filename_or_obj") or data.get("case_id")
            values = torch.as_tensor(plain_tensor(image))
            # readers of hosts do not say how intensities were stored
            meta.setdefault("stored_bits", 8 if values.dtype == torch.uint8 else stored_bits_of(np.dtype(np.float32)))
            values = values.to("cpu", torch.float32)
            self._check_shape(tuple(values.shape[1:]), where)
            _check_values(values, where)
            values = self._adapt_channels(values, where)
            operations = list(getattr(image, "applied_operations", []))
            checked = MetaTensor(values, meta=meta, applied_operations=operations, spatial_ndim=self.spatial_dims)
            self.push_transform(checked, extra_info={"affine": checked.affine})
            result[key] = checked
        return result

    def inverse(self, data: Any) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            transform = self.pop_transform(result[key])
            result[key].affine = transform[TraceKeys.EXTRA_INFO]["affine"]
            result[key].spatial_ndim = self.spatial_dims
        return result

    def _check_shape(self, shape: tuple[int, ...], where: object) -> None:
        found = " x ".join(str(size) for size in shape)
        if len(shape) != self.spatial_dims:
            kinds = {2: "a 2D image", 3: "a volume"}
            raise InputError(
                "the scan has the wrong number of axes",
                where=where,
                expected=kinds[self.spatial_dims],
                found=f"{kinds.get(len(shape), f'{len(shape)} axes')} of {found}",
                todo=f"set --spatial_dims {len(shape)}" if len(shape) in kinds else "convert it",
            )
        if min(shape) < self.min_size:
            expected = f"at least {self.min_size} voxels along every axis"
            raise InputError("the scan is too thin", where=where, expected=expected, found=found, todo="leave it out")

    def _adapt_channels(self, values: torch.Tensor, where: object) -> torch.Tensor:
        channels = len(values)
        if channels == self.in_channels or (channels == 1 and self.in_channels == 3):
            return values
        if self.in_channels == 1 and channels == 3 and all(torch.equal(values[0], other) for other in values[1:]):
            return values[:1]
        raise InputError(
            "the scan has the wrong number of channels",
            where=where,
            expected=self.in_channels,
            found=channels,
            todo=f"set --in_channels {channels} and train with it, or convert the scan",
        )


def _check_values(values: torch.Tensor, where: object) -> None:
    low, high = (bound.item() for bound in torch.aminmax(values))
    if not np.isfinite(low) or not np.isfinite(high):
        count = int((~torch.isfinite(values)).sum())
        found = f"{count} of {values.numel()}"
        todo = "replace them, e.g. with `fslmaths in -nan out`"
        raise InputError("the scan has NaN or infinite voxels", where=where, expected="none", found=found, todo=todo)
    if low == high:
        todo = "leave it out, or export it again"
        raise InputError("the scan has the same value everywhere", where=where, found=f"{low:g}", todo=todo)


class ScaleScanIntensityd(MapTransform):
    """Scale intensities to 0..1, float32.

    Args:
        keys: keys of the images, MetaTensors ``(C, *spatial)``.
        intensity: ``"auto"`` divides by 255 where ``meta["stored_bits"]`` is 8 and otherwise does as ``"percentile"``:
            every channel's 0.5th and 99.5th percentile become 0 and 1, clipped. ``(low, high)`` is a fixed window,
            clipped, e.g. in HU.

    Raises:
        InputError: an unknown ``intensity``.
    """

    def __init__(self, keys: KeysCollection = "image", intensity: str | Sequence[float] = "auto") -> None:
        super().__init__(keys)
        self.window: tuple[float, float] | None = None
        self.force_percentile = intensity == "percentile"
        if isinstance(intensity, str):
            is_valid = intensity in ("auto", "percentile")
        else:
            is_valid = len(intensity) == 2 and intensity[0] < intensity[1]
        if not is_valid:
            expected = "auto, percentile or a window [low, high]"
            raise InputError("unknown intensity scaling", where="intensity", expected=expected, found=intensity)
        if not isinstance(intensity, str):
            self.window = (float(intensity[0]), float(intensity[1]))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            image: MetaTensor = result[key]
            scaled = self._scale(image.as_tensor(), int(image.meta.get("stored_bits", 32)))
            result[key] = _with_values(image, scaled)
        return result

    def _scale(self, values: torch.Tensor, stored_bits: int) -> torch.Tensor:
        if self.window is not None:
            return _to_unit_range(values, *self.window)
        if stored_bits == 8 and not self.force_percentile:
            return values / 255.0
        return torch.stack([_percentiles_to_unit_range(channel) for channel in values])


def _to_unit_range(values: torch.Tensor, low: float, high: float) -> torch.Tensor:
    return ((values - low) / (high - low)).clamp_(0.0, 1.0)


def _percentiles_to_unit_range(channel: torch.Tensor) -> torch.Tensor:
    low, high = (float(bound) for bound in np.percentile(channel.numpy(), _PERCENTILES))
    if low == high:  # nearly everything is background
        low, high = (bound.item() for bound in torch.aminmax(channel))
    return _to_unit_range(channel, low, high) if low < high else torch.zeros_like(channel)


class AntiAliasd(MapTransform):
    """Smooth along the axes that are about to shrink, as scikit-image's ``resize`` does: sigma (factor - 1) / 2.

    MONAI's own option pads with zeros, which darkens the borders (by a fifth at factor 4), and takes many times longer.

    Args:
        keys: keys of the images, MetaTensors ``(C, *spatial)``.
        size: the size they will be resized to.
    """

    def __init__(self, keys: KeysCollection, size: Sequence[int]) -> None:
        super().__init__(keys)
        self.size = tuple(size)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            image: MetaTensor = result[key]
            values = image.as_tensor().numpy()
            for axis, (now, then) in enumerate(zip(image.shape[1:], self.size, strict=True), start=1):
                if now > then:
                    values = gaussian_filter1d(values, sigma=(now / then - 1) / 2, axis=axis, mode="nearest")
            result[key] = _with_values(image, torch.from_numpy(values))
        return result


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
                result[key] = _with_values(image, image.as_tensor().repeat(repeats))
        return result


def _with_values(image: MetaTensor, values: torch.Tensor) -> MetaTensor:
    return MetaTensor(
        values, meta=image.meta, applied_operations=image.applied_operations, spatial_ndim=image.spatial_ndim
    )


def _is_foreground(image: torch.Tensor) -> torch.Tensor:
    return image > _FOREGROUND * image.max()


class ScanPreprocessing(Compose):
    """Everything between a case's path and the network, the same for every format and invertible for predictions.

    Gives a float32 MetaTensor ``(in_channels, *image_size)`` with intensities 0..1; volumes are oriented to RAS.
    ``Invertd(keys="pred", transform=preprocessing, orig_keys="image", nearest_interp=False)`` brings a map back onto
    the scan's own grid and affine.

    Args:
        spatial_dims: 2 or 3.
        image_size: voxels along every axis, one number or one per axis.
        in_channels: channels the network takes.
        keys: key or keys of the paths.
        intensity: see `ScaleScanIntensityd`.
        crop: before resizing, cut to the bounding box of the foreground (``"foreground"``: above a tenth of the
            highest intensity) or to this part of every axis about the centre (e.g. 0.875); a restored map is 0 outside.
        min_size: fewest voxels a scan may have along an axis.
        equalize: give the foreground an even histogram, see `medad_plugins.transforms.EqualizeScand`.

    Raises:
        InputError: an option or a scan that cannot be used; see `CheckScand` and `medad_plugins.data.read_scan`.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        image_size: int | Sequence[int] = 256,
        in_channels: int = 1,
        keys: KeysCollection = "image",
        intensity: str | Sequence[float] = "auto",
        crop: str | float | None = None,
        min_size: int = 8,
        equalize: bool = False,
    ) -> None:
        size = (image_size,) * spatial_dims if isinstance(image_size, int) else tuple(image_size)
        if spatial_dims not in (2, 3):
            raise InputError(
                "wrong number of spatial axes", where="spatial_dims", expected="2 or 3", found=spatial_dims
            )
        if len(size) != spatial_dims or min(size) < 1:
            expected = f"one positive number or {spatial_dims} of them"
            raise InputError("wrong image size", where="image_size", expected=expected, found=image_size)
        transforms: list[Any] = [
            LoadImageScand(keys, spatial_dims),
            EnsureChannelFirstd(keys),
            CheckScand(keys, spatial_dims, in_channels, min_size),
        ]
        if spatial_dims == 3:
            transforms.append(Orientationd(keys, axcodes="RAS", labels=_RAS_LABELS))
        transforms.append(ScaleScanIntensityd(keys, intensity))
        transforms += _crops(keys, crop)
        mode = "bilinear" if spatial_dims == 2 else "trilinear"
        transforms += [AntiAliasd(keys, size), Resized(keys, spatial_size=size, mode=mode)]
        if equalize:
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
