"""Several detectors as one."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import import_module
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.data import ScanFormat
from medad_plugins.data.volume_slices import ALL_AXES
from medad_plugins.engines import ModelFile, gather_list
from medad_plugins.errors import InputError
from medad_plugins.networks import AnomalyNetwork
from medad_plugins.protocols import Fittable
from medad_plugins.scorers import GaussianSmoothing, MergedPValues, NormalRanks

__all__ = ["Ensemble", "HeldOutRanks", "ensemble_size", "member_settings", "method_class", "with_member_states"]

_PIXELS = 20_000  # of each held-out map
_TIE = 1e-3  # of a decade: weight of what tells cases of equal ranks apart


def method_class(bundle: str) -> type[AnomalyNetwork]:
    """The network class of a bundle, by the bundle's name; only modules of `medad_plugins.methods` are imported.

    Raises:
        InputError: there is no such method.

    Example:
        >>> method_class("padim").__name__
        'PaDiM'
    """
    found: list[type[AnomalyNetwork]] = []
    if re.fullmatch(r"[a-z][a-z0-9_]*", bundle):
        name = f"medad_plugins.methods.{bundle}"
        try:
            module = import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
        else:
            parts = [getattr(module, part) for part in getattr(module, "__all__", ())]
            found = [part for part in parts if inspect.isclass(part) and issubclass(part, AnomalyNetwork)]
    if len(found) != 1:
        todo = "give the name of a bundle that is fitted in one pass, e.g. padim, or the path of a model.pt"
        raise InputError("there is no such method for a member of the ensemble", where=bundle, todo=todo)
    return found[0]


class Member(nn.Module):
    """A detector in the ensemble, on the grid it was trained on, with the ranks of held-out normal scans.

    Args:
        network: the detector.
        size: its grid; other grids are brought to it as scans are to a network's, and its map back.

    Shape:
        ``(B, C, *spatial)`` to p-values ``(B,)``, places ``(B,)``, the map's rarity ``(B, 1, *spatial)`` and, ``()``,
        whether it localizes, see `NormalRanks`.
    """

    def __init__(self, network: AnomalyNetwork, size: Sequence[int], image_size: Sequence[int]) -> None:
        super().__init__()
        self.network = network
        self.ranks = NormalRanks()
        self.size, self.resizes = list(size), list(size) != list(image_size)
        factor = (prod(image_size) / prod(size)) ** (1 / len(self.size))
        self.mode = "bilinear" if len(self.size) == 2 else "trilinear"
        # as scans are smoothed before they shrink
        self.smoothing = GaussianSmoothing(len(self.size), max(0.0, (factor - 1) / 2))

    def fitted_to(self, image: Tensor) -> Tensor:
        """Scans ``(B, C, *spatial)`` on the member's grid."""
        if not self.resizes:
            return image
        smooth = self.smoothing(image.flatten(0, 1).unsqueeze(1)).reshape(image.shape)
        return functional.interpolate(smooth, self.size, mode=self.mode, align_corners=False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        anomaly_map = self.network(self.fitted_to(image))
        scores = self.network.pool(anomaly_map)
        rarity = self.ranks(anomaly_map)
        if self.resizes:
            rarity = functional.interpolate(rarity, image.shape[2:], mode=self.mode, align_corners=False)
        return self.ranks.p_values(scores), self.ranks.places(scores), rarity, self.ranks.localizes


class Ensemble(AnomalyNetwork):
    """Fitted detectors whose answers are brought to one scale, ranks among held-out normal scans, and merged.

    A scan's score is ``-log10`` of the merged p-value of its members' p-values (`MergedPValues`), its map the mean of
    their maps as ranks of normal pixels (`NormalRanks`), scaled to that score. Members that do not localize leave the
    map to the others. The score is calibrated again like that of any bundle, so the final p-value is a conformal one.

    The references of the members may be the very held-out scans that it is calibrated on. Each of these meets the
    ranks with itself left out but divided by n + 1, so it looks at least as abnormal as it would with the new scan
    among the references, as full conformal prediction has it (Vovk et al., 2005). The merging is monotone, so the final
    p-value is not below that of full conformal prediction: at most a share alpha of exchangeable normal scans is
    flagged. (That much holds for the ranks; the scale beyond the highest reference is itself taken from the references,
    which simulations show to do no harm.)

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        image_size: grid of the scans.
        members: of each ``bundle``, its name, ``network``, what it is made from, ``image_size``, its own grid, and
            ``fitted``, whether it comes from a model file; see `member_settings`.
        weights: of the backbones of those that are fitted here.
        merging: one of `medad_plugins.scorers.MERGING_RULES`.
        reduction: image score, see `medad_plugins.scorers.MapPool`; the map is scaled to it.

    Reference:
        Vovk and Wang, "Combining p-values via averaging", Biometrika 2020; Vovk, Gammerman and Shafer, "Algorithmic
        learning in a random world", 2005.
    """

    judges_whole_scans = True

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        image_size: Sequence[int] = (128, 128),
        members: Sequence[Mapping[str, Any]] = (),
        weights: str = "none",
        merging: str = "harmonic",
        reduction: str | float = 0.05,
    ) -> None:
        super().__init__(reduction)
        if not members:
            todo = "give bundles or model files as --members"
            raise InputError("an ensemble needs a detector at least", where="members", found="none", todo=todo)
        if len(image_size) != spatial_dims:
            raise ValueError(f"image_size needs {spatial_dims} numbers, got {list(image_size)}.")
        self.merging = MergedPValues(merging)
        self.tie = _TIE  # TorchScript knows no module's constants
        self.to_fit = [not member.get("fitted", False) for member in members]
        self.members = nn.ModuleList(
            Member(_network(member, weights if to_fit else "none"), member["image_size"], image_size)
            for member, to_fit in zip(members, self.to_fit, strict=True)
        )
        for member, made, to_fit in zip(self.members, members, self.to_fit, strict=True):
            if to_fit and not isinstance(member.network, Fittable):
                raise InputError(
                    "this bundle is trained by gradient, so the ensemble cannot fit it on its way",
                    where=str(made["bundle"]),
                    todo="train it first, and give its model.pt as a member",
                )

    def collect(self, image: Tensor) -> None:
        """Show a batch of normal scans ``(B, C, *spatial)`` to the members that are fitted here."""
        for member, to_fit in zip(self.members, self.to_fit, strict=True):
            if to_fit:
                member.network.collect(member.fitted_to(image))  # type: ignore[operator, union-attr]

    def fit(self) -> None:
        """Fit these members to what they were shown."""
        for member, to_fit in zip(self.members, self.to_fit, strict=True):
            if to_fit:
                member.network.fit()  # type: ignore[operator, union-attr]

    def anomaly_map(self, image: Tensor) -> Tensor:
        """Mean rarity of the members' maps, scaled to ``-log10`` of the merged p-value: not negative."""
        p_values: list[Tensor] = []
        places: list[Tensor] = []
        rarity = torch.zeros_like(image[:, :1])
        plain = torch.zeros_like(rarity)
        localizing = torch.zeros((), device=image.device)
        for member in self.members:
            p_value, place, own, says_where = member(image)
            p_values.append(p_value)
            places.append(place)
            rarity = rarity + own * says_where
            plain = plain + own
            localizing = localizing + says_where
        # where no member says where, the map is what they all say
        rarity = torch.where(localizing > 0, rarity / localizing.clamp_min(1), plain / len(p_values))
        score = -torch.log10(self.merging(torch.stack(p_values, 1))) + self.tie * torch.stack(places, 1).mean(1)
        return self.scaled_to(score, rarity)


class HeldOutRanks(nn.Module):
    """Gives an ensemble's members their references: shown held-out normal scans once, as `FitAfterTraining` does it.

    Args:
        ensemble: with fitted members.
    """

    def __init__(self, ensemble: Ensemble) -> None:
        super().__init__()
        self.ensemble = ensemble
        self.scores: list[list[float]] = [[] for _ in ensemble.members]
        self.pixels: list[list[np.ndarray]] = [[] for _ in ensemble.members]
        self.varies: list[bool] = [False for _ in ensemble.members]

    @torch.no_grad()
    def collect(self, image: Tensor) -> None:
        """Add a batch of held-out normal scans ``(B, C, *spatial)``."""
        for i, member in enumerate(self.ensemble.members):
            network: Any = member.network
            anomaly_map = network(member.fitted_to(image))  # type: ignore[operator]
            self.scores[i] += network.pool(anomaly_map).tolist()
            flat = anomaly_map.flatten(1)
            self.varies[i] |= bool((flat.amax(1) > flat.amin(1)).any())
            self.pixels[i] += [_drawn(values).cpu().numpy() for values in flat]

    def fit(self) -> None:
        """Keep their ranks; with several processes those of the scans of all.

        Raises:
            InputError: no scan was shown, or the scores of a member are not finite.
        """
        for i, member in enumerate(self.ensemble.members):
            scores, pixels = gather_list(self.scores[i]), gather_list(self.pixels[i])
            varies = any(gather_list([self.varies[i]]))
            values = torch.from_numpy(np.concatenate(pixels)) if pixels else torch.empty(0)
            ranks: Any = member.ranks
            try:
                ranks.fit(torch.tensor(scores), values, varies)
            except ValueError as error:
                raise InputError(
                    "a member of the ensemble cannot be ranked among normal scans",
                    where=f"member {i + 1}",
                    found=str(error).rstrip("."),
                    todo="hold out normal scans that can be read, or leave this member out",
                ) from error
        self.scores = [[] for _ in self.scores]
        self.pixels = [[] for _ in self.pixels]


def _drawn(values: Tensor) -> Tensor:
    if values.numel() <= _PIXELS:
        return values
    generator = torch.Generator().manual_seed(0)
    return values[torch.randint(values.numel(), (_PIXELS,), generator=generator).to(values.device)]


def _network(member: Mapping[str, Any], weights: str) -> AnomalyNetwork:
    kind = method_class(str(member["bundle"]))
    settings = dict(member["network"])
    if "weights" in inspect.signature(kind).parameters:
        settings["weights"] = weights
    return kind(**settings)


def _is_file(member: str) -> bool:
    return "/" in member or "\\" in member or member.endswith(".pt") or Path(member).is_file()


def _listed(members: str | Sequence[str]) -> list[str]:
    return [members] if isinstance(members, str) else [str(member) for member in members]


def ensemble_size(members: str | Sequence[str], default: int) -> int | list[int]:
    """The grid for an ensemble: along every axis the finest of its model files', else the default.

    Args:
        members: as `member_settings` takes them.
        default: of bundles that are fitted here alone.
    """
    sizes = [ModelFile(member, "").scan().edges for member in _listed(members) if _is_file(member)]
    return [max(edges) for edges in zip(*sizes, strict=True)] if sizes else default


def member_settings(
    members: str | Sequence[str], scan: ScanFormat, backbone: str, calibration: str = "held_out"
) -> list[dict[str, Any]]:
    """What an ensemble is made from: plain values for its model file.

    Args:
        members: names of bundles that are fitted on the way, in the form of their class's own defaults, and paths of
            model files.
        scan: how scans come to the ensemble; but for the image size it must be as the members' were trained.
        backbone: of those that are fitted here.
        calibration: of the ensemble, see `medad_plugins.data.Cohort`.

    Raises:
        InputError: a file is no model, or its detector sees scans otherwise than the ensemble; no such bundle; model
            files with a cross calibration.
    """
    if calibration == "cross" and any(map(_is_file, _listed(members))):
        raise InputError(
            "members from model files have seen the scans that a cross calibration would hold out",
            where="--calibration cross",
            todo="hold out normal scans, or give names of bundles that are fitted here",
        )
    if scan.slice_axis == ALL_AXES:
        expected = "0, 1, 2 or null"
        raise InputError("an ensemble takes slices of one axis", where="slice_axis", expected=expected, found=ALL_AXES)
    found = []
    for member in _listed(members):
        if not _is_file(member):
            settings = {"spatial_dims": scan.network_dims, "in_channels": scan.in_channels, "backbone": backbone}
            settings["image_size"] = scan.network_edges
            taken = inspect.signature(method_class(member)).parameters
            own = {name: value for name, value in settings.items() if name in taken}
            found.append({"bundle": member, "network": own, "image_size": scan.network_edges, "fitted": False})
            continue
        file = ModelFile(member, "")
        _require_same_scan(file, scan)
        network = {name: value for name, value in file.content["settings"]["network"].items() if name != "weights"}
        renamed = getattr(method_class(file.content["bundle"]), "renamed_settings", {})
        network = {renamed.get(name, name): value for name, value in network.items()}
        edges = file.scan().network_edges
        found.append({"bundle": file.content["bundle"], "network": network, "image_size": edges, "fitted": True})
    return found


def _require_same_scan(file: ModelFile, scan: ScanFormat) -> None:
    own, wanted = asdict(file.scan()), asdict(scan)
    for name, value in own.items():
        if name != "image_size" and value != wanted[name]:
            raise InputError(
                "a member of the ensemble sees scans otherwise than the ensemble",
                where=file.path,
                expected=f"{name} {wanted[name]}",
                found=value,
                todo=f"give --{name} {value}"
                if name in ("spatial_dims", "slice_axis", "in_channels", "crop", "intensity")
                else "train it again",
            )


def with_member_states(ensemble: Ensemble, members: str | Sequence[str]) -> Ensemble:
    """The ensemble, with the state of those of its members that come from model files.

    Raises:
        InputError: a file does not fit the network of its bundle.
    """
    for member, name in zip(ensemble.members, _listed(members), strict=True):
        if _is_file(name):
            file = ModelFile(name, "")
            try:
                member.network.load_state_dict(file.content["model"], strict=True)  # type: ignore[union-attr]
            except RuntimeError as error:
                found, todo = str(error).splitlines()[0], "train it again with this version"
                raise InputError(
                    "the model does not fit the network of its bundle", where=name, found=found, todo=todo
                ) from error
    return ensemble
