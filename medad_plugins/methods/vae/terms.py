"""Terms of a variational autoencoder's loss."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from medad_plugins.losses.full_precision import full_precision
from medad_plugins.losses.latent import gaussian_divergence
from medad_plugins.methods.vae.network import VAE

__all__ = ["VariationalTerms"]


class VariationalTerms:
    """Reconstruction error and divergence of the latent, and the reconstruction error of masked scans, for a phase.

    Terms: ``reconstruction`` and ``divergence``, where scans are masked also ``context``, the error of the whole scan
    rebuilt from the mean latent of its masked copy, and of a network with a background ``background`` and
    ``background_divergence``, its own two. Residuals are on -1..1, where the network works.

    Args:
        residual: ``"l2"`` squared or ``"l1"`` absolute differences.
        reduction: ``"mean"``: means over pixels and over latent values, where a weight of the divergence of 0.005 is
            usual; ``"sum"``: half the squared (or the absolute) differences and the divergence summed over each case,
            the evidence bound, whose weights are 1.
    """

    def __init__(self, residual: str = "l2", reduction: str = "mean") -> None:
        if residual not in ("l1", "l2") or reduction not in ("mean", "sum"):
            raise ValueError(f"residual is 'l1' or 'l2', reduction 'mean' or 'sum'; got {residual!r}, {reduction!r}.")
        self.residual, self.reduction = residual, reduction

    def __call__(self, network: VAE, batch: dict[str, Any]) -> dict[str, Tensor]:
        image = batch["image"]
        reconstruction, mean, log_variance = network.training_output(image)
        terms = {
            "reconstruction": self._reconstruction_error(reconstruction, image),
            "divergence": gaussian_divergence(mean, log_variance, self.reduction),
        }
        if network.mask_input != "none":
            terms["context"] = self._reconstruction_error(network.fill_in(image), image)
        if network.has_background:
            damaged = network.background.damaged(image)
            rebuilt, mean, log_variance = network.background.drawn(damaged)
            terms["background"] = self._reconstruction_error(rebuilt, damaged)
            terms["background_divergence"] = gaussian_divergence(mean, log_variance, self.reduction)
        return terms

    def _reconstruction_error(self, reconstruction: Tensor, image: Tensor) -> Tensor:
        difference = 2 * full_precision(reconstruction - image)
        values = difference.abs() if self.residual == "l1" else difference.square()
        if self.reduction == "mean":
            return values.mean()
        return values.flatten(1).sum(1).mean() * (0.5 if self.residual == "l2" else 1.0)
