"""Turns 2D scans so that a network sees them as radiologists do."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.transforms.inverse import InvertibleTransform
from monai.utils import TraceKeys

from medad_plugins.data.upright import UprightTurn, upright_turn
from medad_plugins.transforms.scan_values import with_values

__all__ = ["UprightScand"]


class UprightScand(MapTransform, InvertibleTransform):
    """Turn 2D scans ``(C, *stored axes)`` to ``(C, rows, columns)`` as a radiologist sees them; invertible.

    The rule is `medad_plugins.data.upright_turn`; the affine is kept right.

    Args:
        keys: keys of the images, MetaTensors.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            image: MetaTensor = result[key]
            affine = np.asarray(image.affine, dtype=np.float64)
            turn = upright_turn(affine)
            values = image.as_tensor()
            values = values.transpose(1, 2) if turn.transposes else values
            if turn.flips:
                values = values.flip([1 + axis for axis in turn.flips])
            turned = with_values(image, values.contiguous())
            turned.meta = {**image.meta}
            if len(affine) == 4:
                turned.affine = torch.from_numpy(affine @ turn.matrix((image.shape[1], image.shape[2])))
            turned.spatial_ndim = 2
            self.push_transform(turned, extra_info=turn._asdict())
            result[key] = turned
        return result

    def inverse(self, data: Any) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            turn = UprightTurn(**self.pop_transform(result[key])[TraceKeys.EXTRA_INFO])
            values = result[key].as_tensor()
            if turn.flips:
                values = values.flip([1 + axis for axis in turn.flips])
            result[key] = with_values(result[key], values.transpose(1, 2) if turn.transposes else values)
        return result
