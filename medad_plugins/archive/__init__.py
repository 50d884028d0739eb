"""Applying a bundle to an archive that is too large for one machine or one sitting."""

from __future__ import annotations

from medad_plugins.archive.case_files import CaseFiles
from medad_plugins.archive.ranking import rank_archive
from medad_plugins.archive.ray_run import infer_archive
from medad_plugins.archive.worker import ArchiveWorker

__all__ = ["ArchiveWorker", "CaseFiles", "infer_archive", "rank_archive"]
