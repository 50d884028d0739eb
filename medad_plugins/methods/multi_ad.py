"""After Multi-AD: reverse distillation with channel attention, and a critic of the student's features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.blocks import ResidualSELayer
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.losses import GlobalCosineLoss
from medad_plugins.losses.adversarial import ADVERSARIAL_LOSSES, discriminator_loss, generator_loss
from medad_plugins.networks.blocks.feature_discriminator import FeatureDiscriminator
from medad_plugins.networks.families.distillation_parts import one_class_bottleneck
from medad_plugins.networks.families.reverse_distillation import ReverseDistillation

__all__ = ["MultiAD", "MultiADTerms"]


class ChannelAttention(nn.Module):
    """MONAI's squeeze and excitation for each scale, added to what comes in.

    Shape:
        a list of ``(B, C_k, *grid_k)`` to the same.
    """

    def __init__(self, spatial_dims: int, channels: Sequence[int], squeeze: int) -> None:
        super().__init__()
        kinds = {"acti_type_1": "relu", "acti_type_2": "sigmoid"}
        self.scales = nn.ModuleList([ResidualSELayer(spatial_dims, count, squeeze, **kinds) for count in channels])

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        weighed: list[Tensor] = []
        for index, scale in enumerate(self.scales):
            weighed.append(scale(features[index]))
        return weighed


class MultiAD(ReverseDistillation):
    """Multi-AD: the student of RD4AD, with attention to channels before the embedding and behind the student.

    In training a critic for each scale tells the student's features from the teacher's, place by place, and the student
    is to leave it no way to: not only close to them on average but as they are distributed. Trained by `MultiADTerms`.

    Args:
        spatial_dims, in_channels, backbone, weights, combine, sigma, reduction, scale_weights: see
            `ReverseDistillation`.
        squeeze: how much narrower than its features an attention's hidden layer is.
        critic_width: of the hidden layer of each scale's critic.

    Reference:
        Rahmaniar and Suzuki, "Multi-AD: Cross-Domain Unsupervised Anomaly Detection for Medical and Industrial
        Applications", Pattern Recognition 172, 2026.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        backbone: str = "wide_resnet50_2",
        weights: str = "imagenet",
        combine: str = "sum",
        sigma: float = 4.0,
        reduction: str | float = "max",
        scale_weights: Sequence[float] | None = None,
        squeeze: int = 8,
        critic_width: int = 64,
    ) -> None:
        super().__init__(
            spatial_dims,
            in_channels,
            backbone,
            weights,
            combine=combine,
            sigma=sigma,
            reduction=reduction,
            scale_weights=scale_weights,
        )
        channels: list[int] = list(self.teacher.channels)
        if not 1 <= squeeze <= min(channels):
            raise ValueError(f"squeeze must be 1 to {min(channels)}, got {squeeze}.")
        self.bottleneck: Any = one_class_bottleneck(self.teacher, backbone, spatial_dims)
        self.seen = ChannelAttention(spatial_dims, channels, squeeze)
        self.rebuilt = ChannelAttention(spatial_dims, channels, squeeze)
        self.critics = nn.ModuleList([FeatureDiscriminator(count, critic_width) for count in channels])

    def rebuild(self, taps: list[Tensor]) -> list[Tensor]:
        embedding = self.bottleneck(self.seen(taps))
        rebuilt: list[Tensor] = self.rebuilt(self.student(embedding, [list(tap.shape[2:]) for tap in taps]))
        return rebuilt

    def student_parameters(self) -> list[nn.Parameter]:
        """What learns to rebuild: all but the teacher and the critics."""
        judged = {id(parameter) for parameter in self.critics.parameters()}
        return [parameter for parameter in super().student_parameters() if id(parameter) not in judged]

    @torch.jit.unused
    def judged(self, rebuilt: list[Tensor], taps: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Of each scale the critic's logits ``(places,)`` for the teacher's features and for the student's.

        Both have length one, for the student is asked for directions alone.
        """
        found: list[tuple[Tensor, Tensor]] = []
        for critic, own, true in zip(self.critics, rebuilt, taps, strict=True):
            # in one call, for the critic's norm is to see both
            real, fake = critic(torch.cat([_directions(true), _directions(own)])).chunk(2)
            found.append((real, fake))
        return found


def _directions(features: Tensor) -> Tensor:
    """The vector of each place ``(B, C, *grid)``, of length one, ``(B * places, C)``."""
    vectors = features.float().flatten(2).transpose(1, 2).flatten(0, 1)
    return functional.normalize(vectors, dim=1)


class MultiADTerms:
    """Both sides' losses, of two phases of `medad_plugins.engines.PhasedTrainer`.

    Args:
        adversarial: see `medad_plugins.losses.generator_loss`.
    """

    def __init__(self, adversarial: str = "hinge") -> None:
        if adversarial not in ADVERSARIAL_LOSSES:
            raise ValueError(f"adversarial must be one of {ADVERSARIAL_LOSSES}, got {adversarial!r}.")
        self.adversarial = adversarial
        self.distance = GlobalCosineLoss()

    def critic(self, network: MultiAD, batch: dict[str, Any]) -> dict[str, Tensor]:
        """``teacher`` and ``student``: how badly their features are told from each other, means over the scales."""
        with torch.no_grad():
            rebuilt, taps = network.training_output(batch["image"])
        losses = [discriminator_loss(real, fake, self.adversarial) for real, fake in network.judged(rebuilt, taps)]
        teacher, student = (torch.stack(terms).mean() for terms in zip(*losses, strict=True))
        return {"teacher": teacher, "student": student}

    def student(self, network: MultiAD, batch: dict[str, Any]) -> dict[str, Tensor]:
        """``distance`` of the features as in RD4AD, and ``fooled``: that the critics take the student for the teacher.

        The latter is a mean over the scales.
        """
        rebuilt, taps = network.training_output(batch["image"])
        fooled = [generator_loss(fake, self.adversarial) for _, fake in network.judged(rebuilt, taps)]
        return {"distance": self.distance((rebuilt, taps)), "fooled": torch.stack(fooled).mean()}
