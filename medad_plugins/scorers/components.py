"""Connected components of masks."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

__all__ = ["without_small_components"]


def without_small_components(mask: Tensor, smallest: int) -> Tensor:
    """Masks without the connected components that are too small to be anything.

    Places are connected along axes and diagonals. Computed on the processor.

    Args:
        mask: ``(B, 1, *spatial)``, booleans.
        smallest: places that a component must have.

    Returns:
        booleans of the same shape.

    Example:
        >>> mask = torch.tensor([[True, False, True], [False, False, True]])[None, None]
        >>> without_small_components(mask, 2).int()
        tensor([[[[0, 0, 1],
                  [0, 0, 1]]]], dtype=torch.int32)
    """
    if smallest <= 1:
        return mask
    kept = []
    for case in mask[:, 0].cpu().numpy():
        labels, _ = ndimage.label(case, structure=np.ones([3] * case.ndim))
        large = np.bincount(labels.ravel()) >= smallest
        large[0] = False
        kept.append(torch.from_numpy(large[labels]))
    return torch.stack(kept)[:, None].to(mask.device)
