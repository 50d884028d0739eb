"""A vision transformer written out in plain functions, to compare with: the official names, and Hugging Face's."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from medad_plugins.networks import VisionTransformerTaps


def varied_transformer(architecture: str, layers: list[int], in_channels: int = 3) -> VisionTransformerTaps:
    """Transformer with random weights in which every parameter matters, in double precision."""
    torch.manual_seed(0)
    network = VisionTransformerTaps(architecture, 2, in_channels, layers).double()
    generator = torch.Generator().manual_seed(1)
    for name, parameter in network.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        # norms and scales near one, all else small
        parameter.data = 1 + 0.2 * noise if re.search(r"norm\d\.weight|gamma", name) else 0.05 * noise
    return network


def plain_norm(x: Tensor, state: Mapping[str, Tensor], name: str, epsilon: float) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    unit = centred / (centred.square().mean(-1, keepdim=True) + epsilon).sqrt()
    return unit * state[f"{name}.weight"] + state[f"{name}.bias"]


def plain_turn(x: Tensor, periods: Tensor, place: tuple[float, float]) -> Tensor:
    """One head's query or key ``(d,)`` of the patch at a place, both coordinates in -1..1, pair by pair."""
    angles = [2 * math.pi * coordinate / float(period) for coordinate in place for period in periods]
    half = len(angles)
    turned = torch.empty_like(x)
    for k, angle in enumerate(angles):
        a, b = x[k], x[half + k]
        turned[k] = a * math.cos(angle) - b * math.sin(angle)
        turned[half + k] = a * math.sin(angle) + b * math.cos(angle)
    return turned


def plain_attention(
    x: Tensor, state: Mapping[str, Tensor], name: str, heads: int, places: list[tuple[float, float]]
) -> Tensor:
    """Attention of the tokens ``(N, D)`` of one scan, head by head; the last tokens lie at places, if there are any."""
    query, key, value = (x @ state[f"{name}.qkv.weight"].T + state[f"{name}.qkv.bias"]).chunk(3, 1)
    results = []
    for q, k, v in zip(query.chunk(heads, 1), key.chunk(heads, 1), value.chunk(heads, 1), strict=True):
        q, k = q.clone(), k.clone()
        for token, place in enumerate(places, len(x) - len(places)):
            q[token] = plain_turn(q[token], state["rope_embed.periods"], place)
            k[token] = plain_turn(k[token], state["rope_embed.periods"], place)
        weights = torch.exp(q @ k.T / math.sqrt(q.shape[1]))
        results.append(weights @ v / weights.sum(1, keepdim=True))
    return torch.cat(results, 1) @ state[f"{name}.proj.weight"].T + state[f"{name}.proj.bias"]


def plain_tokens(
    state: Mapping[str, Tensor], image: Tensor, positions: Tensor | None, heads: int, blocks: int, epsilon: float
) -> list[Tensor]:
    """All tokens after each block ``(N, D)`` of one RGB image ``(3, H, W)`` in 0..1 that patches cover.

    Args:
        state: of the network, official names.
        image: the scan.
        positions: of the patches ``(P, D)``; None turns queries and keys instead.
        heads: of the attention.
        blocks: how many.
        epsilon: of the norms.
    """
    mean, std = torch.tensor([0.485, 0.456, 0.406]).to(image), torch.tensor([0.229, 0.224, 0.225]).to(image)
    image = (image - mean.reshape(3, 1, 1)) / std.reshape(3, 1, 1)
    kernel, bias = state["patch_embed.proj.weight"], state["patch_embed.proj.bias"]
    edge = kernel.shape[-1]
    height, width = image.shape[1] // edge, image.shape[2] // edge
    rows, places = [], []
    for row in range(height):
        for column in range(width):
            patch = image[:, row * edge : (row + 1) * edge, column * edge : (column + 1) * edge]
            rows.append((kernel * patch).sum((1, 2, 3)) + bias)
            places.append((2 * (row + 0.5) / height - 1, 2 * (column + 0.5) / width - 1))
    tokens = [state["cls_token"][0], torch.stack(rows)]
    if positions is not None:
        tokens = [state["cls_token"][0] + state["pos_embed"][0, :1], tokens[1] + positions]
        places = []
    if "register_tokens" in state:
        tokens.insert(1, state["register_tokens"][0])
    x = torch.cat(tokens)
    taps = []
    for index in range(blocks):
        name = f"blocks.{index}"
        branch = plain_attention(plain_norm(x, state, f"{name}.norm1", epsilon), state, f"{name}.attn", heads, places)
        x = x + branch * state.get(f"{name}.ls1.gamma", 1)
        branch = plain_norm(x, state, f"{name}.norm2", epsilon)
        branch = branch @ state[f"{name}.mlp.fc1.weight"].T + state[f"{name}.mlp.fc1.bias"]
        branch = branch * (1 + torch.erf(branch / math.sqrt(2))) / 2
        branch = branch @ state[f"{name}.mlp.fc2.weight"].T + state[f"{name}.mlp.fc2.bias"]
        x = x + branch * state.get(f"{name}.ls2.gamma", 1)
        taps.append(x)
    return taps


def plain_positions(learned: Tensor, grid: tuple[int, int], offset: float, antialias: bool) -> Tensor:
    """Positions of a grid ``(P, D)`` from learned ones ``(1, 1 + n * n, D)``."""
    edge = math.isqrt(learned.shape[1] - 1)
    native = learned[:, 1:].reshape(1, edge, edge, -1).movedim(3, 1)
    if offset:
        scales = [(length + offset) / edge for length in grid]
        fitted = functional.interpolate(native.float(), scale_factor=scales, mode="bicubic")
    else:
        fitted = functional.interpolate(native.float(), size=grid, mode="bicubic", antialias=antialias)
    return fitted.movedim(1, 3).reshape(-1, learned.shape[2]).to(learned.dtype)


def hugging_face(state: Mapping[str, Tensor], family: str) -> dict[str, Tensor]:
    """A state dict of official names as Hugging Face's ``dinov2``, ``vit`` (of DINO) or ``dinov3_vit`` has it."""
    named: dict[str, Tensor] = {}
    for name, value in state.items():
        if name.startswith("rope_embed"):
            continue
        if not name.startswith("blocks."):
            name = name.replace("pos_embed", "position_embeddings")
            projection = "patch_embeddings" if family == "dinov3_vit" else "patch_embeddings.projection"
            named[f"embeddings.{name.replace('patch_embed.proj', projection)}"] = value
            continue
        _, index, part, *rest = name.split(".")
        place = f"layer.{index}" if family == "dinov3_vit" else f"encoder.layer.{index}"
        kind = rest[-1]
        if ".qkv." in name:
            for letter, share in zip(("query", "key", "value"), value.chunk(3), strict=True):
                if family != "dinov3_vit":
                    named[f"{place}.attention.attention.{letter}.{kind}"] = share
                elif (letter, kind) != ("key", "bias"):
                    named[f"{place}.attention.{letter[0]}_proj.{kind}"] = share
        elif part == "attn":
            out = "attention.o_proj" if family == "dinov3_vit" else "attention.output.dense"
            named[f"{place}.{out}.{kind}"] = value
        elif part in ("ls1", "ls2"):
            named[f"{place}.layer_scale{part[-1]}.lambda1"] = value
        elif part == "mlp" and family != "dinov2":
            names = {"vit": ("intermediate.dense", "output.dense"), "dinov3_vit": ("mlp.up_proj", "mlp.down_proj")}
            named[f"{place}.{names[family][rest[0] == 'fc2']}.{kind}"] = value
        elif part in ("norm1", "norm2") and family == "vit":
            named[f"{place}.{ {'norm1': 'layernorm_before', 'norm2': 'layernorm_after'}[part] }.{kind}"] = value
        else:
            named[f"{place}.{part}.{'.'.join(rest)}"] = value
    return {**named, "layernorm.weight": torch.ones(3), "embeddings.mask_token": torch.zeros(1)}
