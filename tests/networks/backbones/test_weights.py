"""Weights files: where they are looked for, what they may hold, and what is said about those that do not fit."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest
import torch
from plain_resnet import plain_taps, varied_taps
from torch import Tensor

from medad_plugins.errors import InputError
from medad_plugins.networks import ResNetTaps, find_weights, load_pretrained

RESNET18 = "resnet18-f37072fd.pth"


@pytest.fixture(scope="module")
def complete() -> dict[str, Tensor]:
    """State dict as torchvision publishes it, with its classifier."""
    state = varied_taps("resnet18").state_dict()
    return {**state, "fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}


@pytest.fixture(scope="module")
def backbone() -> ResNetTaps:
    """For files that are refused: nothing is loaded into it."""
    return ResNetTaps("resnet18", 2, 3, 1)


@pytest.fixture
def no_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any weights; its torch home."""
    monkeypatch.delenv("MEDAD_WEIGHTS", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch"


def _file(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).touch()
    return folder / name


def test_none_means_no_file() -> None:
    assert find_weights("none", "resnet18") is None


def test_a_path_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_weights(str(_file(tmp_path, "own.pth")), "resnet18") == tmp_path / "own.pth"
    assert find_weights("~/own.pth", "resnet18") == tmp_path / "own.pth"


def test_a_missing_path_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"weights file does not exist: .*absent\.pth.*imagenet.*'none'"):
        find_weights(str(tmp_path / "absent.pth"), "resnet18")


def test_a_known_name_is_looked_for_in_the_folder_of_the_variable_then_in_the_hub_cache(
    no_folders: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    in_cache = _file(no_folders / "hub" / "checkpoints", RESNET18)
    assert find_weights("imagenet", "resnet18") == in_cache
    monkeypatch.setenv("MEDAD_WEIGHTS", str(tmp_path / "weights"))
    assert find_weights("imagenet", "resnet18") == in_cache
    in_folder = _file(tmp_path / "weights", RESNET18)
    assert find_weights("imagenet", "resnet18") == in_folder


@pytest.mark.parametrize(
    ("architecture", "name", "digits"),
    [
        ("resnet18", RESNET18, "f37072fd"),
        ("resnet34", "resnet34-b627a593.pth", "b627a593"),
        ("resnet50", "resnet50-0676ba61.pth", "0676ba61"),
        ("wide_resnet50_2", "wide_resnet50_2-95faca4d.pth", "95faca4d"),
    ],
)
def test_where_no_file_is_the_error_names_it_and_its_places(
    no_folders: Path, architecture: str, name: str, digits: str
) -> None:
    with pytest.raises(InputError) as raised:
        find_weights("imagenet", architecture)
    text = str(raised.value)
    assert name in text and f"starts with {digits})" in text and re.search(r"\d+ MB", text)
    assert "MEDAD_WEIGHTS" in text and str(no_folders / "hub" / "checkpoints") in text and "--weights none" in text


def test_a_backbone_without_known_weights_is_an_input_error() -> None:
    with pytest.raises(InputError, match="no imagenet weights are known for this backbone: resnet99"):
        find_weights("imagenet", "resnet99")


def test_the_network_finds_its_weights_by_name(no_folders: Path, complete: dict[str, Tensor]) -> None:
    torch.save(complete, _file(no_folders / "hub" / "checkpoints", RESNET18))
    network = ResNetTaps("resnet18", 2, 3, 1, weights="imagenet")
    assert torch.equal(network.conv1.weight, complete["conv1.weight"])


@pytest.mark.parametrize("stages", [3, 4])
def test_a_complete_file_fits_backbones_that_end_earlier(
    complete: dict[str, Tensor], tmp_path: Path, stages: int, caplog: pytest.LogCaptureFixture
) -> None:
    torch.save(complete, tmp_path / "complete.pth")
    network = ResNetTaps("resnet18", 2, 3, stages, weights=str(tmp_path / "complete.pth"))
    state = network.state_dict()
    unused = "fc." if stages == 4 else ("fc.", "layer4.")
    assert set(state) == {name for name in complete if not name.startswith(unused)}
    assert all(torch.equal(value, complete[name]) for name, value in state.items())
    assert not caplog.records


@pytest.mark.parametrize("wrapper", ["state_dict", "model"])
def test_wrapped_files_of_parallel_networks(complete: dict[str, Tensor], tmp_path: Path, wrapper: str) -> None:
    torch.save({wrapper: {f"module.{n}": v for n, v in complete.items()}, "epoch": 3}, tmp_path / "wrapped.pth")
    network = ResNetTaps("resnet18", 2, 3, weights=str(tmp_path / "wrapped.pth"))
    assert all(torch.equal(value, complete[name]) for name, value in network.state_dict().items())


def test_a_stage_may_be_missing_only_where_it_is_optional(
    complete: dict[str, Tensor], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "to_layer3.pth"
    torch.save({n: v for n, v in complete.items() if not n.startswith(("fc.", "layer4"))}, path)
    with pytest.raises(InputError, match=r"lack a stage that this method taps: .*expected layer4.; give"):
        ResNetTaps("resnet18", 2, 3, weights=str(path))
    network = ResNetTaps("resnet18", 2, 3, weights=str(path), optional_stages=("layer4",))
    assert torch.equal(network.state_dict()["layer3.1.conv2.weight"], complete["layer3.1.conv2.weight"])
    assert caplog.messages == ["to_layer3.pth has no layer4: initialised at random."]


def test_part_of_an_optional_stage_is_not_enough(complete: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "part.pth"
    torch.save({n: v for n, v in complete.items() if n != "layer4.1.conv2.weight"}, path)
    with pytest.raises(InputError, match=r"found 1 missing \(first: \['layer4.1.conv2.weight'\]\), 0 unknown"):
        ResNetTaps("resnet18", 2, 3, weights=str(path), optional_stages=("layer4",))


def test_missing_and_unknown_tensors_are_counted(complete: dict[str, Tensor], tmp_path: Path) -> None:
    state = {n: v for n, v in complete.items() if n not in ("bn1.running_mean", "layer1.0.conv1.weight")}
    torch.save({**state, "layer1.0.conv9.weight": torch.zeros(1)}, tmp_path / "odd.pth")
    expected = (
        r"expected 100 tensors.*found 2 missing \(first: \['bn1.running_mean', 'layer1.0.conv1.weight'\]\), "
        r"1 unknown \(first: \['layer1.0.conv9.weight'\]\)"
    )
    with pytest.raises(InputError, match=expected):
        load_pretrained(ResNetTaps("resnet18", 2, 3), tmp_path / "odd.pth")


def test_another_architecture_does_not_fit(complete: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(complete, tmp_path / "resnet18.pth")
    with pytest.raises(InputError, match="do not fit this backbone.*give the --weights of this --backbone"):
        ResNetTaps("resnet34", 2, 3, weights=str(tmp_path / "resnet18.pth"))


def test_a_tensor_of_another_shape_is_named(complete: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({**complete, "layer2.0.bn1.weight": torch.ones(64)}, tmp_path / "wide.pth")
    with pytest.raises(InputError, match=r"layer2.0.bn1.weight.*expected \(128,\), found \(64,\)"):
        ResNetTaps("resnet18", 2, 3, weights=str(tmp_path / "wide.pth"))


def test_a_refused_file_changes_nothing(complete: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({**complete, "layer4.1.bn2.bias": torch.ones(3)}, tmp_path / "odd.pth")
    network = ResNetTaps("resnet18", 2, 3)
    before = network.conv1.weight.clone()
    with pytest.raises(InputError):
        load_pretrained(network, tmp_path / "odd.pth")
    assert torch.equal(network.conv1.weight, before)


def test_kernels_are_inflated_and_spread(complete: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(complete, tmp_path / "flat.pth")
    network = ResNetTaps("resnet18", 3, 1, 1, weights=str(tmp_path / "flat.pth"))
    kernel = network.state_dict()["layer1.0.conv1.weight"]
    assert kernel.shape == (64, 64, 3, 3, 3)
    for offset in range(3):
        torch.testing.assert_close(kernel[:, :, offset], complete["layer1.0.conv1.weight"] / 3)
    five = ResNetTaps("resnet18", 3, 5, 1, weights=str(tmp_path / "flat.pth")).state_dict()["conv1.weight"]
    assert five.shape == (64, 5, 7, 7, 7)
    for channel in range(5):
        torch.testing.assert_close(five[:, channel, 3], complete["conv1.weight"].sum(1) / 5 / 7)


def test_a_one_channel_file_in_three_channels(complete: dict[str, Tensor], tmp_path: Path) -> None:
    """MedicalNet's files have one input channel."""
    torch.save({**complete, "conv1.weight": complete["conv1.weight"].sum(1, keepdim=True)}, tmp_path / "grey.pth")
    kernel = ResNetTaps("resnet18", 2, 1, 1, weights=str(tmp_path / "grey.pth")).state_dict()["conv1.weight"]
    torch.testing.assert_close(kernel.sum(1), complete["conv1.weight"].sum(1))


class WritesFile:
    """An object whose unpickling writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("kind", ["zip", "pickle 2", "pickle 4"])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_code_in_a_file_does_not_run(
    backbone: ResNetTaps, complete: dict[str, Tensor], tmp_path: Path, kind: str
) -> None:
    trace, path = tmp_path / "code_has_run", tmp_path / "code.pth"
    if kind == "zip":
        torch.save({**complete, "conv1.weight": WritesFile(trace)}, path)
    else:
        path.write_bytes(pickle.dumps({"conv1.weight": WritesFile(trace)}, protocol=int(kind[-1])))
    # PyTorch reads no pickle of protocol 4 at all, with or without code
    text = "cannot be read" if kind == "pickle 4" else "holds more than tensors and plain values, which could run code"
    with pytest.raises(InputError, match=rf"the weights file {text}.*code\.pth"):
        load_pretrained(backbone, path)
    assert not trace.exists()
    # the file is what this test says it is
    content = torch.load(path, weights_only=False) if kind == "zip" else pickle.loads(path.read_bytes())
    content["conv1.weight"].close()
    assert trace.exists()


def _unreadable(name: str, complete: dict[str, Tensor], path: Path) -> None:
    torch.save(complete, path)
    content = path.read_bytes()
    path.write_bytes(
        {
            "half": content[: len(content) // 2],
            "empty": b"",
            "page": b"<html>404 not found</html>",
            "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:6b26\nsize 11179541\n",
            "noise 1": bytes(range(113, 256)),
            "noise 2": b"\x80\x02h\x07.",
            "noise 3": b"J\x00",
        }[name]
    )


@pytest.mark.parametrize("name", ["half", "empty", "page", "pointer", "noise 1", "noise 2", "noise 3"])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_an_unreadable_file_is_an_input_error(
    name: str, backbone: ResNetTaps, complete: dict[str, Tensor], tmp_path: Path
) -> None:
    _unreadable(name, complete, tmp_path / "file.pth")
    with pytest.raises(InputError, match=r"the weights file cannot be read: .*file\.pth.*truncated or foreign"):
        load_pretrained(backbone, tmp_path / "file.pth")


@pytest.mark.parametrize("content", [[torch.zeros(1)], {"epoch": 3}, torch.zeros(2)])
def test_a_file_without_a_state_dict(content: object, backbone: ResNetTaps, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"holds no state dict: .*other\.pth"):
        load_pretrained(backbone, tmp_path / "other.pth")


def test_real_weights_give_the_features_of_the_network_written_out(shared_data: Path) -> None:
    path = shared_data / "weights" / "resnet18_imagenet_stem_to_layer3_bnfolded.pth"
    network = ResNetTaps("resnet18", 2, 1, 3, weights=str(path)).eval().double()
    image = torch.rand(1, 1, 64, 48, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    state = {name: value.double() for name, value in torch.load(path, weights_only=True).items()}
    with torch.no_grad():
        expected = plain_taps(state, "resnet18", image.expand(-1, 3, -1, -1), stages=3)
        for tap, plain in zip(network(image), expected, strict=True):
            assert plain.std() > 0.01
            torch.testing.assert_close(tap, plain, rtol=1e-6, atol=1e-6)


def test_real_weights_leave_the_last_stage_to_chance(shared_data: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = str(shared_data / "weights" / "resnet18_imagenet_stem_to_layer3_bnfolded.pth")
    with pytest.raises(InputError, match="layer4"):
        ResNetTaps("resnet18", 2, 1, 4, weights=path)
    ResNetTaps("resnet18", 2, 1, 4, weights=path, optional_stages=("layer4",))
    assert "has no layer4: initialised at random" in caplog.text
