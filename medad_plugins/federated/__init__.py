"""Training on the scans of several hospitals that stay where they are: what leaves a site, and how it becomes one."""

from __future__ import annotations

from medad_plugins.federated.federation import Federation
from medad_plugins.federated.merging import merge_replies
from medad_plugins.federated.messages import CALIBRATE, FINISH, FIT, STEPS, TRAIN, Reply, Request
from medad_plugins.federated.nvflare_job import simulate, write_job
from medad_plugins.federated.site import BundleSite

__all__ = [
    "CALIBRATE",
    "FINISH",
    "FIT",
    "STEPS",
    "TRAIN",
    "BundleSite",
    "Federation",
    "Reply",
    "Request",
    "merge_replies",
    "simulate",
    "write_job",
]
