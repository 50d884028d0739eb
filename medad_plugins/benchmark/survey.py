"""Table 3 of the survey (Zhao et al., 2026, DOI 10.11959/j.issn.1000-436x.2026046): the figures to compare with."""

from __future__ import annotations

__all__ = ["SURVEY_DATASETS", "survey_figures"]

SURVEY_DATASETS = ("OCT2017", "APTOS", "ISIC2018", "Br35H", "Brain Tumor", "RSNA")

# image-level AUC / ACC in %, mean of 5 runs, by the bundle that the method is here
_TABLE_3 = """
ae 86.84/79.44 81.45/73.48 71.48/68.87 97.22/93.48 82.44/76.84 66.44/61.64
vae 92.19/85.95 80.49/74.96 72.58/70.48 97.41/93.67 72.83/67.86 68.64/53.13
ganomaly 89.60/84.93 80.05/77.71 70.39/67.36 89.28/88.28 85.86/79.05 81.37/74.63
f_anogan 87.89/83.06 76.78/77.22 72.22/63.90 82.05/81.80 75.65/71.58 76.96/69.35
rd4ad 99.40/97.20 94.68/88.77 87.23/80.65 99.77/99.24 97.01/93.25 90.05/82.56
ae_flow 98.02/96.24 91.47/88.17 87.82/85.05 99.11/98.67 97.14/96.48 81.94/79.49
edc 99.56/97.90 95.41/90.08 89.33/84.28 99.85/99.35 97.21/95.08 87.20/74.40
ea2d 99.84/98.42 97.05/93.89 90.88/86.87 99.83/99.44 97.66/95.89 91.55/85.48
salad 95.58/89.88 77.38/76.84 74.57/69.88 97.82/95.24 94.47/92.14 79.47/75.60
pmsacl 95.84/91.48 86.97/82.78 81.48/77.96 96.48/92.48 93.88/89.54 87.45/82.41
patchcl 99.29/96.76 92.48/88.49 86.44/82.45 99.56/99.01 97.68/94.98 89.42/85.44
simplenet 98.45/94.99 90.48/86.48 83.05/76.58 98.88/98.25 96.42/95.43 78.18/72.40
realnet 98.86/97.66 86.45/83.49 85.46/82.11 99.11/98.60 97.49/95.89 79.34/76.49
glass 97.75/96.48 86.49/82.49 86.94/84.19 98.64/96.54 96.10/94.59 81.19/78.98
padim 96.88/92.80 79.00/78.50 82.13/73.06 98.90/97.40 96.78/95.87 81.48/78.16
squid 97.55/93.70 89.61/86.20 85.76/81.76 99.04/98.48 97.12/96.03 90.48/88.41
p_vq 99.20/98.94 86.49/83.48 79.70/76.45 97.66/93.74 95.14/92.48 78.66/76.58
"""


def survey_figures(bundle: str, dataset: str) -> tuple[float, float] | None:
    """AUROC and accuracy, 0..1, of a method on a data set in the survey; None where it has none.

    Raises:
        ValueError: the survey has no such data set.
    """
    if dataset not in SURVEY_DATASETS:
        raise ValueError(f"the survey has no results on {dataset}, but on {', '.join(SURVEY_DATASETS)}.")
    for line in _TABLE_3.split("\n"):
        name, *cells = line.split() or [""]
        if name == bundle:
            auroc, accuracy = cells[SURVEY_DATASETS.index(dataset)].split("/")
            return round(float(auroc) / 100, 4), round(float(accuracy) / 100, 4)
    return None
