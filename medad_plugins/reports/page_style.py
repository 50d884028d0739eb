"""Style and script of the report pages: plain CSS and JavaScript, put into the page itself."""

from __future__ import annotations

__all__ = ["SCRIPT", "STYLE"]

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #ffffff; --panel: #f5f7f8; --rule: #d9dfe3; --ink: #1d2529; --soft: #55626a; --faint: #a9b2b8;
  --normal: #2f7296; --abnormal: #bd2c2c; --accent: #14607f; --note: #fff6e0; --note-rule: #d9a520;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --paper: #14181b; --panel: #1d2327; --rule: #333c42; --ink: #e6eaec; --soft: #a3afb6; --faint: #66727a;
    --normal: #6cb4d9; --abnormal: #ff7f78; --accent: #7cc4e6; --note: #302a18; --note-rule: #b98d1d;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, "Segoe UI", "Helvetica Neue", Arial, "Liberation Sans", sans-serif;
}
main { max-width: 1120px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 4px; }
h2 { font-size: 1.25rem; margin: 48px 0 6px; padding-top: 14px; border-top: 1px solid var(--rule); }
h3 { font-size: 1rem; margin: 28px 0 4px; }
p { margin: 6px 0; max-width: 46rem; }
.soft, figcaption, .caption { color: var(--soft); }
a { color: var(--accent); }
nav { margin: 12px 0 0; font-size: .9rem; }
nav a { margin-right: 1.1em; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
.verdict { font-size: 1.125rem; margin: 20px 0 16px; max-width: none; }
.note { background: var(--note); border-left: 4px solid var(--note-rule); padding: 8px 14px; margin: 12px 0; }
.tiles { display: grid; grid-template-columns: repeat(var(--columns), minmax(0, 1fr)); gap: 12px; margin: 18px 0; }
.tile { background: var(--panel); border-radius: 8px; padding: 12px 16px 14px; }
.tile b { display: block; font-size: 1.75rem; line-height: 1.25; font-variant-numeric: tabular-nums; }
.tile span { display: block; font-size: .875rem; color: var(--soft); }
.tile span:first-child { color: var(--ink); font-weight: 600; }
.wide { overflow-x: auto; margin: 8px 0 4px; }
table { border-collapse: collapse; width: 100%; font-size: .9375rem; font-variant-numeric: tabular-nums; }
.caption { margin: 14px 0 0; max-width: none; font-size: .9rem; }
th, td { padding: 7px 14px 7px 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--rule); }
thead th { color: var(--soft); font-weight: 600; font-size: .85rem; vertical-align: bottom; }
tbody th { font-weight: 600; }
th.number, td.number { text-align: right; white-space: nowrap; }
td.interval { white-space: nowrap; } td.interval span { display: inline-block; min-width: 7.6em; }
td.what { color: var(--soft); min-width: 16rem; }
.line { white-space: nowrap; }
tr.group th { padding-top: 22px; color: var(--accent); border-bottom-color: var(--faint); }
tr.bound td, tr.bound th { color: var(--soft); font-style: italic; font-weight: 400; }
.whisker { display: inline-block; width: 92px; height: 12px; margin-left: 10px; vertical-align: -1px; }
.whisker line { stroke: var(--normal); stroke-width: 2; } .whisker .axis { stroke: var(--rule); stroke-width: 1; }
.whisker circle { fill: var(--normal); }
th button { all: unset; cursor: pointer; } th button::after { content: " \\2195"; color: var(--faint); }
th button:focus-visible { outline: 3px solid var(--accent); }
th[aria-sort=ascending] button::after { content: " \\2191"; }
th[aria-sort=descending] button::after { content: " \\2193"; }
.charts { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 26px 34px; margin: 14px 0; }
.charts figure { margin: 0; } .charts svg { display: block; width: 100%; height: auto; }
.charts h3 { margin: 0 0 4px; } .charts figcaption { font-size: .9rem; }
.scale { display: flex; flex-wrap: wrap; gap: 6px 26px; align-items: flex-start; font-size: .9rem; margin: 12px 0 4px; }
.bar { position: relative; width: 260px; padding-bottom: 22px; }
.bar i { display: block; height: 14px; border-radius: 2px; }
.bar span { position: absolute; top: 16px; transform: translateX(-50%); color: var(--soft); font-size: .8rem; }
.bar span:first-of-type { transform: none; } .bar span:last-of-type { transform: translateX(-100%); }
.bar u { position: absolute; top: -3px; width: 3px; height: 20px; background: #40e0ff; outline: 1px solid #0008; }
.key::before {
  content: ""; display: inline-block; width: 20px; height: 12px; margin-right: 7px; vertical-align: -1px;
  background: #17191c; border: 2px solid var(--line);
}
.cards { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 16px; margin: 10px 0; }
.card { background: #101114; color: #e8eaed; border-radius: 8px; padding: 10px 12px 12px; min-width: 0; }
.card.large { grid-column: 1 / -1; }
.card header { display: flex; flex-wrap: wrap; gap: 4px 10px; align-items: baseline; margin-bottom: 8px; }
.card header b { overflow-wrap: anywhere; font-weight: 600; font-size: .95rem; flex: 1 0 100%; }
.card button {
  all: unset; cursor: pointer; margin-left: auto; font-size: .8rem; color: #9ad7ee; text-decoration: underline;
}
.card button:focus-visible { outline: 3px solid #9ad7ee; }
.card small { color: #b6bcc3; font-size: .84rem; font-variant-numeric: tabular-nums; }
.badge { border-radius: 5px; padding: 1px 8px; font-size: .78rem; font-weight: 700; color: #fff; white-space: nowrap; }
.badge.yes { background: #c83030; } .badge.no { background: #3e627a; }
.panels { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 8px; }
.panels.across { margin-top: 8px; }
.panels figure { margin: 0; position: relative; }
.panels img { display: block; width: 100%; aspect-ratio: 1; object-fit: contain; background: #000; cursor: zoom-in; }
.card.large img { cursor: zoom-out; }
.panels figcaption { color: #b6bcc3; font-size: .78rem; text-align: center; }
.panels em {
  position: absolute; left: 5px; top: 42%; font: 700 .8rem system-ui, sans-serif; text-shadow: 0 0 3px #000;
}
.card label { display: flex; gap: 10px; align-items: center; font-size: .84rem; color: #b6bcc3; margin-top: 8px; }
.card output { flex: none; width: 7.2rem; white-space: nowrap; color: #e8eaed; font-variant-numeric: tabular-nums; }
.strip { position: relative; height: 5px; margin: 2px 8px 0 calc(7.2rem + 18px); }
.strip i { position: absolute; height: 5px; background: #7cfc5c; }
.card input { flex: 1; min-width: 0; accent-color: #64cfee; margin: 0; height: 22px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 20px; margin: 12px 0; font-size: .9375rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
code { font: .875rem ui-monospace, Consolas, monospace; }
details { margin: 14px 0; } summary { cursor: pointer; font-weight: 600; }
footer { margin-top: 48px; font-size: .85rem; color: var(--soft); }
@media screen and (max-width: 760px) {
  main { padding: 18px 14px 40px; } .tiles { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  .charts, .cards { grid-template-columns: minmax(0, 1fr); }
  .card.large .panels { grid-template-columns: minmax(0, 1fr); }
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: 8px; }
  table.figures, .figures tbody, .figures tr, .figures td, .figures th { display: block; border: 0; padding: 0; }
  .figures thead { display: none; } .figures tr { padding: 9px 0; border-bottom: 1px solid var(--rule); }
  .figures tr.group { padding-top: 22px; }
  .figures td.number, .figures td.interval { display: inline; margin-right: 10px; }
  .figures td.what { min-width: 0; font-size: .875rem; }
}
@media print {
  html { font-size: 9.5pt; } body { font-size: 1rem; } main { max-width: none; padding: 0; }
  .wide { overflow: visible; } th, td { padding: 4px 8px 4px 0; } td.what { min-width: 0; }
  table:not(.figures) { font-size: .8rem; } table:not(.figures) small { font-size: .68rem; }
  nav, #cases, .card input, .strip, .card button { display: none; }
  h2 { break-after: avoid; margin-top: 26px; } h3, h3 + p { break-after: avoid; }
  .card, .charts figure, .tile, tr { break-inside: avoid; }
  .card, .badge, .bar i, .bar u, .key::before, .tile, .note {
    print-color-adjust: exact; -webkit-print-color-adjust: exact;
  }
}
"""

SCRIPT = """
"use strict";
for (const card of document.querySelectorAll(".card")) {
  const pictures = card.querySelectorAll("img");
  const button = card.querySelector("button");
  const resize = () => {
    const large = card.classList.toggle("large");
    button.setAttribute("aria-pressed", large);
    button.textContent = large ? "reduce" : "enlarge";
  };
  for (const element of button ? [button, ...pictures] : []) element.addEventListener("click", resize);
  const slider = card.querySelector("input");
  if (!slider) continue;
  const slices = JSON.parse(card.querySelector("script").textContent);
  const name = card.querySelector("output");
  slider.addEventListener("input", () => {
    const slice = slices[Number(slider.value)];
    name.textContent = slice.name;
    slider.setAttribute("aria-valuetext", slice.name);
    slice.pictures.forEach((encoded, index) => {
      const picture = pictures[index];
      picture.src = "data:image/jpeg;base64," + encoded;
      picture.alt = picture.dataset.what + ", " + slice.name;
    });
  });
}
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const rising = head.getAttribute("aria-sort") !== "ascending";
    const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
    const order = (a, b) => {
      const [x, y] = [value(a), value(b)];
      const difference = Number(x) - Number(y);
      return Number.isNaN(difference) ? x.localeCompare(y) : difference;
    };
    const rows = [...body.rows].sort((a, b) => (rising ? order(a, b) : order(b, a)));
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", rising ? "ascending" : "descending");
    body.append(...rows);
  }));
}
"""
