"""What an encoder learns by without any label: two views of a scan, or a scan and its parts, belong together."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.losses.contrastive import supervised_contrast
from medad_plugins.losses.full_precision import full_precision
from medad_plugins.losses.rank_gather import of_all_ranks
from medad_plugins.methods.pretrain.momentum_copy import MomentumCopy

__all__ = ["BYOL", "MoCo", "Objective", "SimCLR", "SimSiam", "head", "pooled"]


def head(inputs: int, hidden: int, outputs: int, norm: bool = True, layers: int = 1) -> nn.Sequential:
    """Hidden linear layers, each with a batch norm, unless that is left out, and a ReLU, and a last linear one."""
    found: list[nn.Module] = []
    for width in [inputs, *[hidden] * (layers - 1)]:
        found += [nn.Linear(width, hidden), *([nn.BatchNorm1d(hidden)] if norm else []), nn.ReLU(inplace=True)]
    return nn.Sequential(*found, nn.Linear(hidden, outputs))


def pooled(encoder: Any, image: Tensor) -> Tensor:
    """Averaged features ``(B, D)`` of the encoder's last stage."""
    features: Tensor = encoder(image)[-1]
    return features.flatten(2).mean(2)


def cosine_distance(predicted: Tensor, targets: Tensor) -> Tensor:
    """Mean of 2 - 2 cos: the squared distance of unit vectors ``(N, D)``; the targets pass no gradient."""
    predicted = functional.normalize(full_precision(predicted), dim=1)
    targets = functional.normalize(full_precision(targets.detach()), dim=1)
    return (2 - 2 * (predicted * targets).sum(1)).mean()


class Objective(nn.Module):
    """Base: terms of a batch in which the views of a scan follow each other, and what is done after a step."""

    @abstractmethod
    def terms(self, encoder: Any, image: Tensor) -> dict[str, Tensor]:
        """Loss terms of an encoder on ``(2 B, C, *spatial)``, two views of each of B scans, one after the other."""

    def follow(self, encoder: Any) -> None:
        """What follows the encoder after a step; nothing by default."""

    # of the training alone, and beyond TorchScript
    @torch.jit.unused
    def forward(self, image: Tensor) -> Tensor:
        raise TypeError(f"{type(self).__name__} has no output of its own.")


class SimCLR(Objective):
    """Each view is to find the other one of its scan among all views of the batch.

    Args:
        width: of the encoder's features.
        hidden, dimensions: widths of the head.
        temperature: divides the cosines.

    Reference:
        Chen et al., "A simple framework for contrastive learning of visual representations", ICML 2020.
    """

    def __init__(self, width: int, hidden: int = 512, dimensions: int = 128, temperature: float = 0.2) -> None:
        super().__init__()
        self.head, self.temperature = head(width, hidden, dimensions), temperature

    def terms(self, encoder: Any, image: Tensor) -> dict[str, Tensor]:
        vectors = of_all_ranks(full_precision(self.head(pooled(encoder, image))))
        scans = torch.arange(len(vectors) // 2, device=vectors.device).repeat_interleave(2)
        return {"contrast": supervised_contrast(vectors, scans, self.temperature)}


class MoCo(Objective):
    """Each view is to find the other one, as a slowly following encoder sees it, among those of past batches.

    Both views are queries and keys in turn (Chen, Xie and He, 2021). The negatives are those of the queue alone, which
    begins as random vectors.

    Args:
        encoder: what is followed.
        width, hidden, dimensions, temperature: see `SimCLR`.
        decay: see `MomentumCopy`.
        queue: how many keys are kept.

    Buffers:
        queue ``(queue, dimensions)``: past keys of length one. place: where the next ones are written.

    Reference:
        He et al., "Momentum contrast for unsupervised visual representation learning", CVPR 2020; Chen et al.,
        "Improved baselines with momentum contrastive learning", 2020.
    """

    def __init__(
        self,
        encoder: nn.Module,
        width: int,
        hidden: int = 512,
        dimensions: int = 128,
        temperature: float = 0.2,
        decay: float = 0.99,
        queue: int = 1024,
    ) -> None:
        super().__init__()
        if queue < 1:
            raise ValueError(f"queue must be at least 1, got {queue}.")
        self.head, self.temperature = head(width, hidden, dimensions, norm=False), temperature
        self.target, self.target_head = MomentumCopy(encoder, decay), MomentumCopy(self.head, decay)
        self.queue: Tensor = nn.Buffer(functional.normalize(torch.randn(queue, dimensions), dim=1))
        self.place: Tensor = nn.Buffer(torch.zeros((), dtype=torch.long))
        self.to_queue: Tensor | None = None

    def terms(self, encoder: Any, image: Tensor) -> dict[str, Tensor]:
        queries = functional.normalize(full_precision(self.head(pooled(encoder, image))), dim=1)
        keys = functional.normalize(full_precision(self.target_head(pooled(self.target, image))), dim=1)
        # the other view of the same scan
        others = keys.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
        with torch.autocast(queries.device.type, enabled=False):
            own = (queries * others).sum(1, keepdim=True)
            logits = torch.cat([own, queries @ self.queue.t()], 1) / self.temperature
        self.to_queue = of_all_ranks(keys)
        return {"contrast": -logits.log_softmax(1)[:, 0].mean()}

    @torch.no_grad()
    def follow(self, encoder: Any) -> None:
        """Let the copies follow, and put the latest keys in place of the oldest."""
        self.target.follow(encoder)
        self.target_head.follow(self.head)
        if self.to_queue is not None:
            keys, length = self.to_queue[-len(self.queue) :], len(self.queue)
            places = (int(self.place) + torch.arange(len(keys), device=keys.device)) % length
            self.queue[places] = keys.to(self.queue)
            self.place.fill_((int(self.place) + len(keys)) % length)
            self.to_queue = None


class BYOL(Objective):
    """From each view what a slowly following encoder makes of the other one is predicted; there are no negatives.

    Args:
        encoder: what is followed.
        width, hidden, dimensions: see `SimCLR`; the predictor has the same widths.
        decay: see `MomentumCopy`.

    Reference:
        Grill et al., "Bootstrap your own latent", NeurIPS 2020.
    """

    def __init__(
        self, encoder: nn.Module, width: int, hidden: int = 512, dimensions: int = 128, decay: float = 0.99
    ) -> None:
        super().__init__()
        self.head, self.predictor = head(width, hidden, dimensions), head(dimensions, hidden, dimensions)
        self.target, self.target_head = MomentumCopy(encoder, decay), MomentumCopy(self.head, decay)

    def terms(self, encoder: Any, image: Tensor) -> dict[str, Tensor]:
        predicted = self.predictor(self.head(pooled(encoder, image)))
        targets: Tensor = self.target_head(pooled(self.target, image))
        return {"prediction": cosine_distance(predicted, targets.unflatten(0, (-1, 2)).flip(1).flatten(0, 1))}

    def follow(self, encoder: Any) -> None:
        """Let the copies follow."""
        self.target.follow(encoder)
        self.target_head.follow(self.head)


class SimSiam(Objective):
    """From each view the other one's vector is predicted, which passes no gradient; there are no negatives.

    Args:
        width, hidden, dimensions: see `SimCLR`; the predictor is a bottleneck of a quarter of the dimensions.

    Reference:
        Chen and He, "Exploring simple Siamese representation learning", CVPR 2021.
    """

    def __init__(self, width: int, hidden: int = 512, dimensions: int = 128) -> None:
        super().__init__()
        # without its last norm everything becomes one vector
        last = nn.BatchNorm1d(dimensions, affine=False)
        self.head = nn.Sequential(*head(width, hidden, dimensions), last)
        self.predictor = head(dimensions, max(dimensions // 4, 1), dimensions)

    def terms(self, encoder: Any, image: Tensor) -> dict[str, Tensor]:
        vectors = self.head(pooled(encoder, image))
        others = vectors.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
        return {"prediction": cosine_distance(self.predictor(vectors), others)}
