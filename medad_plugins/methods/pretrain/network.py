"""An encoder that learns from unlabelled normal scans, for methods that want features and have no weights for them."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from medad_plugins.errors import InputError
from medad_plugins.methods.pretrain.enlarged_objectives import CCD, DROC
from medad_plugins.methods.pretrain.objectives import BYOL, MoCo, Objective, SimCLR, SimSiam
from medad_plugins.methods.pretrain.part_objectives import CPC, DIM
from medad_plugins.networks.families.feature_gaussian import FeatureGaussian
from medad_plugins.networks.fitted.kernel_density import KernelDensityHead
from medad_plugins.networks.fitted.vector_detector import VectorDetector
from medad_plugins.networks.fitted.vector_preparation import VectorPreparation

__all__ = ["OBJECTIVES", "Pretrain", "pretrain_terms"]

OBJECTIVES = ("simclr", "moco", "byol", "simsiam", "dim", "cpc", "droc", "ccd")


class Pretrain(FeatureGaussian):
    """A ResNet that learns its features from the scans at hand, and the Gaussian of these features of normal scans.

    Its encoder is what other methods take as ``--weights``: the names of its tensors are torchvision's, see
    `medad_plugins.handlers.SaveBackbone`. By itself it is a plain detector, that of `FeatureGaussian`.

    Args:
        spatial_dims, in_channels, backbone, weights, stages: see `FeatureGaussian`; weights to start from.
        objective: what is learnt: ``"simclr"``, ``"moco"``, ``"byol"``, ``"simsiam"``, ``"dim"``, ``"cpc"``,
            ``"droc"`` or ``"ccd"``.
        detector: of the averaged features, brought to length one: ``"gaussian"``, see `FeatureGaussian`, or ``"kde"``,
            kernels of ten times the usual gamma (DROC), whose map is by the direction in which that score grows.
        hidden, dimensions: widths of the heads that are thrown away.
        head_layers: hidden layers of that of ``droc``.
        temperature: of ``simclr``, ``moco``, ``cpc``, ``droc`` and ``ccd``.
        decay: of the copy that follows, of ``moco`` and ``byol``.
        queue: keys that ``moco`` keeps.
        patches: along each axis, of ``cpc``.
        encoder_norm, norm_momentum, sigma, reduction: see `FeatureGaussian`.

    Raises:
        InputError: there is no such objective.

    Example:
        >>> import torch
        >>> network = Pretrain(2, 1, "resnet10", stages=3, objective="simsiam", hidden=16, dimensions=8)
        >>> list(network.train()(torch.rand(8, 1, 32, 32)))
        ['prediction']
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        backbone: str = "resnet18",
        weights: str = "none",
        stages: int = 4,
        objective: str = "simclr",
        detector: str = "gaussian",
        hidden: int = 512,
        dimensions: int = 128,
        head_layers: int = 8,
        temperature: float = 0.2,
        decay: float = 0.99,
        queue: int = 1024,
        patches: int = 3,
        encoder_norm: str = "train",
        norm_momentum: float = 0.1,
        sigma: float = 4.0,
        reduction: str | float = "mean",
    ) -> None:
        super().__init__(
            spatial_dims,
            in_channels,
            backbone,
            weights,
            stages=stages,
            encoder_norm=encoder_norm,
            norm_momentum=norm_momentum,
            sigma=sigma,
            reduction=reduction,
        )
        if objective not in OBJECTIVES:
            expected = f"one of {', '.join(OBJECTIVES)}"
            raise InputError("there is no such objective", where="objective", expected=expected, found=objective)
        if detector not in ("gaussian", "kde"):
            raise ValueError(f"detector must be 'gaussian' or 'kde', got {detector!r}.")
        self.by_density = detector == "kde"
        self.density: Any = VectorDetector(VectorPreparation("none"), KernelDensityHead(10.0))
        width, local_width = self.encoder.channels[-1], self.encoder.channels[-2]
        heads = {"hidden": hidden, "dimensions": dimensions}
        self.objective: Objective
        if objective == "simclr":
            self.objective = SimCLR(width, temperature=temperature, **heads)
        elif objective == "moco":
            self.objective = MoCo(self.encoder, width, temperature=temperature, decay=decay, queue=queue, **heads)
        elif objective == "byol":
            self.objective = BYOL(self.encoder, width, decay=decay, **heads)
        elif objective == "simsiam":
            self.objective = SimSiam(width, **heads)
        elif objective == "dim":
            self.objective = DIM(spatial_dims, local_width, width, **heads)
        elif objective == "droc":
            self.objective = DROC(spatial_dims, width, hidden, dimensions, temperature, head_layers)
        elif objective == "ccd":
            self.objective = CCD(spatial_dims, width, temperature=temperature, **heads)
        else:
            self.objective = CPC(spatial_dims, width, dimensions, temperature, patches)

    def training_output(self, image: Tensor) -> dict[str, Tensor]:
        """Loss terms of ``(2 B, C, *spatial)``, two views of each scan, one after the other."""
        return self.objective.terms(self.encoder, image)

    def follow(self) -> None:
        """Let what follows the encoder do so; after a step."""
        self.objective.follow(self.encoder)

    def detector(self) -> Any:
        """The Gaussian, or the kernel density."""
        return self.density if self.by_density else self.gaussian

    def judged(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Scores ``(B,)`` of averaged features of length one ``(B, D)``, and the directions ``(B, D)`` they grow in."""
        if not self.by_density:
            return self.judged_by_gaussian(vectors)
        bank, gamma = self.density.head.bank, self.density.head.gamma
        shares = (-gamma * (vectors.unsqueeze(1) - bank).square().sum(2)).softmax(1)
        return self.density(vectors), 2 * gamma * (vectors - shares @ bank)


def pretrain_terms(network: Pretrain, batch: dict[str, Any]) -> dict[str, Tensor]:
    """Terms of a phase of `medad_plugins.engines.PhasedTrainer`: what the objective lowers on ``batch["image"]``."""
    return network.training_output(batch["image"])
