"""What a scan was like to the network, and by what it was judged: figures that later runs are compared by."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Mapping
from dataclasses import asdict
from typing import Any, Protocol

import numpy as np
import torch
from monai.transforms import MapTransform

from medad_plugins.data.scan_format import ScanFormat

__all__ = ["DescribeInputd", "Hashed", "input_figures"]

_DIGITS = 12  # of a hash


class Hashed(Protocol):
    """A model file that knows its hash."""

    @property
    def sha256(self) -> str:
        """Hexadecimal digits."""


def input_figures(image: torch.Tensor) -> tuple[float, float]:
    """Mean and standard deviation of a scan ``(C, *spatial)`` as the network sees it, intensities 0..1.

    Example:
        >>> input_figures(torch.tensor([[[0.0, 1.0], [0.0, 1.0]]]))
        (0.5, 0.5)
    """
    values = image.detach().double()
    return float(values.mean()), float(values.std(correction=0))


class DescribeInputd(MapTransform):
    """Adds what monitoring needs and nothing of the patient.

    ``input_mean`` and ``input_spread`` (see `input_figures`), ``input_size`` and ``input_spacing`` (of the scan's own
    grid, e.g. ``256x256``; spacing in mm, empty where the file does not say), ``model_hash`` and ``settings_hash`` (the
    first 12 digits of the SHA-256 of the model, see `ModelFile`, and of how scans come to the network).

    Args:
        scan: how scans come to the network; None where that is not known.
        model: where the network comes from; None where it comes from no file.
        key: the preprocessed scan, which knows the size that it had.
    """

    def __init__(self, scan: ScanFormat | None = None, model: Hashed | None = None, key: str = "image") -> None:
        super().__init__(key)
        self.key, self.model = key, model
        text = "" if scan is None else json.dumps(asdict(scan), sort_keys=True, default=list)
        self.settings_hash = hashlib.sha256(text.encode()).hexdigest()[:_DIGITS] if text else ""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        case = dict(data)
        image = case[self.key]
        mean, spread = input_figures(image)
        meta: Mapping[str, Any] = getattr(image, "meta", {})
        size = [int(edge) for edge in meta.get("spatial_shape", ())]
        case.update(
            input_mean=mean,
            input_spread=spread,
            input_size="x".join(map(str, size)),
            input_spacing=_spacing(meta, len(size)),
            model_hash="" if self.model is None else self.model.sha256[:_DIGITS],
            settings_hash=self.settings_hash,
        )
        return case


def _spacing(meta: Mapping[str, Any], dims: int) -> str:
    if "original_affine" not in meta or not meta.get("has_geometry", True):
        return ""
    lengths = np.linalg.norm(np.asarray(meta["original_affine"], dtype=np.float64)[:3, :dims], axis=0)
    return "x".join(f"{length:.3g}" for length in lengths)
