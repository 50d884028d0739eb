"""Plain convolutional autoencoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medad_plugins.networks.blocks.input_gradient import input_gradient
from medad_plugins.networks.blocks.perceptual import PerceptualResidual
from medad_plugins.networks.blocks.uncertain_residual import UncertainResidual
from medad_plugins.networks.families.judged_autoencoding import JudgedAutoencodingNetwork
from medad_plugins.networks.fitted.reconstruction_judge import VECTORS
from medad_plugins.scorers import RESIDUALS, ResidualMap

__all__ = ["ConvAE"]

MAPS = ("residual", "gradient")
SCORES = ("map", *VECTORS)
PERCEPTUAL = "perceptual"
UNCERTAINTY = "uncertainty"


class ConvAE(JudgedAutoencodingNetwork):
    """Autoencoder with a narrow bottleneck that rebuilds healthy anatomy only; the residual is the anomaly map.

    Args:
        spatial_dims, in_channels, image_size, channels, hidden_size, latent_size, reduction, bottleneck, mask_input:
            see `AutoencodingNetwork`. ``latent_size`` matters most (16, or 4 for chest radiographs);
            ``mask_input="one"`` is the context-encoding CeAE.
        residual: ``"l1"``, ``"l2"`` or ``"ssim"``, see `medad_plugins.scorers.residual_map`, or ``"perceptual"``, see
            `PerceptualResidual`, whose frozen backbone is then kept with the network; or ``"uncertainty"`` (AE-U): the
            decoder says how uncertain each pixel is, and squared residuals count in its variance, see
            `UncertainResidual`.
        map: ``"residual"``, or ``"gradient"``: the absolute gradient of the mean residual with respect to the scan.
        backbone: of the perceptual residual.
        weights: of that backbone.
        score: ``"map"``, the pooled map; or one of a `ReconstructionJudge`'s vectors, ``"pathway"`` (RaPP),
            ``"statistics"`` (after MUSE), ``"code"`` or ``"code_errors"`` (DAGMM), which are collected and fitted after
            the training: the map is then scaled so that it pools to the detector's score.
        detector: of those vectors, e.g. ``"mahalanobis"``, ``"gmm"``, ``"knn"``.

    References:
        Baur et al., "Autoencoders for unsupervised anomaly segmentation in brain MR images", MedIA 69, 2021; in the
        form of Cai et al., "MedIAnomaly", MedIA 102, 2025, whose variants the options are. AE-U: Mao et al.,
        "Abnormality detection in chest X-ray images using uncertainty prediction autoencoders", MICCAI 2020.

    Example:
        >>> network = ConvAE(image_size=32, channels=(8, 16), latent_size=4).eval()
        >>> image = torch.rand(2, 1, 32, 32)
        >>> network(image).shape, network.reconstruct(image).shape
        (torch.Size([2, 1, 32, 32]), torch.Size([2, 1, 32, 32]))
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        image_size: int | Sequence[int] = 64,
        channels: Sequence[int] = (16, 32, 64, 64),
        hidden_size: int = 1024,
        latent_size: int = 16,
        residual: str = "l2",
        reduction: str | float = "mean",
        bottleneck: str = "vector",
        mask_input: str = "none",
        map: str = "residual",
        backbone: str = "resnet18",
        weights: str = "none",
        score: str = "map",
        detector: str = "mahalanobis",
    ) -> None:
        if score not in SCORES:
            raise ValueError(f"score must be one of {SCORES}, got {score!r}.")
        if residual not in (*RESIDUALS, PERCEPTUAL, UNCERTAINTY):
            raise ValueError(f"residual must be one of {(*RESIDUALS, PERCEPTUAL, UNCERTAINTY)}, got {residual!r}.")
        if map not in MAPS:
            raise ValueError(f"map must be one of {MAPS}, got {map!r}.")
        super().__init__(
            spatial_dims,
            in_channels,
            image_size,
            score,
            detector,
            channels=channels,
            hidden_size=hidden_size,
            latent_size=latent_size,
            bottleneck=bottleneck,
            mask_input=mask_input,
            reduction=reduction,
            outputs=2 if residual == UNCERTAINTY else 1,
        )
        self.says_uncertainty = residual == UNCERTAINTY
        self.of_gradient = map == "gradient"
        self.difference: nn.Module = UncertainResidual()
        if residual == PERCEPTUAL:
            self.difference = PerceptualResidual(spatial_dims, in_channels, backbone, weights)
        elif residual != UNCERTAINTY:
            self.difference = ResidualMap(residual)

    def reconstruct(self, image: Tensor) -> Tensor:
        """The scan decoded from its latent, ``(B, C, *spatial)``, intensities about 0..1."""
        return self.decode(self.encode(image))

    def compared(self, image: Tensor) -> Tensor:
        """What is compared with the scan: its reconstruction, with uncertainty the logarithm of its variance behind.

        ``(B, C, *spatial)`` or ``(B, 2 * C, *spatial)``.
        """
        if not self.says_uncertainty:
            return self.reconstruct(image)
        both = self.decoder(self.expansion(self.encode(image)))
        # intensities about 0..1; the variance is that of residuals on -1..1, where the network works
        return torch.cat([(both[:, : self.in_channels] + 1) / 2, both[:, self.in_channels :]], 1)

    def training_output(self, image: Tensor) -> Tensor:
        """What is compared with the scan, from the masked scan: its target is the scan."""
        return self.compared(self.masked(image))

    def _residual(self, image: Tensor) -> Tensor:
        difference: Tensor = self.difference(self.compared(image), image)
        return difference

    def _gradient(self, image: Tensor) -> Tensor:
        return input_gradient(lambda scan: self._residual(scan).flatten(1).mean(1), image)

    def _plain_map(self, image: Tensor) -> Tensor:
        if self.of_gradient:
            if torch.jit.is_scripting():
                raise RuntimeError("a map of gradients cannot be computed by TorchScript")
            else:
                return self._gradient(image)
        return self._residual(image)

    def anomaly_map(self, image: Tensor) -> Tensor:
        """Residual between the scan and its reconstruction, averaged over channels, not negative; or its gradient.

        Scaled to the score of the detector where there is one; before that is fitted the residual is all there is.
        """
        return self.judged(image, self._plain_map(image))
