"""LAG: fundus photographs with and without suspected glaucoma (Li and others, 2019).

Layout, seen in public descriptions and code: ``non_glaucoma`` and ``suspicious_glaucoma``, each with ``image``,
``attention_map`` and ``label``, in ``LAG_database_part_1`` for the part that can be downloaded. Counts seen: 6882 and
4878 in all (also the survey's), 3432 and 2392 with attention maps. Recalled: 3143 and 1711 in the part. The survey
gives no split: the sizes are MedIAnomaly's (recalled).
"""

from __future__ import annotations

from medad_plugins.data.adapters.dataset_adapter import DatasetAdapter, Request
from medad_plugins.data.adapters.published_scan import Edition, Published, PublishedScan
from medad_plugins.data.adapters.source_folder import find_root, inside, pictures

__all__ = ["LAG"]

FOLDERS = {"non_glaucoma/image": "normal", "suspicious_glaucoma/image": "glaucoma"}


def read_lag(request: Request) -> Published:
    """Its photographs; the attention maps show where readers looked and are no lesion masks."""
    root, _ = find_root(request.source, list(FOLDERS))
    return Published(
        [
            PublishedScan(path, kind, int(kind != "normal"))
            for name, kind in FOLDERS.items()
            for path in pictures(inside(root, name))
        ]
    )


LAG = DatasetAdapter(
    name="lag",
    title="LAG, large-scale attention-based glaucoma",
    download="github.com/smilell/AG-CNN names the place of LAG_database_part_1; the whole is given on request.",
    licence="Research only, by agreement with its authors (recalled).",
    read=read_lag,
    editions=(
        Edition("whole database", {"normal": 6882, "glaucoma": 4878}),
        Edition("part with attention maps", {"normal": 3432, "glaucoma": 2392}),
        Edition("part 1", {"normal": 3143, "glaucoma": 1711}),
    ),
    sizes={("train", "normal"): 1500, ("test", "normal"): 811, ("test", "glaucoma"): 811},
    remark="The survey gives no split. Patients are not published.",
)
