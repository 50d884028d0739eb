"""Base of autoencoders whose score may be a detector's of how a scan was rebuilt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medad_plugins.networks.families.autoencoding import AutoencodingNetwork
from medad_plugins.networks.fitted.reconstruction_judge import LIKELIHOOD, VECTORS, ReconstructionJudge

__all__ = ["JudgedAutoencodingNetwork"]


class JudgedAutoencodingNetwork(AutoencodingNetwork):
    """An `AutoencodingNetwork` with a `ReconstructionJudge`, which is fitted to normal scans after the training.

    Args:
        spatial_dims, in_channels, image_size, others: see `AutoencodingNetwork`.
        score: one of a judge's vectors, whose detector gives the score; with any other name there is no judge.
        detector: of these vectors.
    """

    __constants__ = ["judges", "needs_likelihood", "needs_taps"]  # noqa: RUF012 - by which TorchScript leaves branches out

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        image_size: int | Sequence[int],
        score: str = "map",
        detector: str = "mahalanobis",
        **others: Any,
    ) -> None:
        super().__init__(spatial_dims, in_channels, image_size, **others)
        self.judges = score in VECTORS or score == LIKELIHOOD
        self.needs_likelihood = score == LIKELIHOOD
        self.needs_taps = score == "pathway"
        self.judge: Any = ReconstructionJudge(spatial_dims, score, detector) if self.judges else nn.Identity()

    def code(self, image: Tensor) -> Tensor:
        """The latents of scans ``(B, C, *spatial)`` that they are rebuilt from."""
        return self.encode(image)

    def unlikelihood(self, code: Tensor) -> Tensor:
        """Minus the logarithm of the probability of latents, ``(B,)``, of a network that knows one."""
        raise RuntimeError("this network has no likelihood of its latents")

    def collect(self, image: Tensor) -> None:
        """Add normal scans ``(B, C, *spatial)`` to what the score compares with."""
        with torch.no_grad():
            self.judge.detector.collect(self.judged_vectors(image))

    def fit(self) -> None:
        """Fit the score's detector to what was collected."""
        self.judge.detector.fit()

    def judged_vectors(self, image: Tensor) -> Tensor:
        """The vectors ``(B, D)`` of scans that the judge compares."""
        code = self.code(image)
        rebuilt = self.decode(code)
        taps: list[Tensor] = []
        rebuilt_taps: list[Tensor] = []
        if self.needs_likelihood:
            code = self.unlikelihood(code).unsqueeze(1)
        if self.needs_taps:
            taps, rebuilt_taps = self.encoder.stages(image * 2 - 1), self.encoder.stages(rebuilt * 2 - 1)
        vectors: Tensor = self.judge.vectors(image, rebuilt, code, taps, rebuilt_taps)
        return vectors

    def judged(self, image: Tensor, values: Tensor) -> Tensor:
        """A map, not negative, scaled to the judge's score of its scan; as it is without a judge or before its fit."""
        if self.judges:  # noqa: SIM102 - TorchScript wants a constant alone
            if self.judge.is_fitted():
                return self.scaled_to(self.judge(self.judged_vectors(image)), values.float())
        return values
