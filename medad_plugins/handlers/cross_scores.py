"""Reference scores of the training scans themselves, each by a model that did not see it."""

from __future__ import annotations

import logging
import tempfile
from copy import deepcopy
from typing import Any

from monai.bundle import ConfigParser
from monai.utils import set_determinism

from medad_plugins.data.cohort import CROSS_FOLDS
from medad_plugins.engines import NormalScores, score_normals
from medad_plugins.engines.scoring import require_finite
from medad_plugins.errors import InputError

__all__ = ["cross_scores"]

logger = logging.getLogger(__name__)


def cross_scores(parser: ConfigParser | None) -> NormalScores:
    """Train once for each fold of the normal cases on all others, and score the fold (cross-conformal prediction).

    The running configuration is read again for every fold, so this works for whatever a bundle trains. All folds start
    from the same weights: those that the seed or a weights file gives, for a start that was trained on all scans would
    have seen the fold. It takes as long as `CROSS_FOLDS` trainings.

    Of n scans the p-value ``(1 + #{reference >= score}) / (n + 1)`` is then at most ``alpha`` for at most a share
    ``alpha`` of normal scans wherever more training scans can only lower a score, as in a memory of nearest neighbours
    (a fold's scores are of a smaller memory, so they are too high, if anything). For other methods the bound that is
    known without assumptions is about ``2 alpha``, and it is of scoring by the models of the folds (Vovk, "Cross-
    conformal predictors", 2015; Barber et al., "Predictive inference with the jackknife+", 2021); that of the final
    model rests on it being no worse than theirs.

    Args:
        parser: the configuration whose training has ended.

    Raises:
        InputError: there is no configuration, or as `medad_plugins.engines.score_normals`.
    """
    if parser is None:
        todo = "run the bundle's train.yaml, or use calibration held_out"
        raise InputError("there is no configuration to train the folds by", where="calibration cross", todo=todo)
    root = str(parser.get_parsed_content("bundle_root"))
    seed = int(parser.get_parsed_content("seed"))
    found = NormalScores()
    for fold in range(CROSS_FOLDS):
        with tempfile.TemporaryDirectory() as folder:
            scored = _fold_scores(_fold_parser(parser, fold, folder, root), seed)
        if scored is None:
            break  # fewer patients than folds
        logger.info("fold %d of %d: %d normal cases scored.", fold + 1, CROSS_FOLDS, len(scored.scores))
        for own, more in zip(vars(found).values(), vars(scored).values(), strict=True):
            own.extend(more)
    require_finite(found)
    return found


def _fold_parser(parser: ConfigParser, fold: int, folder: str, root: str) -> ConfigParser:
    """The configuration of a fold's training, which writes nothing that stays."""
    config: dict[str, Any] = deepcopy(parser.get())
    config |= {"bundle_root": root, "output_dir": folder, "ckpt_path": f"{folder}/model.pt", "resume": False}
    config["cohort"]["fold"] = fold
    for handler in config["train"]["handlers"]:
        if str(handler["_target_"]).endswith("StandardHandlers"):
            handler["ends"] = False
    if "tensorboard" in config:
        config["tensorboard"] = False
    return ConfigParser(config)


def _fold_scores(parser: ConfigParser, seed: int) -> NormalScores | None:
    set_determinism(seed)
    setup = parser.get_parsed_content("setup")
    if not setup.cohort.validation:
        return None
    parser.get_parsed_content("run")
    return score_normals(setup.network, setup.held_out(), setup.inferer, setup.group)
