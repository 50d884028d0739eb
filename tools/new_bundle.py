"""Writes a new bundle that runs, its method's module and a test, as a copy of the nearest bundle under new names.

    python tools/new_bundle.py knn --like gaussian_mahalanobis --title k-NN

What comes out passes the contract suite as it is; CONTRIBUTING.md says what to write in it then.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from stamp_bundles import stamped

from medad_plugins.command_line import run_tool
from medad_plugins.errors import InputError

PROJECT = Path(__file__).resolve().parents[1]

CARD = """# {title}

In two sentences: what is learnt from normal scans, and what makes a scan abnormal.

Authors, *title*, venue and year.

## Data

Normal scans to fit on, some more to calibrate on, and, to evaluate, labelled ones; layouts and formats are in the
[project's README](../../../README.md). Without `--dataset_dir` the built-in sample cohort is used.

## Model

## Training

## Scoring

## Commands

```bash
python -m monai.bundle run --config_file bundles/{slug}/configs/train.yaml
python -m monai.bundle run --config_file bundles/{slug}/configs/train.yaml --dataset_dir DATA
python -m monai.bundle run --config_file bundles/{slug}/configs/inference.yaml --dataset_dir SCANS --output_dir RESULTS
python -m monai.bundle run --config_file bundles/{slug}/configs/evaluate.yaml --dataset_dir DATA
```

## Measured

With the settings of `tools/plans/yardstick.yaml`, the same for all data sets
([what the columns mean](../../../docs/results.md#the-yardstick)):

<!-- benchmark: yardstick -->

Not measured yet.

<!-- end of benchmark -->

## Deviations from the paper

## Limits

- Not to be used clinically.

## Licence and data

Apache-2.0. Weights and data have licences of their own, see `docs/data_license.txt`.
"""

TEST = '''"""{title}: its map against a plain computation."""

from __future__ import annotations

import inspect

import pytest
import torch

from medad_plugins.methods.{slug} import {network}


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_can_be_made_for_images_and_volumes(spatial_dims: int) -> None:
    torch.manual_seed(0)
    small = {{"weights": "none"}} if "weights" in inspect.signature({network}).parameters else {{}}
    network = {network}(spatial_dims=spatial_dims, **small)
    assert network.calibration.reference_scores.numel() == 0, "nothing is calibrated before it is fitted"
'''


def _renamed(text: str, like: str, slug: str, old: str, new: str) -> str:
    """A text of one bundle with the names of another."""
    text = re.sub(rf"(bundles/|methods\.|methods/){like}\b", rf"\g<1>{slug}", text)
    text = re.sub(rf"\bbundle: {like}\b", f"bundle: {slug}", text)
    return re.sub(rf"\b{old}\b", new, text)


def _require_new(slug: str, like: str, bundles: Path) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", slug) or "detection" in slug:
        expected = "small letters, digits and _, without the word detection, which MONAI Label takes for another task"
        raise InputError("this cannot be a bundle's name", where=slug, expected=expected)
    if (bundles / slug).exists():
        raise InputError("there is such a bundle already", where=bundles / slug, todo="choose another name")
    if not (bundles / like / "configs" / "metadata.json").is_file():
        known = sorted(path.parent.parent.name for path in bundles.glob("[a-z]*/configs/metadata.json"))
        raise InputError("there is no bundle to start from", where=like, expected=f"one of {', '.join(known)}")


def _with_row(readme: str, like: str, slug: str, title: str) -> str:
    """README with a row for the bundle below the one that it starts from, without that one's figures."""
    lines = readme.splitlines()
    place = next(number for number, line in enumerate(lines) if line.startswith(f"| [{like}]"))
    cells = lines[place].split(" | ")
    row = [
        f"| [{slug}](bundles/{slug}/docs/README.md)",
        f"{title}: what it does (authors, venue and year)",
        *cells[2:-1],
        " |",
    ]
    lines.insert(place + 1, " | ".join(row))
    return "\n".join(lines) + "\n"


def new_bundle(slug: str, like: str = "edc", title: str = "", network: str = "", project: str = "") -> None:
    """Write ``bundles/SLUG``, ``medad_plugins/methods/SLUG``, ``tests/methods/test_SLUG.py`` and a row in README.

    Args:
        slug: the bundle's name, e.g. ``knn``.
        like: the bundle to start from: one that is fitted in the same way, see README's table.
        title: the method's name for people; the slug in capitals where none is given.
        network: name of its class; the slug in camel case where none is given.
        project: folder to write into; this one where none is given.

    Raises:
        InputError: the name cannot be used or is taken, or there is no bundle to start from.
    """
    home = Path(project or PROJECT)
    bundles, methods = home / "bundles", home / "medad_plugins" / "methods"
    _require_new(slug, like, bundles)
    title = title or slug.upper()
    network = network or "".join(part.capitalize() for part in slug.split("_"))
    source, root = bundles / like, bundles / slug
    metadata = json.loads((source / "configs" / "metadata.json").read_text("utf-8"))
    old = str(metadata["medad"]["network"])
    metadata |= {
        "name": title,
        "description": title,
        "references": [title],
        "changelog": {metadata["version"]: "first version"},
    }
    metadata["medad"] |= {"title": title, "network": network}
    metadata["medad"].pop("volumes", None)  # was measured of the other
    written: list[Path] = []

    def write(path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        written.append(path)

    write(root / "configs" / "metadata.json", json.dumps(metadata, indent=4) + "\n")
    train = (source / "configs" / "train.yaml").read_text("utf-8")
    write(root / "configs" / "train.yaml", _renamed(train, like, slug, old, network))
    write(root / "docs" / "README.md", CARD.format(slug=slug, title=title))
    shutil.copy(source / "docs" / "data_license.txt", root / "docs")
    for path, text in stamped(root, bundles / ".template").items():
        write(path, text)
    files = [methods / f"{like}.py"] if (methods / f"{like}.py").is_file() else sorted((methods / like).glob("*.py"))
    for file in files:
        place = methods / f"{slug}.py" if file.parent == methods else methods / slug / file.name
        write(place, _renamed(file.read_text("utf-8"), like, slug, old, network))
    write(home / "tests" / "methods" / f"test_{slug}.py", TEST.format(slug=slug, title=title, network=network))
    readme = home / "README.md"
    if readme.is_file():
        write(readme, _with_row(readme.read_text("utf-8"), like, slug, title))
    for path in dict.fromkeys(written):
        print(f"wrote {path.relative_to(home)}")
    print(f"now: pytest tests/bundles tests/methods -k {slug}, and what CONTRIBUTING.md says")


if __name__ == "__main__":
    run_tool(new_bundle)
