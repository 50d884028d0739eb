"""Plain vision transformers of the DINO family tapped at their blocks, for images of any size and channel count."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.errors import InputError
from medad_plugins.networks.backbones.feature_taps import FeatureTaps
from medad_plugins.networks.backbones.scan_adapter import ScanToBackbone
from medad_plugins.networks.backbones.transformer_shape import TRANSFORMERS, TransformerShape, usual_block
from medad_plugins.networks.backbones.transformer_weights import load_transformer
from medad_plugins.networks.backbones.weights import find_weights

__all__ = ["VisionTransformerTaps"]


class ChannelScale(nn.Module):
    """A learned factor for each channel of tokens ``(B, N, D)``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class RotaryPositions(nn.Module):
    """Angles by which queries and keys of patches are turned, so that attention knows how far apart they lie.

    Both axes run from -1 to 1 over the grid, whatever its size; a quarter of a head's channels has a period each.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        exponents = torch.arange(channels // 4) / (channels / 2)
        self.periods: Tensor = nn.Buffer(100.0 ** (2 * exponents))

    def forward(self, grid: list[int]) -> Tensor:
        """Angles ``(P, channels)`` of the patches of a grid in row-major order."""
        periods = self.periods.float()
        rows = (torch.arange(grid[0], device=periods.device) + 0.5) * (2.0 / grid[0]) - 1.0
        columns = (torch.arange(grid[1], device=periods.device) + 0.5) * (2.0 / grid[1]) - 1.0
        down = (rows[:, None] / periods)[:, None].expand(-1, grid[1], -1)
        across = (columns[:, None] / periods)[None].expand(grid[0], -1, -1)
        quarter_turns = torch.cat([down, across], 2).flatten(0, 1) * (2 * math.pi)
        return torch.cat([quarter_turns, quarter_turns], 1)


def rotated(x: Tensor, angles: Tensor) -> Tensor:
    """Queries or keys ``(B, heads, N, d)`` with the last P tokens turned by angles ``(P, d)``."""
    free = x.shape[2] - angles.shape[0]
    patches = x[:, :, free:]
    half = patches.shape[3] // 2
    swapped = torch.cat([-patches[..., half:], patches[..., :half]], 3)
    turned = patches * angles.cos().to(x.dtype) + swapped * angles.sin().to(x.dtype)
    return torch.cat([x[:, :, :free], turned], 2)


class SelfAttention(nn.Module):
    """Attention of all tokens ``(B, N, D)`` to all, with several heads."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, angles: Tensor | None) -> Tensor:
        query, key, value = self.qkv(x).unflatten(2, [3, self.heads, -1]).permute(2, 0, 3, 1, 4).unbind(0)
        if angles is not None:
            query, key = rotated(query, angles), rotated(key, angles)
        attended = functional.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.proj(attended.transpose(1, 2).flatten(2))
        return out


class TransformerBlock(nn.Module):
    """Attention, then a perceptron of each token, both of normalised tokens, scaled and added: ``(B, N, D)``."""

    def __init__(self, shape: TransformerShape) -> None:
        super().__init__()
        width = shape.width
        self.norm1 = nn.LayerNorm(width, eps=shape.epsilon)
        self.attn = SelfAttention(width, shape.heads)
        self.ls1 = ChannelScale(width) if shape.scaled else nn.Identity()
        self.norm2 = nn.LayerNorm(width, eps=shape.epsilon)
        layers = [("fc1", nn.Linear(width, 4 * width)), ("act", nn.GELU()), ("fc2", nn.Linear(4 * width, width))]
        self.mlp = nn.Sequential(OrderedDict[str, nn.Module](layers))
        self.ls2 = ChannelScale(width) if shape.scaled else nn.Identity()

    def forward(self, x: Tensor, angles: Tensor | None) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x), angles))
        out: Tensor = x + self.ls2(self.mlp(self.norm2(x)))
        return out


class VisionTransformerTaps(FeatureTaps):
    """Vision transformer that returns its patches' tokens after some of its blocks as feature maps, finest first.

    The names of its parameters are those of the official checkpoints; the taps are what a block gives, before any final
    norm. An edge of the image that no whole number of patches covers is stretched to the next one that does, so that
    the grid covers the scan. Blocks behind the last tap are not built.

    Args:
        architecture: one of `TRANSFORMERS`.
        spatial_dims: 2; volumes are looked at slice by slice.
        in_channels: channels of the scan, see `ScanToBackbone`.
        layers: blocks to return, from 0; None for `usual_block`.
        weights: path, known name, or ``"none"`` for random initialisation, see `find_weights`.
        frozen: nothing in it learns.
        average: return one map, the mean of those of all layers, in place of one of each.
        recentre: subtract from a block's tokens its class token, so that they tell what sets a patch apart from its
            scan.

    Shape:
        ``(B, in_channels, H, W)``, intensities 0..1, to a list of ``(B, D, H / patch, W / patch)``, rounded up.

    Raises:
        InputError: there is no such block, volumes are asked for, or the weights do not fit.
    """

    def __init__(
        self,
        architecture: str,
        spatial_dims: int = 2,
        in_channels: int = 1,
        layers: Sequence[int] | None = None,
        weights: str = "none",
        frozen: bool = True,
        average: bool = False,
        recentre: bool = False,
    ) -> None:
        if architecture not in TRANSFORMERS:
            raise ValueError(f"backbone must be one of {sorted(TRANSFORMERS)}, got {architecture!r}.")
        if spatial_dims != 2:
            raise InputError(
                "a vision transformer sees images only",
                where=architecture,
                expected="spatial_dims 2",
                found=spatial_dims,
                todo="give --slice_axis 2 (or 0, 1) to look at volumes slice by slice, or another --backbone",
            )
        shape = TRANSFORMERS[architecture]
        layers = [usual_block(architecture)] if layers is None else [int(layer) for layer in layers]
        if not layers or layers != sorted(set(layers)) or layers[0] < 0 or layers[-1] >= shape.depth:
            expected = f"blocks of {architecture}, 0 to {shape.depth - 1}, in order, e.g. [{usual_block(architecture)}]"
            raise InputError("the backbone has no such layers", where="layers", expected=expected, found=layers)
        maps = 1 if average else len(layers)
        super().__init__(layers, [shape.width] * maps, [shape.patch] * maps, frozen, covers=True)
        self.patch, self.grid, self.offset, self.antialias = shape.patch, shape.grid, shape.offset, shape.antialias
        self.average, self.recentre = average, recentre
        self.free_tokens = 1 + shape.registers
        self.adapter = ScanToBackbone(2, in_channels)
        self.cls_token = nn.Parameter(0.02 * torch.randn(1, 1, shape.width))
        # what a transformer does not have is empty or zero, and not part of its state
        self.register_tokens: Tensor = nn.Buffer(torch.empty(1, 0, shape.width), persistent=False)
        if shape.registers > 0:
            self.register_tokens = nn.Parameter(0.02 * torch.randn(1, shape.registers, shape.width))
        self.pos_embed: Tensor = nn.Buffer(torch.zeros(1, 1, shape.width), persistent=False)
        if shape.grid > 0:
            self.pos_embed = nn.Parameter(0.02 * torch.randn(1, 1 + shape.grid**2, shape.width))
        proj = nn.Conv2d(self.adapter.out_channels, shape.width, shape.patch, stride=shape.patch)
        self.patch_embed = nn.Sequential(OrderedDict(proj=proj))
        self.rope_embed = RotaryPositions(shape.width // shape.heads) if shape.grid == 0 else None
        self.blocks = nn.ModuleList(TransformerBlock(shape) for _ in range(layers[-1] + 1))
        path = find_weights(weights, architecture)
        if path is not None:
            load_transformer(self, path, architecture, shape)
        self.freeze(channels_last=False)

    def positions(self, grid: list[int]) -> Tensor:
        """Learned positions of the patches of any grid ``(1, P, D)``: bicubic, on the native grid as they are."""
        learned = self.pos_embed[:, 1:]
        if grid[0] == self.grid and grid[1] == self.grid:
            return learned
        native = learned.transpose(1, 2).unflatten(2, [self.grid, self.grid]).float()
        if self.offset > 0:
            scales = [(grid[0] + self.offset) / self.grid, (grid[1] + self.offset) / self.grid]
            fitted = functional.interpolate(native, scale_factor=scales, mode="bicubic", align_corners=False)
        else:
            fitted = functional.interpolate(
                native, size=grid, mode="bicubic", align_corners=False, antialias=self.antialias
            )
        return fitted.flatten(2).transpose(1, 2).to(learned.dtype)

    def tokens(self, image: Tensor) -> tuple[list[Tensor], list[int]]:
        """All tokens ``(B, 1 + registers + P, D)`` after each of the layers, class token first, and the grid."""
        if not torch.jit.is_scripting():
            self.require_edge(image, self.patch, min(image.shape[2:]))
        x = self.adapter(image)
        grid = [(x.shape[2] + self.patch - 1) // self.patch, (x.shape[3] + self.patch - 1) // self.patch]
        size = [grid[0] * self.patch, grid[1] * self.patch]
        if size[0] != x.shape[2] or size[1] != x.shape[3]:
            x = functional.interpolate(x, size=size, mode="bilinear", align_corners=False)
        # under autocast the patches come in half precision; what the blocks add to stays in that of the parameters
        patches = self.patch_embed(x).flatten(2).transpose(1, 2).to(self.cls_token.dtype)
        angles: Tensor | None = None
        if self.rope_embed is not None:
            angles = self.rope_embed(grid)
        else:
            patches = patches + self.positions(grid)
        first = torch.cat([self.cls_token + self.pos_embed[:, :1], self.register_tokens], 1)
        x = torch.cat([first.expand(patches.shape[0], -1, -1), patches], 1)
        taps: list[Tensor] = []
        for index, block in enumerate(self.blocks):
            x = block(x, angles)
            if index in self.layers:
                taps.append(x)
        return taps, grid

    def maps(self, taps: list[Tensor], grid: list[int]) -> list[Tensor]:
        """Feature maps ``(B, D, *grid)`` of tokens."""
        patches = [tokens[:, self.free_tokens :] for tokens in taps]
        if self.recentre:
            patches = [patch - tokens[:, :1] for patch, tokens in zip(patches, taps)]
        maps = [patch.transpose(1, 2).unflatten(2, grid) for patch in patches]
        return [torch.stack(maps).mean(0)] if self.average else maps

    @torch.jit.export
    def with_class_tokens(self, image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """The feature maps, and the class token ``(B, D)`` after each of the layers."""
        taps, grid = self.tokens(image)
        return self.maps(taps, grid), [tokens[:, 0] for tokens in taps]

    def forward(self, image: Tensor) -> list[Tensor]:
        taps, grid = self.tokens(image)
        return self.maps(taps, grid)
