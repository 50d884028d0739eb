"""Networks whose pretrained encoder goes on learning, slowly, beside parts that learn from scratch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.networks.backbones import make_learning_taps, require_resnet

if TYPE_CHECKING:
    from typing import Self  # of Python 3.11

__all__ = ["FineTunedNetwork"]


class FineTunedNetwork(AnomalyNetwork):
    """Base of methods that fine-tune a pretrained encoder: its batch norms, and who learns at which rate.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        backbone: a key of `medad_plugins.networks.BACKBONES`, or what ``resnets_only`` says.
        weights: path, known name or ``"none"``, see `medad_plugins.networks.find_weights`.
        stages: of the encoder, 3 or 4. A file without ``layer4`` is accepted for four; that stage then starts at
            random.
        encoder_norm: ``"train"`` lets the encoder's batch norms follow the scans; ``"eval"`` keeps their pretrained
            statistics (their affine part still learns), for small batches and for weights with folded norms; a stage
            that the weights lack has none to keep and follows the scans.
        norm_momentum: momentum of the running statistics.
        reduction: image score, see `medad_plugins.scorers.MapPool`.
        resnets_only: False also takes EfficientNet-Lite, for methods whose other parts do not mirror a ResNet's stages.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        backbone: str,
        weights: str,
        *,
        stages: int,
        encoder_norm: str,
        norm_momentum: float,
        reduction: str | float,
        resnets_only: bool = True,
    ) -> None:
        super().__init__(reduction)
        if encoder_norm not in ("train", "eval"):
            raise ValueError(f"encoder_norm must be 'train' or 'eval', got {encoder_norm!r}.")
        self.encoder_norm = encoder_norm
        if resnets_only:
            require_resnet(backbone)
        # their layers have other names in each kind
        self.encoder: Any = make_learning_taps(backbone, spatial_dims, in_channels, stages, weights, norm_momentum)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if mode and self.encoder_norm == "eval":
            self.encoder.keep_pretrained_statistics()
        return self

    def pretrained_parameters(self) -> list[nn.Parameter]:
        """What is fine-tuned with the encoder's low learning rate."""
        return [parameter for name, parameter in self.encoder.named_parameters() if not self.encoder.is_fresh(name)]

    def fresh_parameters(self) -> list[nn.Parameter]:
        """What learns from scratch: stages of the encoder that its weights lack, and everything else that learns."""
        slow = {id(parameter) for parameter in self.pretrained_parameters()}
        return [parameter for parameter in self.parameters() if parameter.requires_grad and id(parameter) not in slow]
