"""Weights files of vision transformers: both layouts, fewer blocks than published, and what is said about others."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from plain_transformer import hugging_face, varied_transformer
from torch import Tensor

from medad_plugins.errors import InputError
from medad_plugins.networks import VisionTransformerTaps

State = dict[str, Tensor]
TYPES = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16"}
SHARED = "vit_small_patch14_dinov2_derived_blocks0to8_fp16.pth"


def write_safetensors(state: Mapping[str, Tensor], path: Path) -> None:
    """The format as it is described: a length, a header, raw numbers."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    content = b""
    for name, value in state.items():
        raw = value.contiguous().numpy().tobytes()
        places = [len(content), len(content) + len(raw)]
        header[name] = {"dtype": TYPES[value.dtype], "shape": list(value.shape), "data_offsets": places}
        content += raw
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content)


@pytest.fixture(scope="module")
def official() -> State:
    """The first two blocks of a small DINOv2, as the official file names them."""
    state = {name: value.float() for name, value in varied_transformer("dinov2_vits14", [1]).state_dict().items()}
    return {**state, "mask_token": torch.zeros(1, 384)}


def _equal(network: VisionTransformerTaps, state: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(value, state[name].to(value)) for name, value in network.state_dict().items())


def test_the_official_layout(official: State, tmp_path: Path) -> None:
    unused = {"norm.weight": torch.ones(384), "norm.bias": torch.zeros(384), "blocks.7.ls1.gamma": torch.ones(384)}
    torch.save({**official, **unused}, tmp_path / "official.pth")
    network = VisionTransformerTaps("dinov2_vits14", in_channels=3, layers=[1], weights=str(tmp_path / "official.pth"))
    assert _equal(network, official)
    # of a whole file, the blocks that are not tapped are left out
    first = VisionTransformerTaps("dinov2_vits14", in_channels=3, layers=[0], weights=str(tmp_path / "official.pth"))
    assert len(first.blocks) == 1 and _equal(first, official)


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
@pytest.mark.parametrize(
    ("architecture", "family"),
    [
        ("dinov2_vits14", "dinov2"),
        ("dinov2_vits14_reg", "dinov2"),
        ("dino_vits8", "vit"),
        ("dinov3_vits16", "dinov3_vit"),
    ],
)
def test_hugging_faces_layout_is_the_official_one(architecture: str, family: str, ending: str, tmp_path: Path) -> None:
    state = {name: value.float() for name, value in varied_transformer(architecture, [1]).state_dict().items()}
    state["blocks.1.attn.qkv.bias"][384:768] *= family != "dinov3_vit"  # DINOv3's keys have no bias
    state["blocks.0.attn.qkv.bias"][384:768] *= family != "dinov3_vit"
    converted, path = hugging_face(state, family), tmp_path / f"model.{ending}"
    assert not set(converted) & set(state)
    if ending == "pth":
        torch.save(converted, path)
    else:
        write_safetensors(converted, path)
    network = VisionTransformerTaps(architecture, in_channels=3, layers=[0, 1], weights=str(path))
    assert _equal(network, state)


@pytest.mark.parametrize("prefix", ["module.", "dinov2.", "backbone.", "model."])
def test_wrapped_names(official: State, prefix: str, tmp_path: Path) -> None:
    torch.save({f"{prefix}{name}": value for name, value in official.items()}, tmp_path / "wrapped.pth")
    network = VisionTransformerTaps("dinov2_vits14", in_channels=3, layers=[1], weights=str(tmp_path / "wrapped.pth"))
    assert _equal(network, official)


def test_dinov3s_own_names_and_masked_biases(tmp_path: Path) -> None:
    state = {name: value.float() for name, value in varied_transformer("dinov3_vits16", [0]).state_dict().items()}
    masked = {"storage_tokens" if name == "register_tokens" else name: value for name, value in state.items()}
    masked["blocks.0.attn.qkv.bias_mask"] = torch.cat([torch.ones(384), torch.zeros(384), torch.ones(384)])
    masked["rope_embed.periods"] = state["rope_embed.periods"].bfloat16().float()
    torch.save(masked, tmp_path / "official.pth")
    network = VisionTransformerTaps("dinov3_vits16", in_channels=3, layers=[0], weights=str(tmp_path / "official.pth"))
    bias = network.state_dict()["blocks.0.attn.qkv.bias"]
    assert not bool(bias[384:768].any())
    assert torch.equal(bias[:384], state["blocks.0.attn.qkv.bias"][:384])
    assert torch.equal(network.register_tokens, state["register_tokens"])
    assert torch.equal(network.state_dict()["rope_embed.periods"], masked["rope_embed.periods"])


def test_kernels_are_spread_over_other_channels(official: State, tmp_path: Path) -> None:
    torch.save(official, tmp_path / "official.pth")
    network = VisionTransformerTaps("dinov2_vits14", in_channels=4, layers=[0], weights=str(tmp_path / "official.pth"))
    kernel = network.state_dict()["patch_embed.proj.weight"]
    torch.testing.assert_close(
        kernel, official["patch_embed.proj.weight"].sum(1, keepdim=True).expand(-1, 4, -1, -1) / 4
    )


Change = Callable[[State], State]
WITHOUT: Callable[[str], Change] = lambda start: lambda s: {n: v for n, v in s.items() if not n.startswith(start)}  # noqa: E731


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda s: {**s, "cls_token": torch.zeros(1, 1, 768)}, "another size than .*expected 384 channels, found 768"),
        (lambda s: {**s, "patch_embed.proj.weight": torch.zeros(384, 3, 16, 16)}, "patches of another size .*found 16"),
        (lambda s: {**s, "register_tokens": torch.zeros(1, 4, 384)}, "other register tokens .*expected 0, found 4"),
        (lambda s: {**s, "pos_embed": s["pos_embed"][:, 1:]}, "class token's folded in.*1 . 37 x 37, found 1369"),
        (lambda s: {**s, "pos_embed": s["pos_embed"][:, :257]}, "positions .*of another grid.*found 257"),
        (WITHOUT("pos_embed"), "no positions as dinov2_vits14 has them.*pos_embed"),
        (WITHOUT("blocks.1."), r"end before a block that is tapped.*blocks 0 to 1, found 0 to 0.; tap earlier"),
        (WITHOUT("blocks.0.norm1"), r"do not fit.*found 2 missing \(first: .'blocks.0.norm1.bias'"),
        (WITHOUT("blocks.0.ls"), "do not fit.*found 2 missing"),
        (lambda s: {**s, "blocks.1.odd": torch.ones(1)}, r"do not fit.*0 missing.*1 unknown \(first: .'blocks.1.odd'"),
        (lambda s: {**s, "blocks.1.norm1.bias": torch.ones(3)}, r"blocks.1.norm1.bias .*another shape.*found \(3,\)"),
        (lambda s: {"layer1.0.conv1.weight": torch.ones(1)}, "not those of a vision transformer: .*found .'layer1.0"),
    ],
)  # fmt: skip
def test_files_that_do_not_fit(official: State, change: Change, text: str, tmp_path: Path) -> None:
    torch.save(change(dict(official)), tmp_path / "odd.pth")
    with pytest.raises(InputError, match=text) as raised:
        VisionTransformerTaps("dinov2_vits14", in_channels=3, layers=[1], weights=str(tmp_path / "odd.pth"))
    assert "odd.pth" in str(raised.value) and str(raised.value).endswith(".")


def test_positions_where_angles_are_expected(official: State, tmp_path: Path) -> None:
    kernel = {"patch_embed.proj.weight": torch.zeros(384, 3, 16, 16), "register_tokens": torch.zeros(1, 4, 384)}
    torch.save({**official, **kernel}, tmp_path / "odd.pth")
    with pytest.raises(InputError, match="no positions as dinov3_vits16 has them.*rotary"):
        VisionTransformerTaps("dinov3_vits16", in_channels=3, layers=[1], weights=str(tmp_path / "odd.pth"))


@pytest.mark.parametrize("damage", ["half", "empty", "page", "offsets"])
def test_unreadable_safetensors(official: State, damage: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_safetensors(official, path)
    content = path.read_bytes()
    place = re.search(rb'"data_offsets": \[0, ', content)
    assert place
    path.write_bytes(
        {
            "half": content[: len(content) // 2],
            "empty": b"",
            "page": b"<html>404 not found</html>",
            "offsets": content[: place.end() - 3] + b"7" + content[place.end() - 2 :],
        }[damage]
    )
    with pytest.raises(InputError, match=r"the weights file cannot be read: .*model.safetensors.*truncated or foreign"):
        VisionTransformerTaps("dinov2_vits14", layers=[1], weights=str(path))


def test_real_weights_up_to_block_8(shared_data: Path) -> None:
    path = str(shared_data / "weights" / SHARED)
    network = VisionTransformerTaps("dinov2_vits14", weights=path)
    assert network.layers == [8]
    scans = torch.rand(3, 1, 70, 70, generator=torch.Generator().manual_seed(0)) * 0.1
    scans[1, :, 20:50, 20:50] += 0.6  # a square
    scans[2] += torch.linspace(0, 0.9, 70)  # a ramp
    with torch.no_grad():
        (tap,), (class_token,) = network.with_class_tokens(scans)
    assert tap.shape == (3, 384, 5, 5) and bool(tap.isfinite().all()) and bool(class_token.isfinite().all())
    unit = torch.nn.functional.normalize(tap, dim=1)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert float((unit[one] * unit[other]).sum(0).mean()) < 0.95
    # tokens inside the square are alike, and unlike those outside of it
    inside, corner = unit[1, :, 2, 2], unit[1, :, 0, 0]
    assert float(inside @ corner) < 0.9
    with pytest.raises(InputError, match="end before a block that is tapped.*blocks 0 to 11, found 0 to 8"):
        VisionTransformerTaps("dinov2_vits14", weights=path, layers=[11])
