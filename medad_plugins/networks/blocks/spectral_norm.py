"""Spectral normalisation that TorchScript takes: a layer's output over its largest singular value."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.conv import _ConvTransposeNd

__all__ = ["SpectralNorm"]


class SpectralNorm(nn.Module):
    """A linear layer or convolution divided by the largest singular value of its weight, so that it is 1-Lipschitz.

    The singular value follows the weight by one power iteration at each call in train mode; in eval mode it is what
    the last one found. The bias is added after the division, as it must be.

    Args:
        layer: linear layer, convolution or transposed convolution; its bias moves into this module.
        first_steps: power iterations on the initial weight.

    Shape:
        as the layer's.

    Reference:
        Miyato et al., "Spectral Normalization for Generative Adversarial Networks", ICLR 2018.
    """

    def __init__(self, layer: nn.Module, first_steps: int = 15) -> None:
        super().__init__()
        bias = getattr(layer, "bias", None)
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone())
        layer.register_parameter("bias", None)
        self.layer = layer
        self.outputs_second = isinstance(layer, _ConvTransposeNd)
        with torch.no_grad():
            matrix = self._matrix()
            self.left: Tensor = nn.Buffer(functional.normalize(torch.randn(matrix.shape[0]), dim=0))
            self.right: Tensor = nn.Buffer(functional.normalize(torch.randn(matrix.shape[1]), dim=0))
            for _ in range(first_steps):
                self._iterate(matrix)

    def _matrix(self) -> Tensor:
        """The weight as a matrix, a row for each output channel."""
        weight = self.layer.weight
        assert isinstance(weight, Tensor)
        return weight.transpose(0, 1).flatten(1) if self.outputs_second else weight.flatten(1)

    def _iterate(self, matrix: Tensor) -> None:
        # new tensors, for those of the last call may still be needed by a backward pass
        self.right = functional.normalize(torch.mv(matrix.t(), self.left), dim=0)
        self.left = functional.normalize(torch.mv(matrix, self.right), dim=0)

    def forward(self, x: Tensor) -> Tensor:
        matrix = self._matrix()
        if self.training:
            with torch.no_grad():
                self._iterate(matrix)
        # the layer is linear: to divide its output is to divide its weight
        y = self.layer(x) / torch.dot(self.left, torch.mv(matrix, self.right))
        if self.bias is not None:
            y = y + (self.bias if y.dim() == 2 else self.bias.view([1, -1] + [1] * (y.dim() - 2)))
        return y
