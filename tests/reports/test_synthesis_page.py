"""The page of synthetic anomalies shows each recipe, and only cases with an anomaly."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from medad_plugins.errors import InputError
from medad_plugins.reports.synthesis_page import write_synthesis_page
from medad_plugins.synthesis import published


@pytest.mark.parametrize("shape", [(40, 32), (20, 24, 16)])
def test_every_recipe_has_its_pictures_and_its_row(shape: tuple[int, ...], tmp_path: Path) -> None:
    rng = np.random.RandomState(0)
    cases = [{"image": rng.rand(1, *shape).astype(np.float32), "case_id": str(i)} for i in range(3)]
    recipes = [published.fpi(), published.cutpaste("box")]
    write_synthesis_page(tmp_path / "page.html", recipes, cases, examples=2, timed=3)
    page = (tmp_path / "page.html").read_text("utf-8")
    for recipe in recipes:
        assert page.count(f'alt="{recipe.name}, ') == 2 * 3
        assert re.search(rf'<th scope="row">{recipe.name}</th><td class="number" data-value="1\.0">', page)
    assert "http" not in page.replace("http-equiv", "")
    assert not list(tmp_path.glob("*.tmp")) and len(list(tmp_path.iterdir())) == 1


def test_one_scan_is_too_few(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least 2 normal cases"):
        write_synthesis_page(tmp_path / "page.html", [published.fpi()], [{"image": np.zeros((1, 8, 8))}])
