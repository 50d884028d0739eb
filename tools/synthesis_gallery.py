"""Shows what every published recipe for synthetic anomalies makes of normal scans, on one page.

python tools/synthesis_gallery.py [--dataset_dir DATA] [--spatial_dims 3] [--output gallery.html]
"""

from __future__ import annotations

from medad_plugins.command_line import run_tool
from medad_plugins.data import Cohort, ScanFormat, cached_dataset
from medad_plugins.reports.synthesis_page import write_synthesis_page
from medad_plugins.synthesis import FindBodyd, published
from medad_plugins.transforms import ScanPreprocessing

__all__ = ["gallery"]


def gallery(
    dataset_dir: str = "",
    datalist: str = "",
    spatial_dims: int = 2,
    image_size: int | None = None,
    output: str = "synthesis_gallery.html",
    examples: int = 4,
    cases: int = 24,
    everywhere: bool = False,
    seed: int = 0,
) -> None:
    """Write the page and say where it is.

    Args:
        dataset_dir: as in training; empty takes the sample cohort.
        datalist: the list's name, if not the usual one.
        spatial_dims: 2 or 3.
        image_size: voxels along each axis; by default 256 in 2D and 64 in 3D.
        output: the page.
        examples: pictures of each recipe.
        cases: how many normal scans to read.
        everywhere: also outside of the body.
        seed: of all that is drawn.
    """
    size = image_size or (256 if spatial_dims == 2 else 64)
    cohort = Cohort(dataset_dir=dataset_dir, datalist=datalist, spatial_dims=spatial_dims, seed=seed)
    dataset = cached_dataset(cohort.train[:cases], [ScanPreprocessing(ScanFormat(spatial_dims, size)), FindBodyd()])
    many = published.many_tasks()
    recipes = [
        published.fpi(),
        published.pii(),
        published.cutpaste("box"),
        published.cutpaste("scar"),
        published.anatpaste(),
        published.nsa(),
        published.circle(),
        *many,
        published.noise_blend(),
    ]
    write_synthesis_page(output, recipes, dataset, None if everywhere else "body", examples, seed=seed)
    print(f"{len(recipes)} recipes on {len(dataset)} scans: {output}")


if __name__ == "__main__":
    run_tool(gallery)
