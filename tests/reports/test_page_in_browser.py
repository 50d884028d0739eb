"""The report page as a browser shows it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from page_samples import FIGURES, sample_cases, sample_examples

from medad_plugins.reports import write_evaluation_page

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium, chromium-browser or google-chrome on the PATH")

# Runs before the page: what goes wrong while it loads.
_WATCH = """
window.problems = [];
addEventListener("error", (event) => problems.push(event.message || "not loaded: " + event.target.outerHTML), true);
addEventListener("securitypolicyviolation", (event) => problems.push("refused: " + event.blockedURI));
"""
# Runs after it: what a reader can do.
_CHECK = """
addEventListener("load", async () => {
  const found = { problems };
  const images = [...document.images];
  found.widths = images.map((image) => image.naturalWidth);
  found.unnamed = images.filter((image) => !image.alt).length;
  found.requests = performance.getEntriesByType("resource").map((entry) => entry.name);
  found.pageWidth = document.documentElement.scrollWidth;
  found.windowWidth = innerWidth;
  found.sliders = [];
  for (const card of document.querySelectorAll(".card")) {
    const slider = card.querySelector("input");
    if (!slider) continue;
    const shown = () => [...card.querySelectorAll("img")].map((image) => image.src);
    const state = () => ({ pictures: shown(), name: card.querySelector("output").textContent });
    const slider_states = [state()];
    for (const value of [0, slider.max]) {
      const loaded = [...card.querySelectorAll("img")].map((image) => new Promise((done) => { image.onload = done; }));
      slider.value = value;
      slider.dispatchEvent(new Event("input"));
      await Promise.all(loaded);
      slider_states.push(state());
    }
    found.sliders.push(slider_states.map((one) => ({ name: one.name, pictures: new Set(one.pictures).size })));
    found.changed = (found.changed ?? true) && slider_states[0].pictures.every((picture, i) =>
      slider_states[1].pictures[i] !== slider_states[2].pictures[i]);
  }
  const card = document.querySelector(".card");
  if (card) {
    const width = card.offsetWidth;
    card.querySelector("button").click();
    found.enlarged = card.querySelector("img").offsetWidth / (width / 3);
    found.pressed = card.querySelector("button").getAttribute("aria-pressed");
  }
  const table = document.querySelector("table.sortable");
  if (table) {
    document.querySelectorAll("details").forEach((one) => { one.open = true; });
    const column = () => [...table.tBodies[0].rows].map((row) => Number(row.cells[3].dataset.value));
    const button = table.tHead.rows[0].cells[3].querySelector("button");
    button.click();
    found.rising = column();
    button.click();
    found.falling = column();
    table.tHead.rows[0].cells[0].querySelector("button").click();
    found.cases = [...table.tBodies[0].rows].map((row) => row.cells[0].textContent);
  }
  const report = document.createElement("pre");
  report.id = "found";
  report.textContent = JSON.stringify(found);
  document.body.append(report);
});
"""


def _look(page: Path, width: int = 1280) -> dict[str, Any]:
    """Open a copy of the page that checks itself; what it found and what the browser's console said."""
    text = page.read_text(encoding="utf-8")
    assert text.count("<head>") == text.count("</body>") == 1
    text = text.replace("<head>", f"<head><script>{_WATCH}</script>", 1)
    text = text.replace("</body>", f"<script>{_CHECK}</script></body>", 1)
    copy = page.with_name("checked.html")
    copy.write_text(text, encoding="utf-8")
    command = [
        str(BROWSER),
        *"--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run".split(),
        "--enable-logging=stderr",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--user-data-dir={page.parent / 'browser'}",
        f"--window-size={width},900",
        "--virtual-time-budget=20000",
        "--dump-dom",
        copy.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    reports = re.findall(r'<pre id="found">(.*?)</pre>', done.stdout, flags=re.DOTALL)
    assert len(reports) == 1, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(unescape(reports[0]))
    found["console"] = re.findall(r".*CONSOLE.*", done.stderr)
    return found


def _page(folder: Path, spatial_dims: int) -> Path:
    path = folder / "report.html"
    write_evaluation_page(
        path,
        title="A test set",
        figures=FIGURES,
        cases=sample_cases(),
        alpha=0.05,
        examples=sample_examples(spatial_dims),
        details={"command": "python -m monai.bundle run " + "--and_a_long_path " * 30},
    )
    return path


def test_a_page_of_volumes_loads_alone_and_its_controls_work(tmp_path: Path) -> None:
    found = _look(_page(tmp_path, 3))
    assert found["problems"] == found["console"] == found["requests"] == []
    examples = sample_examples(3)
    assert len(found["widths"]) == 3 * len(examples)
    assert min(found["widths"]) > 100
    assert found["unnamed"] == 0
    assert [[state["name"] for state in states] for states in found["sliders"]] == [
        [example.slices[index].name for index in (example.start, 0, -1)] for example in examples
    ]
    assert found["changed"]
    assert all(state["pictures"] == 3 for states in found["sliders"] for state in states)
    assert found["enlarged"] > 1.5
    assert found["pressed"] == "true"
    cases = sample_cases()
    assert found["rising"] == sorted(case.score for case in cases)
    assert found["falling"] == sorted((case.score for case in cases), reverse=True)
    assert found["cases"] == sorted(case.case_id for case in cases)


def test_a_page_of_pictures_fits_a_phone(tmp_path: Path) -> None:
    found = _look(_page(tmp_path, 2), width=420)
    assert found["problems"] == found["console"] == found["requests"] == []
    assert min(found["widths"]) > 100
    assert found["sliders"] == []
    assert found["windowWidth"] <= 520  # some browsers have a narrowest window
    assert found["pageWidth"] <= found["windowWidth"]
    assert found["enlarged"] > 1.5


def test_what_a_page_must_not_do_would_be_seen(tmp_path: Path) -> None:
    page = _page(tmp_path, 2)
    broken = '<img src="http://example.org/a.png"><img src="data:image/jpeg;base64,AAAA"><script>missing()</script>'
    page.write_text(page.read_text().replace("</main>", f"{broken}</main>"))
    found = _look(page)
    messages = " ".join(found["problems"])
    assert "refused: http://example.org/a.png" in messages
    assert "missing is not defined" in messages
    assert found["widths"][-2:] == [0, 0]
    assert len(found["console"]) >= 2
    assert found["unnamed"] == 2
