"""Calibrate a trained model on a site's own normal scans: exact, and without any training.

    python tools/recalibrate.py bundles/padim --normals SITE_SCANS                  # replaces the reference scores
    python tools/recalibrate.py model.pt --normals SITE_SCANS --how join            # adds to them
    python tools/recalibrate.py bundles/padim --normals LIST.csv --group scanner    # references of each scanner
    python tools/recalibrate.py bundles/padim --restore training                    # puts the first ones back

The model file remembers every calibration that it had. Every key of the bundle's inference.yaml works here too, e.g.
--device cpu.
"""

from __future__ import annotations

from typing import Any

from medad_plugins.command_line import run_tool
from medad_plugins.deployment import recalibrate, restore_calibration


def main(
    bundle_or_model: str,
    normals: str = "",
    how: str = "replace",
    alpha: float = 0.05,
    group: str = "",
    datalist: str = "",
    where: str = "",
    output_file: str = "",
    restore: str = "",
    **keys: Any,
) -> None:
    """Replace or join the reference scores of a model by those of a site's normal scans.

    Args:
        bundle_or_model: a bundle's folder, or a model file.
        normals: folder or list of the site's normal scans; of a list with labels, those of label 0.
        how: replace or join.
        alpha: level for which the references must be enough.
        group: column of the list whose values get references of their own.
        datalist: file name in the folder or path.
        where: column=value limits the scans to these rows of a list.
        output_file: model file to write; by default the model itself.
        restore: put an earlier calibration back instead: training, or the number of a later one.
        keys: of the bundle's inference.yaml.
    """
    if restore:
        print(f"{restore_calibration(bundle_or_model, restore)} scans are the reference now.")
        return
    found = recalibrate(
        bundle_or_model,
        normals,
        how=how,
        alpha=alpha,
        group=group,
        datalist=datalist,
        where=where,
        output=output_file,
        keys=keys,
    )
    print("\n".join(found.sentences(alpha)))


if __name__ == "__main__":
    run_tool(main)
