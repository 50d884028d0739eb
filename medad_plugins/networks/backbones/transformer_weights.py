"""Weights files of vision transformers: the official layout, Hugging Face's, and what is said about others."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor, nn

from medad_plugins.errors import InputError
from medad_plugins.networks.backbones.transformer_shape import TransformerShape
from medad_plugins.networks.backbones.weight_tensors import load_exactly, read_tensors

__all__ = ["load_transformer", "official_names"]

# what a file's names may begin with when it holds more than the backbone
WRAPPERS = re.compile(r"^(model|backbone|dinov2|dinov2_with_registers|dinov3_vit|vit)\.")
# Hugging Face's names, of its Dinov2, Dinov2WithRegisters, DINOv3ViT and ViT models, and the official ones
HUGGING_FACE = [
    (re.compile(pattern), official)
    for pattern, official in (
        (r"^embeddings\.patch_embeddings\.(?:projection\.)?(weight|bias)$", r"patch_embed.proj.\1"),
        (r"^embeddings\.position_embeddings$", r"pos_embed"),
        (r"^embeddings\.(cls_token|mask_token|register_tokens)$", r"\1"),
        (r"^(?:encoder\.)?layer\.(\d+)\.", r"blocks.\1."),
        (r"\.attention\.attention\.(query|key|value)\.", r".attn.\1."),
        (r"\.attention\.(q|k|v)_proj\.", r".attn.\1."),
        (r"\.attention\.(?:output\.dense|o_proj)\.", r".attn.proj."),
        (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
        (r"\.intermediate\.dense\.|\.mlp\.up_proj\.", r".mlp.fc1."),
        (r"(\.\d+)\.output\.dense\.|\.mlp\.down_proj\.", r"\1.mlp.fc2."),
        (r"\.layernorm_before\.", r".norm1."),
        (r"\.layernorm_after\.", r".norm2."),
        (r"^storage_tokens$", r"register_tokens"),  # DINOv3's own name of them
    )
]
UNUSED = ("mask_token", "norm.", "layernorm.", "pooler.", "head.", "classifier.", "local_cls_norm.", "cls_norm.")


def official_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of either layout under the official names: queries, keys and values joined, nothing of a head.

    DINOv3's keys have no bias: the official files mask it, Hugging Face's leave it out.
    """
    named: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        while WRAPPERS.match(name):
            name = WRAPPERS.sub("", name)
        for pattern, official in HUGGING_FACE:
            name = pattern.sub(official, name)
        if not name.startswith(UNUSED):
            named[name] = tensor
    parts = (("query", "key", "value"), ("q", "k", "v"))
    for query, key, value in parts:
        for name in [name for name in named if f".attn.{query}." in name]:
            own = named.pop(name)
            rest = [named.pop(name.replace(f".{query}.", f".{part}."), torch.zeros_like(own)) for part in (key, value)]
            named[name.replace(f".{query}.", ".qkv.")] = torch.cat([own, *rest])
    for name in [name for name in named if name.endswith(".attn.qkv.bias_mask")]:
        del named[name]
        bias = named[name.removesuffix("_mask")].clone()
        bias[len(bias) // 3 : len(bias) // 3 * 2] = 0
        named[name.removesuffix("_mask")] = bias
    return named


def load_transformer(network: nn.Module, path: Path, architecture: str, shape: TransformerShape) -> None:
    """Load a weights file into a `VisionTransformerTaps`; blocks that it does not have need not be in the file.

    Raises:
        InputError: the file is of no transformer, of one of another size, or lacks something that is tapped.
    """
    tensors = official_names(read_tensors(path))
    todo = "give the --weights of this --backbone"

    def refuse(what: str, expected: object, found: object, todo: str = todo) -> InputError:
        return InputError(what, where=path, expected=expected, found=found, todo=todo)

    kernel, token = tensors.get("patch_embed.proj.weight"), tensors.get("cls_token")
    if kernel is None or token is None or kernel.dim() != 4:
        names = "patch_embed.proj.weight, cls_token, ... or Hugging Face's embeddings.cls_token, ..."
        raise refuse("the weights are not those of a vision transformer", names, sorted(tensors)[:2])
    if token.shape[-1] != shape.width:
        what = f"the weights are of a transformer of another size than {architecture}"
        raise refuse(what, f"{shape.width} channels", token.shape[-1])
    if kernel.shape[-1] != shape.patch:
        raise refuse(f"the weights have patches of another size than {architecture}", shape.patch, kernel.shape[-1])
    registers = tensors["register_tokens"].shape[-2] if "register_tokens" in tensors else 0
    if registers != shape.registers:
        raise refuse(f"the weights have other register tokens than {architecture}", shape.registers, registers)
    positions = tensors.get("pos_embed")
    if (positions is None) != (shape.grid == 0):
        expected = "pos_embed" if shape.grid else "rotary positions, no pos_embed"
        raise refuse(f"the weights have no positions as {architecture} has them", expected, "neither or the other")
    if positions is not None and positions.shape[-2] != shape.grid**2 + 1:
        raise refuse(
            f"the weights' positions (pos_embed) are not those of {architecture}: of another grid, or with the class"
            " token's folded in",
            f"1 + {shape.grid} x {shape.grid}",
            positions.shape[-2],
        )
    own, blocks = network.state_dict(), {int(n.split(".")[1]) for n in tensors if re.match(r"blocks\.\d+\.", n)}
    needed = 1 + max(int(n.split(".")[1]) for n in own if n.startswith("blocks."))
    if blocks and max(blocks) < needed - 1:
        raise refuse(
            "the weights end before a block that is tapped",
            f"blocks 0 to {needed - 1}",
            f"0 to {max(blocks)}",
            "tap earlier --layers, or give --weights of a whole backbone",
        )
    missing = sorted(n for n in own if n not in tensors and n != "rope_embed.periods")
    deeper = tuple(f"blocks.{index}." for index in blocks if index >= needed)
    unknown = sorted(n for n in tensors if n not in own and not n.startswith(deeper))
    if missing or unknown:
        raise refuse(
            "the weights do not fit this backbone",
            f"tensors named as in the official {architecture}, or as in Hugging Face's",
            f"{len(missing)} missing (first: {missing[:2]}), {len(unknown)} unknown (first: {unknown[:2]})",
        )
    load_exactly(network, {name: tensor for name, tensor in tensors.items() if name in own}, path)
