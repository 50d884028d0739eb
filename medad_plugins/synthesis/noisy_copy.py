"""A scan beside a copy of it with simplex noise in a box."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform

from medad_plugins.synthesis.simplex_noise import fractal_noise

__all__ = ["NoisyCopyd"]


class NoisyCopyd(RandomizableTransform, MapTransform):
    """Join to a scan, along the channels, a copy with simplex noise added in one random box.

    In one tensor, so that whatever happens to the scan afterwards, e.g. cutting it into slices, happens to both. The
    copy is not clipped. Boxes and noise grow with the scan: by default the sides are 10 to 31 and the first octave's
    period is 32 of 256.

    Args:
        keys: keys of the scans, each ``(C, *spatial)``.
        strength: factor of the noise, see `fractal_noise`.
        sides: shortest side of the box, and the one it stays below, in fractions of the scan's.
        period: of the noise's first octave, in fractions of the scan's longest side.
        whole_axis: spatial axis along which the box takes all, for slices along it; ``"all"`` draws one, for slices
            along all; None takes none whole.

    Shape:
        ``(C, *spatial)`` to ``(2 * C, *spatial)``.

    Reference:
        Tien et al., "Revisiting Reverse Distillation for Anomaly Detection", CVPR 2023.
    """

    def __init__(
        self,
        keys: KeysCollection = "image",
        strength: float = 0.2,
        sides: tuple[float, float] = (10 / 256, 32 / 256),
        period: float = 32 / 256,
        whole_axis: int | str | None = None,
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, 1.0)
        if not 0 < sides[0] <= sides[1] <= 1:
            raise ValueError(f"sides must be ascending fractions of the scan's, got {sides}.")
        self.strength, self.sides, self.period, self.whole_axis = strength, sides, period, whole_axis

    def _box(self, spatial: Sequence[int]) -> tuple[slice, ...]:
        box = []
        whole = self.R.randint(len(spatial)) if isinstance(self.whole_axis, str) else self.whole_axis
        for axis, edge in enumerate(spatial):
            if axis == whole:
                box.append(slice(0, edge))
                continue
            least = max(1, round(self.sides[0] * edge))
            side = self.R.randint(least, max(least + 1, round(self.sides[1] * edge)))
            start = self.R.randint(0, edge - side + 1)
            box.append(slice(start, start + side))
        return tuple(box)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            image = result[key]
            box = (slice(None), *self._box(image.shape[1:]))
            noisy = image.clone()
            noise = fractal_noise(self.R, noisy[box].shape, period=self.period * max(image.shape[1:]))
            noisy[box] += self.strength * torch.from_numpy(noise)
            result[key] = torch.cat([image, noisy])
        return result
