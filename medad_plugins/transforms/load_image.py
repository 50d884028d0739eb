"""Reading a scan of any format into a MetaTensor with the same few meta keys."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform

from medad_plugins.data.scan import PICTURE_AFFINE, Scan, stored_bits_of
from medad_plugins.data.scan_files import PICTURE_SUFFIXES, read_scan
from medad_plugins.errors import InputError

__all__ = ["LoadImageScan", "LoadImageScand"]

_NO_CHANNEL = float("nan")  # MONAI's mark for "no axis is channels"


class LoadImageScan(Transform):
    """Read the file or DICOM series at a path; a tensor or array that a host hands in passes through.

    Returns a float32 MetaTensor ``(*spatial)`` or ``(*spatial, C)`` in the file's own intensities, to be followed by
    MONAI's EnsureChannelFirst. ``meta`` holds ``affine``, ``original_affine`` (``(4, 4)``, mm, RAS), ``spatial_shape``,
    ``original_channel_dim``, ``filename_or_obj``, ``stored_bits`` (8 where intensities are 0..255 as stored),
    ``has_geometry`` (whether the file says where it lies) and
    MONAI's ``space``, for every format, and nothing else of a file's header.

    Args:
        spatial_dims: 2 or 3; tells whether a tensor without meta data has a (first) channel axis. One in 2D without
            geometry is taken for a picture, columns first.

    Raises:
        InputError: the scan does not exist or cannot be read.
    """

    def __init__(self, spatial_dims: int = 2) -> None:
        self.spatial_dims = spatial_dims

    def __call__(self, scan: str | Path | torch.Tensor | np.ndarray) -> MetaTensor:
        if isinstance(scan, (torch.Tensor, np.ndarray)):
            return self._from_host(scan)
        if not isinstance(scan, (str, Path)):
            expected = "a path, a tensor or an array"
            raise InputError("a case's image is of the wrong type", expected=expected, found=type(scan).__name__)
        if not str(scan):  # as a path it would be the working folder, whatever series lies there
            raise InputError("a case has no image", expected="a path", found="an empty one", todo="give a scan")
        read = read_scan(Path(scan))
        return _meta_tensor(read, -1 if read.has_channels else _NO_CHANNEL, scan)

    def _from_host(self, image: torch.Tensor | np.ndarray) -> MetaTensor:
        array = image.detach().cpu().numpy() if isinstance(image, torch.Tensor) else image
        meta = dict(image.meta) if isinstance(image, MetaTensor) else {}
        channel_dim = meta.get("original_channel_dim", 0 if array.ndim > self.spatial_dims else _NO_CHANNEL)
        has_channels = not isinstance(channel_dim, str) and not np.isnan(float(channel_dim))
        if not has_channels:
            channel_dim = _NO_CHANNEL
        affine = np.eye(4)
        if "affine" in meta:
            given = np.asarray(meta["affine"], dtype=np.float64)
            size = len(given) - 1
            affine[:size, :size], affine[:size, 3] = given[:-1, :-1], given[:-1, -1]
        name = str(meta.get("filename_or_obj", ""))
        is_placed = bool(meta.get("has_geometry", not np.array_equal(affine, np.eye(4))))
        if self.spatial_dims == 2 and np.array_equal(affine, np.eye(4)) and _says_no_geometry(name):
            affine = PICTURE_AFFINE.copy()
        bits = int(meta.get("stored_bits", stored_bits_of(array.dtype)))
        return _meta_tensor(Scan(array, affine, bits, has_channels, is_placed), channel_dim, name)


def _says_no_geometry(name: str) -> bool:
    """Whether an array that a host read has the identity as affine for want of another: a picture, or of no file."""
    return not name or name.lower().endswith(PICTURE_SUFFIXES)


def _meta_tensor(scan: Scan, channel_dim: float, name: object) -> MetaTensor:
    shape = list(scan.array.shape)
    if scan.has_channels:
        del shape[int(channel_dim)]
    meta = {
        "affine": torch.as_tensor(scan.affine, dtype=torch.float64),
        "original_affine": torch.as_tensor(scan.affine, dtype=torch.float64).clone(),
        "spatial_shape": np.array(shape, dtype=np.int64),
        "original_channel_dim": float(channel_dim),
        "filename_or_obj": str(name),
        "stored_bits": scan.stored_bits,
        "has_geometry": scan.has_geometry,
    }
    # always a copy, so that nothing downstream can change a host's array; that of an image stays row by row as it is
    # read, which is how it will stand
    order: Literal["K", "C"] = "K" if len(shape) == 2 else "C"
    return MetaTensor(torch.from_numpy(np.array(scan.array, dtype=np.float32, order=order)), meta=meta)


class LoadImageScand(MapTransform):
    """Dictionary version of `LoadImageScan`.

    Args:
        keys: keys of the paths, tensors or arrays.
        spatial_dims: 2 or 3.
        allow_missing_keys: do not fail where a key is absent.
    """

    def __init__(self, keys: KeysCollection = "image", spatial_dims: int = 2, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.load = LoadImageScan(spatial_dims)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.load(result[key])
        return result
