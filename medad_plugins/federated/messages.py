"""What the server of a federation and its sites say to each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

__all__ = ["CALIBRATE", "FINISH", "FIT", "STEPS", "TRAIN", "Reply", "Request"]

TRAIN, FIT, CALIBRATE, FINISH = STEPS = ("train", "fit", "calibrate", "finish")


@dataclass(frozen=True)
class Request:
    """What the server requests from every site.

    Args:
        step: ``train`` on the site's normal cases, ``fit`` what follows the training to them, ``calibrate`` on its
            held-out ones, or ``finish``: keep the model.
        model: bundle, settings and version of the server's model, see `TrainingConfig.description`.
        state: the network's state, the same for all sites.
        number: of the training round, from 0.
        rounds: how many training rounds there are.
    """

    step: str
    model: str
    state: Mapping[str, Tensor]
    number: int = 0
    rounds: int = 1


@dataclass(frozen=True)
class Reply:
    """What leaves a site.

    Args:
        site: its name.
        cases: how many cases stand behind it.
        state: the entries of the network's state that the step has changed; all others are as they were sent.
    """

    site: str
    cases: int
    state: Mapping[str, Tensor] = field(default_factory=dict)
