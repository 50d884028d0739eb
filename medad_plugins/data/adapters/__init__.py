"""Data sets as published, made readable by every bundle: a datalist with the survey's split, scans kept in place."""

from __future__ import annotations

from medad_plugins.data.adapters.aptos2019 import APTOS2019
from medad_plugins.data.adapters.atlas import ATLAS
from medad_plugins.data.adapters.bmad import BMAD
from medad_plugins.data.adapters.br35h import BR35H
from medad_plugins.data.adapters.brain_tumor import BRAIN_TUMOR
from medad_plugins.data.adapters.camelyon16 import CAMELYON16
from medad_plugins.data.adapters.dataset_adapter import DatasetAdapter, Request
from medad_plugins.data.adapters.fastmri_plus import FASTMRI_PLUS
from medad_plugins.data.adapters.isic2018 import ISIC2018
from medad_plugins.data.adapters.lag import LAG
from medad_plugins.data.adapters.medianomaly import MEDIANOMALY
from medad_plugins.data.adapters.medmnist import MEDMNIST
from medad_plugins.data.adapters.oct2017 import OCT2017
from medad_plugins.data.adapters.published_scan import Edition, Published, PublishedScan
from medad_plugins.data.adapters.rsna import RSNA
from medad_plugins.data.adapters.vindr_cxr import VINDR_CXR
from medad_plugins.errors import InputError

__all__ = ["ADAPTERS", "DatasetAdapter", "Edition", "Published", "PublishedScan", "Request", "find_adapter"]

ADAPTERS = {
    adapter.name: adapter
    for adapter in (
        RSNA,
        VINDR_CXR,
        BR35H,
        BRAIN_TUMOR,
        OCT2017,
        LAG,
        APTOS2019,
        ISIC2018,
        CAMELYON16,
        FASTMRI_PLUS,
        ATLAS,
        MEDIANOMALY,
        BMAD,
        MEDMNIST,
    )
}


def find_adapter(name: str) -> DatasetAdapter:
    """The data set of a name; upper case, spaces, dots and hyphens do not matter.

    Raises:
        InputError: there is none.
    """
    for known, adapter in ADAPTERS.items():
        if _plain(name) == _plain(known):
            return adapter
    raise InputError("the data set is unknown", where="name", expected=", ".join(ADAPTERS), found=name)


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum()).replace("plus", "").replace("+", "")
