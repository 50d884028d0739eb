"""A site's own normal scans as a model's reference: exact, and without any training."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigWorkflow
from scipy.stats import beta, ks_2samp
from torch import Tensor

from medad_plugins.data import Case, FaultTolerantLoader, find_cases
from medad_plugins.engines import ModelFile, NormalScores, score_normals
from medad_plugins.engines.model_file import write_model
from medad_plugins.errors import InputError
from medad_plugins.files import read_torch
from medad_plugins.key_values import as_written, names_as_written
from medad_plugins.scorers import Calibration

__all__ = ["Recalibration", "recalibrate", "restore_calibration"]

logger = logging.getLogger(__name__)

HOW = ("replace", "join")
_PREFIX = "calibration."
_HISTORY = "calibrations"
_DIFFERS = 0.01  # p-value below which two sets of scores are said to differ


@dataclass(frozen=True)
class Recalibration:
    """What a site's normal scans say about a model.

    Attributes:
        cases: scans of the site that were scored.
        present: references that the model had.
        references: references that it has now.
        difference: p-value of the two-sample Kolmogorov-Smirnov test of the site's scores against those it had.
        flagged: share of the site's scans that the present references flag at alpha.
        needed: scans needed for alpha.
        rate_band: where the true false-positive rate lies in 95 % of such calibrations, at alpha.
    """

    cases: int
    present: int
    references: int
    difference: float
    flagged: float
    needed: int
    rate_band: tuple[float, float]

    def sentences(self, alpha: float) -> list[str]:
        """What a reader should know."""
        verdict = (
            f"differ from the model's {self.present} (Kolmogorov-Smirnov, p = {self.difference:.2g})"
            if self.difference < _DIFFERS
            else f"show no difference from the model's {self.present} (Kolmogorov-Smirnov, p = {self.difference:.2g})"
        )
        low, high = self.rate_band
        return [
            f"The scores of the site's {self.cases} normal scans {verdict}.",
            f"Until now {100 * self.flagged:.1f} % of them were flagged at alpha {alpha:g}.",
            f"{self.references} scans are the reference now; {self.needed} are needed for alpha {alpha:g}.",
            f"The promise is an average over calibrations: with {self.references} references the share of normal scans "
            f"flagged lies between {100 * low:.1f} and {100 * high:.1f} % in 95 of 100 of them.",
        ]


def recalibrate(
    bundle_or_model: str | os.PathLike[str],
    normals: str | os.PathLike[str],
    *,
    how: str = "replace",
    alpha: float = 0.05,
    group: str = "",
    datalist: str = "",
    where: str = "",
    output: str | os.PathLike[str] = "",
    keys: Mapping[str, Any] | None = None,
) -> Recalibration:
    """Replace or join a model's reference scores by those of a site's normal scans.

    The model file remembers both: the earlier calibrations stay in it, see `restore_calibration`.

    Args:
        bundle_or_model: a bundle's folder, or a model file.
        normals: folder or list of the site's normal scans; of a list with labels, those of label 0.
        how: ``"replace"`` compares scans with the site's alone, ``"join"`` with those and the model's together.
        alpha: level for which the references must be enough.
        group: column of the list whose values get references of their own.
        datalist: as in `find_cases`.
        where: as in `find_cases`.
        output: model file to write; by default the model itself.
        keys: of the bundle's ``inference.yaml``, e.g. ``device``.

    Raises:
        InputError: a file or key cannot be used, no normal scan can be scored, the references do not suffice for alpha
            where the present ones do, or the list has no such column.
    """
    if how not in HOW:
        raise InputError("unknown way to recalibrate", where="--how", expected=" or ".join(HOW), found=how)
    if not 0 < alpha < 1:
        raise InputError("alpha is out of range", where="--alpha", expected="between 0 and 1", found=alpha)
    root, model = _bundle_and_model(Path(bundle_or_model))
    parsed = _inference(root, model, keys or {})
    file: ModelFile = parsed("model")
    cases = _normal_cases(normals, datalist, where, int(parsed("spatial_dims")), group)
    scored = _scored(parsed, cases, group)
    return _kept(file, scored, how, alpha, group, Path(output or model))


def restore_calibration(bundle_or_model: str | os.PathLike[str], name: str = "training") -> int:
    """Put an earlier calibration of a model back in its place.

    Args:
        bundle_or_model: a bundle's folder, or a model file.
        name: ``"training"``, or the number of one of the later ones.

    Returns:
        how many references the model has now.

    Raises:
        InputError: the model has no such calibration.
    """
    root, model = _bundle_and_model(Path(bundle_or_model))
    content = dict(ModelFile(model, root.name).content)
    known = {entry["name"]: entry for entry in content.get(_HISTORY, [])}
    if str(name) not in known:
        expected = ", ".join(known) or "none, for it was never recalibrated"
        raise InputError("the model has no such calibration", where=model, expected=expected, found=name)
    entry = known[str(name)]
    content["model"] = _with_calibration(content["model"], entry["state"])
    write_model(model, content | {"calibration": entry["name"]})
    cases: int = entry["state"]["reference_scores"].numel()
    return cases


def _bundle_and_model(path: Path) -> tuple[Path, Path]:
    """The bundle's folder and the model file of either."""
    if path.is_dir():
        model = path / "models" / "model.pt"
        if not (path / "configs" / "inference.yaml").is_file():
            raise InputError("this is not a bundle", where=path, expected="configs/inference.yaml in it")
        return path, model
    root = Path(os.path.abspath(path)).parent.parent
    if (root / "configs" / "inference.yaml").is_file():
        return root, path
    # a file that was written elsewhere: the bundle of its name beside the package
    content = read_torch(path, "model file", "use a model.pt written by a MedAD bundle")
    name = content.get("bundle", "") if isinstance(content, dict) else ""
    root = Path(__file__).resolve().parents[2] / "bundles" / str(name)
    if not name or not (root / "configs" / "inference.yaml").is_file():
        todo = "give the bundle's folder, and the file as --ckpt_path"
        raise InputError("the bundle of this model is not known", where=path, todo=todo)
    return root, path


def _inference(root: Path, model: Path, keys: Mapping[str, Any]) -> Any:
    """Access to the parts of the bundle's inference with this model."""
    workflow = ConfigWorkflow(
        config_file=str(root / "configs" / "inference.yaml"),
        workflow_type="infer",
        logging_file=False,
        bundle_root=as_written(str(root)),
        **names_as_written({"ckpt_path": str(model), **keys}),
    )
    workflow.initialize()
    return workflow.parser.get_parsed_content


def _normal_cases(
    normals: str | os.PathLike[str], datalist: str, where: str, spatial_dims: int, group: str
) -> list[Case]:
    if not str(normals):
        raise InputError("a folder is missing", where="--normals", todo="give a folder or a list of normal scans")
    path = Path(normals)
    if path.suffix.lower() in (".csv", ".tsv", ".json") and path.is_file():
        path, datalist = path.parent, str(path)
    cases = find_cases(path, datalist, "all", spatial_dims, where)
    normal = [case for case in cases if case.get("label") in (0, None)]
    if len(normal) < len(cases):
        logger.info("%d of %d scans are listed as abnormal and left out.", len(cases) - len(normal), len(cases))
    if group and not any(group in case for case in normal):
        columns = sorted({key for case in normal for key in case} - {"image", "case_id", "label", "mask", "split"})
        raise InputError(
            "the list has no such column", where=f"--group {group}", expected=", ".join(columns) or "a list with one"
        )
    return normal


def _scored(parsed: Any, cases: Sequence[Case], group: str) -> NormalScores:
    network = parsed("network_def")
    loader = FaultTolerantLoader(cases, parsed("preprocessing"), int(parsed("batch_size")), int(parsed("num_workers")))
    scored = score_normals(network, loader, parsed("inferer"), group)
    if loader.failures:
        logger.warning("%d of %d scans could not be read.", len(loader.failures), len(cases))
    return scored


def _kept(file: ModelFile, scored: NormalScores, how: str, alpha: float, group: str, output: Path) -> Recalibration:
    content = dict(file.content)
    present = _calibration_of(content["model"])
    if not present.is_fitted:
        raise InputError("the model was never calibrated", where=file.path, todo="train it again")
    site = Calibration()
    site.fit(*scored.columns(), group)
    fresh = site if how == "replace" else _joined(present, site)
    if not fresh.can_flag(alpha) and present.can_flag(alpha):
        raise InputError(
            "the model stays as it is: it could flag nothing with these references",
            where=f"--alpha {alpha:g}",
            expected=f"at least {fresh.cases_needed(alpha)} normal scans",
            found=fresh.reference_scores.numel(),
            todo="give more normal scans, or --how join",
        )
    result = _compared(present, site, fresh, alpha)
    _say_small_groups(fresh, alpha)
    if how == "join" and result.difference < _DIFFERS:
        logger.warning("the site's scores differ from the model's, so joined references promise nothing exact.")
    history = list(content.get(_HISTORY, [])) or [{"name": "training", "state": _state(present)}]
    name = str(len(history))
    history.append(
        {
            "name": name,
            "how": how,
            "date": date.today().isoformat(),
            "cases": result.cases,
            "difference": result.difference,
            "state": _state(fresh),
        }
    )
    content["model"] = _with_calibration(content["model"], _state(fresh))
    write_model(output, content | {_HISTORY: history, "calibration": name})
    return result


def _joined(present: Calibration, site: Calibration) -> Calibration:
    joined, states = Calibration(), [_state(present), _state(site)]
    if not present.mask_rule.numel():
        states.reverse()  # the rule is the first's, and an older model has none
    joined.load_state_dict(joined.merge_buffers(states), strict=True)
    return joined


def _compared(present: Calibration, site: Calibration, fresh: Calibration, alpha: float) -> Recalibration:
    scores = site.reference_scores.cpu().numpy()
    flagged = sum(present.p_value(float(score)) <= alpha for score in scores) / len(scores)
    n = fresh.reference_scores.numel()
    allowed = math.floor(alpha * (n + 1) + 1e-9)  # ranks that flag; the rate is then Beta(allowed, n + 1 - allowed)
    band = (0.0, 0.0) if not allowed else tuple(float(x) for x in beta.ppf([0.025, 0.975], allowed, n + 1 - allowed))
    return Recalibration(
        cases=len(scores),
        present=present.reference_scores.numel(),
        references=n,
        difference=float(ks_2samp(scores, present.reference_scores.cpu().numpy()).pvalue),
        flagged=flagged,
        needed=fresh.cases_needed(alpha),
        rate_band=(band[0], band[1]),
    )


def _say_small_groups(fresh: Calibration, alpha: float) -> None:
    needed = fresh.cases_needed(alpha)
    for group in sorted(set(fresh.groups)):
        size = fresh.group_size(group)
        if size < needed:
            total = fresh.reference_scores.numel()
            sentence = "%s %s has %d scans, too few for alpha %g (%d are needed): its scans are compared with all %d."
            logger.warning(sentence, fresh.group_column, group or "(none)", size, alpha, needed, total)


def _calibration_of(state: Mapping[str, Tensor]) -> Calibration:
    calibration = Calibration()
    own = {name.removeprefix(_PREFIX): value for name, value in state.items() if name.startswith(_PREFIX)}
    calibration.load_state_dict(own, strict=True)
    return calibration


def _state(calibration: Calibration) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in calibration.state_dict().items()}


def _with_calibration(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    kept = {name: value for name, value in state.items() if not name.startswith(_PREFIX)}
    return kept | {f"{_PREFIX}{name}": torch.as_tensor(value) for name, value in own.items()}
