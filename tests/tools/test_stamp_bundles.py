"""Text that all bundles share is written from one template, and what a bundle has of its own stays."""

from __future__ import annotations

import json
import runpy
import shutil
from pathlib import Path

import pytest
from bundle_runs import BUNDLES_FOLDER

from medad_plugins.errors import InputError

TOOL = runpy.run_path(str(BUNDLES_FOLDER.parent / "tools" / "stamp_bundles.py"))


@pytest.fixture
def bundles(tmp_path: Path) -> Path:
    """A copy of three bundles: one loss, fitted in passes, and with an entry of its own."""
    for name in (".template", "edc", "padim", "circle"):
        ignore = shutil.ignore_patterns("models", "output", "eval")
        shutil.copytree(BUNDLES_FOLDER / name, tmp_path / name, ignore=ignore)
    return tmp_path


def _texts(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix in (".yaml", ".json", ".conf")]
    return {str(path.relative_to(folder)): path.read_text("utf-8") for path in files}


def test_the_projects_bundles_are_stamped() -> None:
    TOOL["stamp_bundles"](check=True)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("edc/configs/inference.yaml", "alpha: 0.05", "alpha: 0.1"),
        ("padim/configs/train.yaml", "num_workers: 0", "num_workers: 2"),
        ("edc/configs/metadata.json", "MedAD team", "Another team"),
        ("circle/LICENSE", "Apache License", "Licence"),
    ],
)
def test_a_shared_text_that_was_edited_is_named_and_written_again(
    bundles: Path, file: str, old: str, new: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = _texts(bundles)
    path = bundles / file
    path.write_text(path.read_text("utf-8").replace(old, new), encoding="utf-8")
    with pytest.raises(InputError, match=rf"differs here: .*{path.name}.*tools/stamp_bundles.py"):
        TOOL["stamp_bundles"](check=True, bundles=str(bundles))
    TOOL["stamp_bundles"](bundles=str(bundles))
    assert file in capsys.readouterr().out
    assert _texts(bundles) == before


def test_what_is_the_bundles_own_stays(bundles: Path) -> None:
    train = bundles / "edc" / "configs" / "train.yaml"
    train.write_text(train.read_text("utf-8").replace("weight_decay: 0.0001", "weight_decay: 0.0002"), encoding="utf-8")
    TOOL["stamp_bundles"](bundles=str(bundles))
    assert "weight_decay: 0.0002" in train.read_text("utf-8")
    assert "equalize: '@equalize'" in (bundles / "circle" / "configs" / "train.yaml").read_text("utf-8")
    metadata = bundles / "circle" / "configs" / "metadata.json"
    content = json.loads(metadata.read_text("utf-8"))
    del content["medad"]["own"]
    metadata.write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")
    with pytest.raises(InputError, match="train.yaml"):
        TOOL["stamp_bundles"](check=True, bundles=str(bundles))


def test_a_new_shared_entry_comes_where_the_template_has_it(bundles: Path) -> None:
    template = bundles / ".template" / "train_by_gradient.yaml"
    text = template.read_text("utf-8").replace("num_workers: 0\n", "num_workers: 0\na_new_key: null\n")
    template.write_text(text, encoding="utf-8")
    TOOL["stamp_bundles"](bundles=str(bundles))
    for name, has in (("edc", True), ("circle", True), ("padim", False)):
        found = (bundles / name / "configs" / "train.yaml").read_text("utf-8")
        assert ("num_workers: 0\na_new_key: null\n" in found) == has, name
