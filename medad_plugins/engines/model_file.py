"""The one file that a trained bundle is: weights, fitted state, calibration, and the settings to rebuild it from."""

from __future__ import annotations

import hashlib
import json
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import cached_property, partial
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import nn

import medad_plugins
from medad_plugins.data.scan_format import ScanFormat
from medad_plugins.errors import InputError
from medad_plugins.files import read_torch, write_torch
from medad_plugins.manifest import Manifest
from medad_plugins.networks import by_tiles
from medad_plugins.networks.along_axes import AlongAxes
from medad_plugins.versions import require_bundle_fits, require_fits

__all__ = ["ModelFile", "save_model", "save_state_dict", "write_model"]

_REQUIRED = object()
# how scans came to models that do not say it
_BEFORE = {"orientation": "stored"}
# under this name the rest of a model file's entries hang on its state dict, where that is all that the file may be
_ATTRIBUTE = "medad"


def _bundle_root(path: Path) -> Path:
    """The folder of the bundle that a model file belongs to by its place, ``<root>/models/<name>``."""
    return Path(os.path.abspath(path)).parent.parent


def save_model(path: str | Path, network: nn.Module, bundle: str, settings: Mapping[str, Any]) -> None:
    """Write the model file of a network, see `write_model`.

    Args:
        path: where; its folder is there already.
        network: what to save, with its calibration.
        bundle: the bundle's name, checked on loading.
        settings: plain values by name that the network is rebuilt from, and ``image_size``.

    Example:
        >>> network = torch.nn.Linear(2, 1)
        >>> save_model("model.pt", network, "mine", {"network": {"in_features": 2, "out_features": 1}})
        >>> from medad_plugins.engines import ModelFile
        >>> ModelFile("model.pt", "mine").setting("in_features")
        2
    """
    content = {
        "model": network.state_dict(),
        "bundle": bundle,
        "settings": dict(settings),
        "medad_version": medad_plugins.__version__,
    }
    write_model(path, content)


def write_model(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write a model file atomically; in a packaged bundle the manifest then lists it.

    Args:
        path: where; its folder is there already.
        content: of a `ModelFile`.
    """
    manifest, place = Manifest.of_bundle(_bundle_root(Path(path))), Path(os.path.abspath(path))
    if manifest is None:
        write_torch(path, content)
        return
    # a process that ends in between leaves one of the two models that the manifest then knows
    write_torch(path, content, before=lambda new: manifest.expect(place, new))
    manifest.record(place)


def save_state_dict(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write a model file that is a plain state dict for readers that need no more, e.g. the Model Zoo's checks.

    All else hangs on it as an attribute, as PyTorch's own module versions do, and `ModelFile` reads it like the other.

    Args:
        path: where.
        content: of a `ModelFile`.
    """
    state = OrderedDict(content["model"])
    setattr(state, _ATTRIBUTE, {name: value for name, value in content.items() if name != "model"})
    write_torch(path, state, "--output_dir")


class ModelFile:
    """A trained bundle's ``model.pt``, opened when first needed and never running code from the file.

    Args:
        path: the file.
        bundle: name of the bundle that loads it; empty takes a model of any bundle.

    Raises:
        InputError: when read, for a missing, truncated or foreign file, a file with code in it, another bundle's, one
            that is not what the bundle's manifest lists, or one for another version of this package.

    Example:
        >>> from medad_plugins.engines import save_model
        >>> from medad_plugins.methods.padim import PaDiM
        >>> arguments = {"backbone": "resnet10", "dimensions": 8}
        >>> settings = {"network": arguments, "image_size": 64}
        >>> save_model("model.pt", PaDiM(weights="none", **arguments), "padim", settings)
        >>> file = ModelFile("model.pt", "padim")
        >>> file.setting("image_size"), type(file.rebuild(PaDiM)).__name__
        (64, 'PaDiM')
    """

    def __init__(self, path: str | Path, bundle: str) -> None:
        self.path, self.bundle = Path(path), bundle

    @cached_property
    def content(self) -> dict[str, Any]:
        """The checked content."""
        if self.path.is_dir():
            todo = "give the file in it as --ckpt_path"
            raise InputError(
                "this is a folder and no model", where=self.path, expected="a file, e.g. model.pt", todo=todo
            )
        if not self.path.is_file():
            name = self.bundle or "<name>"
            train = f"python -m monai.bundle run --config_file bundles/{name}/configs/train.yaml"
            raise InputError(
                "there is no trained model",
                where=self.path,
                todo=f"train one with '{train}', or give --ckpt_path",
            )
        root = _bundle_root(self.path)
        # hosts that never run a configuration's first step come by here too
        require_bundle_fits(root)
        manifest = Manifest.of_bundle(root)
        if manifest is not None:
            manifest.verify(Path(os.path.abspath(self.path)))
        content = read_torch(self.path, "model file", "use a model.pt written by a MedAD bundle")
        if hasattr(content, _ATTRIBUTE):
            content = {"model": content, **getattr(content, _ATTRIBUTE)}
        keys = {"model", "bundle", "settings"}
        if not isinstance(content, dict) or not keys <= content.keys():
            raise InputError("the file is not a MedAD model", where=self.path, expected=f"the entries {sorted(keys)}")
        if self.bundle and content["bundle"] != self.bundle:
            raise InputError(
                "the model belongs to another bundle",
                where=self.path,
                expected=self.bundle,
                found=content["bundle"],
                todo="give the --ckpt_path of this bundle",
            )
        require_fits(content.get("medad_version"), "model", self.path)
        return content

    @cached_property
    def sha256(self) -> str:
        """Hash of bundle, settings and values: the same for a model wherever and however it is kept, e.g. packaged."""
        content = self.content
        digest = hashlib.sha256(
            json.dumps([content["bundle"], content["settings"]], sort_keys=True, default=str).encode()
        )
        for name, value in sorted(content["model"].items()):
            values = value.detach().cpu().contiguous()
            digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
            digest.update(values.reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def setting(self, name: str, default: Any = _REQUIRED) -> Any:
        """A value that the model was trained with, e.g. ``image_size`` or one of its network's arguments.

        Args:
            name: of the setting.
            default: what a model that does not say it was trained with.

        Raises:
            InputError: if the model does not say it and there is no default.
        """
        settings = {**self.content["settings"]["network"], **self.content["settings"]}
        if name not in settings and default is not _REQUIRED:
            return default
        if name not in settings:
            raise InputError(f"the model does not say its {name}", where=self.path, todo="train it again")
        return settings[name]

    @property
    def cuts_volumes(self) -> bool:
        """Whether it is a network for each axis of volumes, see `AlongAxes`."""
        return any(name.startswith("axes.2.") for name in self.content["model"])

    def scan(self, **changes: Any) -> ScanFormat:
        """How scans came to the network in training.

        Args:
            changes: of that, by name.
        """
        names = [field.name for field in fields(ScanFormat)]
        settings = {**_BEFORE, **self.content["settings"]["network"], **self.content["settings"]}
        return ScanFormat(**{**{name: settings[name] for name in names if name in settings}, **changes})

    def rebuild(self, network: Callable[..., nn.Module], scan: ScanFormat | None = None, **changes: Any) -> Any:
        """The network as it was trained, in eval mode; pretrained weights are not loaded again.

        Args:
            network: its class. Where it has ``renamed_settings``, older names of its arguments with those that they
                have now, a file with the older ones is read too.
            scan: how scans come to it now; None leaves it as it was trained.
            changes: settings to replace.

        Raises:
            InputError: if the file does not fit the class, or its 2D network was trained on scans that stand otherwise.
        """
        if scan is not None and scan.network_dims == 2:
            self._require_orientation(scan.orientation)
        renamed: Mapping[str, str] = getattr(network, "renamed_settings", {})
        saved = {renamed.get(name, name): value for name, value in self.content["settings"]["network"].items()}
        stored = self.setting("orientation", _BEFORE["orientation"]) == "stored"
        settings = {**saved, **_fitting(network, scan, stored), **changes}
        try:
            scan = self.scan() if scan is None else scan
            rebuilt = AlongAxes(partial(network, **settings), scan.paired) if self.cuts_volumes else network(**settings)
            rebuilt = by_tiles(rebuilt, scan)
            rebuilt.load_state_dict(self.content["model"], strict=True)
        except (TypeError, ValueError, RuntimeError) as error:
            other = {k: value for k, value in settings.items() if k in saved and saved[k] != value and k != "weights"}
            if other:
                raise InputError(
                    "the model was trained with another setting",
                    where=self.path,
                    expected=", ".join(f"{key} {saved[key]}" for key in other),
                    found=", ".join(f"{key} {value}" for key, value in other.items()),
                    todo=f"leave out --{' and --'.join(other)}",
                ) from error
            raise InputError(
                "the model does not fit the network of this bundle",
                where=self.path,
                expected=f"the state of {getattr(network, '__name__', network)} with {settings}",
                found=str(error).splitlines()[0],
                todo="train it again with this version",
            ) from error
        return rebuilt.eval()

    def _require_orientation(self, orientation: str) -> None:
        """A configuration without the key, of an older bundle, would show an older model turned scans."""
        trained = self.setting("orientation", _BEFORE["orientation"])
        if orientation != trained:
            raise InputError(
                "the model was trained on scans that stand otherwise",
                where=self.path,
                expected=f"orientation {trained}",
                found=orientation,
                todo="leave --orientation out, or take the bundle's newest configs/inference.yaml",
            )


def _fitting(network: Callable[..., nn.Module], scan: ScanFormat | None, stored: bool) -> dict[str, Any]:
    """Those of a network's arguments that follow from the scans, and no pretrained weights."""
    known: dict[str, Any] = {"weights": "none", "columns_first": stored}
    if scan is not None:
        known |= {"spatial_dims": scan.network_dims, "in_channels": scan.in_channels, "image_size": scan.network_edges}
    taken = signature(network).parameters
    return {name: value for name, value in known.items() if name in taken}
