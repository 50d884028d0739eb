"""An encoder that tells geometric transforms of normal scans apart, and so answers strangely to abnormal ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.errors import InputError
from medad_plugins.losses.full_precision import full_precision
from medad_plugins.losses.rank_gather import of_all_ranks
from medad_plugins.methods.geotrans.fitted import Dirichlets, TransformMeans
from medad_plugins.networks.blocks.geometric_transforms import GeometricTransforms
from medad_plugins.networks.families.fine_tuned import FineTunedNetwork

__all__ = ["TASKS", "GeoTrans", "geotrans_terms", "triplet_centre_loss"]

TASKS = ("classes", "centres", "heads")


def triplet_centre_loss(vectors: Tensor, margin: float) -> Tensor:
    """How much nearer than by a margin a vector lies to another transform's centre than to its own; a scalar.

    Args:
        vectors: ``(B, T, D)``; the centres are the means over B.
        margin: by which squared distances have to differ.

    Reference:
        Bergman and Hoshen, "Classification-based anomaly detection for general data", ICLR 2020.
    """
    squares = (vectors.unsqueeze(2) - vectors.mean(0)).square().sum(3)
    own = torch.eye(vectors.shape[1], dtype=torch.bool, device=vectors.device)
    nearest = squares.masked_fill(own, torch.inf).amin(2)
    return functional.relu(squares.diagonal(dim1=1, dim2=2) + margin - nearest).mean()


class GeoTrans(FineTunedNetwork):
    """Which transform is this? A scan is abnormal to whose transforms the encoder answers unlike to normal scans'.

    Every scan is seen in all transforms at once. It says whether a scan is abnormal and not where: its map is constant.

    - ``"classes"`` (GeoTrans): one class for each transform; the answers to each transform of normal scans get a
      Dirichlet distribution, whose negative log-likelihood is the score (``answers="likelihood"``), or the score is
      one minus the mean probability of the right answer (``answers="right"``).
    - ``"centres"`` (GOAD): vectors of a transform are drawn to their mean and away from those of others; the score is
      minus the logarithm of the chance of the right transform by the distances from the centres.
    - ``"heads"`` (after Hendrycks et al.): a head for each kind of transform, mirroring, shifts along each axis, turns;
      the score is one minus the mean probability of the right answers.

    Args:
        spatial_dims, in_channels, backbone, weights, stages, encoder_norm, norm_momentum: see `FineTunedNetwork`.
        task: see above.
        mirrored, shift, turns: see `GeometricTransforms`.
        dimensions: of the vectors of ``"centres"``.
        margin: see `triplet_centre_loss`.
        answers: ``"likelihood"`` or ``"right"``, of ``"classes"``.
        reduction: image score, see `medad_plugins.scorers.MapPool`; the same for all.

    References:
        Golan and El-Yaniv, "Deep anomaly detection using geometric transformations", NeurIPS 2018; Bergman and Hoshen,
        "Classification-based anomaly detection for general data", ICLR 2020; Hendrycks et al., "Using self-supervised
        learning can improve model robustness and uncertainty", NeurIPS 2019.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        backbone: str = "resnet18",
        weights: str = "none",
        stages: int = 3,
        task: str = "classes",
        mirrored: bool = False,
        shift: float = 0.08,
        turns: int = 4,
        dimensions: int = 128,
        margin: float = 1.0,
        answers: str = "likelihood",
        encoder_norm: str = "train",
        norm_momentum: float = 0.1,
        reduction: str | float = "max",
    ) -> None:
        super().__init__(
            spatial_dims,
            in_channels,
            backbone,
            weights,
            stages=stages,
            encoder_norm=encoder_norm,
            norm_momentum=norm_momentum,
            reduction=reduction,
        )
        if task not in TASKS:
            expected = f"one of {', '.join(TASKS)}"
            raise InputError("there is no such task", where="task", expected=expected, found=task)
        if answers not in ("likelihood", "right"):
            raise ValueError(f"answers must be 'likelihood' or 'right', got {answers!r}.")
        self.task, self.margin, self.likelihood = task, margin, answers == "likelihood"
        self.transforms = GeometricTransforms(spatial_dims, mirrored, shift, turns)
        self.count = len(self.transforms.specs)
        self.sizes = self.transforms.sizes if task == "heads" else [self.count]
        width = self.encoder.channels[-1]
        self.to_vector = nn.Linear(width, dimensions) if task == "centres" else nn.Identity()
        # the heads' logits in a row
        self.heads = nn.Linear(dimensions if task == "centres" else width, sum(self.sizes))
        # what the task does not ask for is not there
        self.dirichlets: Any = Dirichlets() if task == "classes" and self.likelihood else nn.Identity()
        self.centres: Any = TransformMeans() if task == "centres" else nn.Identity()

    def vectors(self, image: Tensor) -> Tensor:
        """Averaged features ``(B, T, D)`` of all transforms of scans ``(B, C, *spatial)``, intensities 0..1."""
        seen = self.transforms(image)
        features: Tensor = self.encoder(seen.flatten(0, 1))[-1]
        vectors: Tensor = self.to_vector(features.flatten(2).mean(2))
        return vectors.unflatten(0, (seen.shape[0], seen.shape[1]))

    def log_chances(self, vectors: Tensor) -> list[Tensor]:
        """Logarithms of the probabilities ``(B, T, K)`` that each head gives its K answers, not below -16."""
        logits = self.heads(vectors).float()
        found: list[Tensor] = []
        for part in logits.split(self.sizes, 2):
            found.append(part.log_softmax(2).clamp_min(-16.0))
        return found

    def right_answers(self, logs: list[Tensor]) -> list[Tensor]:
        """Of each head, what it gives the right answer, ``(B, T)``."""
        found: list[Tensor] = []
        for head, part in enumerate(logs):
            right = self.transforms.factors[:, head] if self.task == "heads" else torch.arange(self.count)
            right = right.to(part.device).reshape(1, -1, 1).expand(part.shape[0], -1, 1)
            found.append(part.gather(2, right).squeeze(2))
        return found

    def training_output(self, image: Tensor) -> dict[str, Tensor]:
        """Loss terms of scans ``(B, C, *spatial)``.

        Returns:
            ``answers``: cross-entropy of the transforms, a sum over the heads. Of ``"centres"`` also ``centre``, see
            `triplet_centre_loss`, and ``size``, the vectors' mean square.
        """
        vectors = full_precision(self.vectors(image))
        logits = full_precision(self.heads(vectors))
        losses = []
        for head, part in enumerate(logits.split(self.sizes, 2)):
            right = self.transforms.factors[:, head] if self.task == "heads" else torch.arange(self.count)
            right = right.to(part.device).repeat(len(part))
            losses.append(functional.cross_entropy(part.flatten(0, 1), right))
        terms = {"answers": torch.stack(losses).sum()}
        if self.task == "centres":
            terms["centre"] = triplet_centre_loss(of_all_ranks(vectors), self.margin)
            terms["size"] = vectors.square().mean()
        return terms

    @torch.no_grad()
    def collect(self, image: Tensor) -> None:
        """Add the answers to normal scans ``(B, C, *spatial)``, or their vectors."""
        vectors = self.vectors(image)
        if self.task == "centres":
            self.centres.collect(vectors)
        elif self.task == "classes" and self.likelihood:
            self.dirichlets.collect(self.log_chances(vectors)[0])

    def fit(self) -> None:
        """Fit to what was collected; right answers need nothing fitted."""
        if self.task == "centres":
            self.centres.fit()
        elif self.task == "classes" and self.likelihood:
            self.dirichlets.fit()

    def anomaly_map(self, image: Tensor) -> Tensor:
        """The score, the same at every place."""
        if not torch.jit.is_scripting():  # noqa: SIM102 - TorchScript wants its test alone
            if torch.is_autocast_enabled(image.device.type):
                # logarithms of small probabilities are differences: half precision would blur them
                with torch.autocast(image.device.type, enabled=False):
                    return self._scores(image.float())
        return self._scores(image)

    def _scores(self, image: Tensor) -> Tensor:
        vectors = self.vectors(image).float()
        if self.task == "centres":
            chances = (-self.centres(vectors)).log_softmax(2)
            score = -chances.diagonal(dim1=1, dim2=2).mean(1)
        elif self.task == "classes" and self.likelihood:
            score = self.dirichlets(self.log_chances(vectors)[0])
        else:
            right: list[Tensor] = []
            for part in self.right_answers(self.log_chances(vectors)):
                right.append(part.exp().mean(1))
            score = 1 - torch.stack(right).mean(0)
        return score.reshape([-1] + [1] * (image.dim() - 1)) + torch.zeros_like(image[:, :1])


def geotrans_terms(network: GeoTrans, batch: dict[str, Any]) -> dict[str, Tensor]:
    """Terms of a phase of `medad_plugins.engines.PhasedTrainer`: what the task lowers on ``batch["image"]``."""
    return network.training_output(batch["image"])
