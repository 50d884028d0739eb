"""Reconstruction losses that are the mean of the map used for scoring."""

from __future__ import annotations

from torch import Tensor, nn

from medad_plugins.scorers import ResidualMap

__all__ = ["ResidualLoss"]


class ResidualLoss(nn.Module):
    """Mean of the residual map between a reconstruction and the scan: what is scored is what is trained.

    Args:
        residual: ``"l1"``, ``"l2"`` or ``"ssim"``, see `medad_plugins.scorers.residual_map`.
        difference: what makes the map in its place, a network's own module with the arguments reconstruction and image.

    Shape:
        two tensors ``(B, C, *spatial)``, intensities 0..1, to a scalar; or the pair ``(reconstruction, image)`` of them
        from a network whose engine gives no scan as the target.

    Example:
        >>> ResidualLoss("l2")(torch.full((2, 1, 8, 8), 0.75), torch.full((2, 1, 8, 8), 0.25))
        tensor(0.2500)
    """

    def __init__(self, residual: str = "l2", difference: nn.Module | None = None) -> None:
        super().__init__()
        self.difference = ResidualMap(residual) if difference is None else difference

    def forward(self, reconstruction: Tensor | tuple[Tensor, Tensor], image: Tensor | None = None) -> Tensor:
        if not isinstance(reconstruction, Tensor):
            reconstruction, image = reconstruction
        assert image is not None
        values: Tensor = self.difference(reconstruction, image)
        return values.mean()
