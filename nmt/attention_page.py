"""One self-contained page that shows every weight of one or more pairs: no network, safe against hostile text.

Everything that comes from text or model stands in one JSON block, with `<`, `>` and `&` escaped, and reaches the
page as text only; a content security policy forbids whatever else.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final

import numpy as np

from nmt.errors import DataError
from nmt.page import plain, policy_hash

_DIGITS: Final = 3
MOST_WEIGHTS: Final = 8_000_000
"""On a page, which takes some five bytes for each."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """One pair of the page."""

    title: str
    source: Sequence[str]
    """Pieces."""
    target: Sequence[str]
    maps: Mapping[str, np.ndarray]
    """`cross` (L, H, T, S), and where there are `encoder` (L, H, S, S) and `decoder` (L, H, T, T), the columns of which
    are BOS and the target but for its last piece."""
    layer: int
    """Of `cross`, shown first."""
    candidates: Sequence[Sequence[tuple[str, float]]]
    """For each target position the most probable pieces with their probabilities."""

    def as_dict(self) -> dict[str, Any]:
        """What the script reads."""
        return {
            "title": plain(self.title),
            "source": [plain(piece) for piece in self.source],
            "target": [plain(piece) for piece in self.target],
            "read": ["<s>", *(plain(piece) for piece in self.target[:-1])],
            "layer": self.layer,
            "maps": {kind: np.round(weights.astype(float), _DIGITS).tolist() for kind, weights in self.maps.items()},
            "candidates": [[[plain(piece), round(p, 4)] for piece, p in step] for step in self.candidates],
        }


def check_size(pairs: Sequence[Shown]) -> None:
    """Raise `DataError` where pairs have more than `MOST_WEIGHTS`."""
    count = sum(weights.size for pair in pairs for weights in pair.maps.values())
    if count > MOST_WEIGHTS:
        what = f"{len(pairs)} pairs with {count:,} weights are too much for a page"
        raise DataError(f"{what} (at most {MOST_WEIGHTS:,}): give fewer or shorter lines")


def attention_page(pairs: Sequence[Shown]) -> str:
    """The page as HTML, the first pair shown first.

    Raises:
        DataError: more weights than `MOST_WEIGHTS`.
    """
    check_size(pairs)
    title = pairs[0].title
    policy = f"default-src 'none'; style-src {policy_hash(STYLE)}; script-src {policy_hash(SCRIPT)}; base-uri 'none'"
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(plain(title))}</title>",
            f"<style>{STYLE}</style></head><body>",
            f"<header><h1>{escape(plain(title))}</h1>",
            _CONTROLS,
            "</header>",
            '<main><section id="main" tabindex="0" aria-label="attention"></section>',
            '<aside><div id="about" role="status" aria-live="polite"></div><div id="heads"></div></aside></main>',
            f'<script type="application/json" id="data">{_json([pair.as_dict() for pair in pairs])}</script>',
            f"<script>{SCRIPT}</script>",
            "</body></html>",
            "",
        ]
    )


def _json(data: Any) -> str:
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


_CONTROLS: Final = """<form id="controls">
<label class="several">sentence <select id="pair"></select></label>
<label>attention <select id="kind"></select></label>
<label>layer <select id="layer"></select></label>
<label>head <select id="head"></select></label>
<label>view <select id="view"><option value="matrix">matrix</option>
<option value="lines">lines</option></select></label>
<span class="keys"><kbd>↑</kbd> <kbd>↓</kbd> word · <kbd>←</kbd> <kbd>→</kbd> head · <kbd>[</kbd> <kbd>]</kbd> layer
 · <kbd>v</kbd> view<span class="several"> · <kbd>n</kbd> <kbd>p</kbd> sentence</span></span>
</form>"""

STYLE: Final = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #667; --paper: #fbfbf9; --line: #ddd; --mark: #c2410c;
  --cell: 20, 60, 120; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e6e3; --soft: #99a; --paper: #15171a; --line: #333;
  --mark: #fb923c; --cell: 140, 190, 255; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.45 system-ui, sans-serif; }
header { padding: 1rem 1.5rem .5rem; border-bottom: 1px solid var(--line); }
h1 { font-size: 1.05rem; margin: 0 0 .6rem; font-weight: 600; overflow-wrap: anywhere; }
form { display: flex; flex-wrap: wrap; gap: .5rem 1.2rem; align-items: center; color: var(--soft); }
select { font: inherit; color: var(--ink); background: var(--paper); border: 1px solid var(--line);
  border-radius: .3rem; padding: .15rem .3rem; }
#pair { max-width: 24rem; }
[hidden] { display: none; }
kbd { border: 1px solid var(--line); border-radius: .25rem; padding: 0 .3rem; font-size: .8rem; }
main { display: flex; align-items: flex-start; gap: 1.5rem; padding: 1rem 1.5rem; }
#main { flex: 0 1 auto; min-width: 0; overflow: auto; outline-offset: 2px; scroll-padding: 7rem 2rem 2rem 11rem; }
aside { flex: 1 0 20rem; overflow: auto; }
@media (min-width: 60rem) {
  body { display: flex; flex-direction: column; height: 100vh; }
  main { flex: 1; min-height: 0; }
  #main, aside { max-height: 100%; }
}
@media (max-width: 60rem) {
  main { flex-direction: column; align-items: stretch; }
  #main { max-height: 65vh; }
  aside { flex: none; }
}
table { border-collapse: separate; border-spacing: 0; }
th { font-weight: 400; background: var(--paper); }
tr:first-child th { position: sticky; top: 0; z-index: 1; }
th:first-child { position: sticky; left: 0; }
tr:first-child th:first-child { z-index: 2; }
th.column { height: 1px; vertical-align: bottom; padding: 0 0 .3rem; }
th.column span { writing-mode: vertical-rl; transform: rotate(180deg); white-space: pre; }
th.row { text-align: right; padding: 0 .6rem 0 0; white-space: pre; cursor: default; }
td { width: 22px; min-width: 22px; height: 22px; border: solid var(--line); border-width: 1px 0 0 1px; padding: 0; }
td:last-child { border-right-width: 1px; }
tr:last-child td { border-bottom-width: 1px; }
tr.chosen th.row, th.strong { color: var(--mark); font-weight: 650; }
tr.chosen td, tr.chosen + tr td { border-top-color: var(--mark); }
tr.chosen:last-child td { border-bottom-color: var(--mark); }
svg text { fill: var(--ink); font-size: 15px; white-space: pre; }
svg text.chosen { fill: var(--mark); font-weight: 650; }
svg line { stroke: rgb(var(--cell)); stroke-width: 2.5; }
#about { min-height: 9.5rem; }
#about .soft { color: var(--soft); }
#about b { color: var(--mark); white-space: pre; }
#about ol { margin: .4rem 0 1rem; padding: 0; list-style: none; }
#about li { display: flex; gap: .6rem; }
#about li bdi { white-space: pre; }
#about .p { width: 4rem; text-align: right; color: var(--soft); font-variant-numeric: tabular-nums; }
#heads { display: flex; flex-wrap: wrap; gap: .5rem; }
#heads button { border: 1px solid var(--line); background: none; border-radius: .3rem; padding: .25rem;
  color: var(--soft); font: 11px system-ui, sans-serif; cursor: pointer; }
#heads button[aria-pressed=true] { border-color: var(--mark); color: var(--mark); }
#heads canvas { display: block; width: 72px; height: 72px; image-rendering: pixelated; }
"""

SCRIPT: Final = """
'use strict';
const pairs = JSON.parse(document.getElementById('data').textContent);
const $ = id => document.getElementById(id);
let data = pairs[0];
const state = { pair: 0, kind: 'cross', layer: data.layer, head: -1, row: 0, view: 'matrix' };
const names = { cross: 'target to source', encoder: 'within the source', decoder: 'within the target' };
const seen = piece => piece.replace(/\\u2581/g, ' ').replace(/^ /, '') || '\\u2423';
const apart = piece => '\\u2068' + seen(piece) + '\\u2069';
const rowsOf = kind => kind === 'encoder' ? data.source : data.target;
const columnsOf = kind => kind === 'decoder' ? data.read : data.source;
const element = (name, text, kind) => {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
};
function weights(layer, head) {
  const heads = data.maps[state.kind][layer];
  if (head >= 0) return heads[head];
  return heads[0].map((row, i) => row.map((_, j) => heads.reduce((sum, h) => sum + h[i][j], 0) / heads.length));
}
function fill(select, options, value) {
  select.replaceChildren(...options.map(([v, label]) => {
    const option = element('option', label); option.value = v; return option;
  }));
  select.value = value;
}
function clamp() {
  state.pair = Math.max(0, Math.min(pairs.length - 1, state.pair));
  if (data !== pairs[state.pair]) {
    data = pairs[state.pair]; state.row = 0;
    document.querySelector('h1').textContent = document.title = data.title;
  }
  const map = data.maps[state.kind];
  state.layer = Math.max(0, Math.min(map.length - 1, state.layer));
  state.head = map[0].length === 1 ? 0 : Math.max(-1, Math.min(map[0].length - 1, state.head));
  state.row = Math.max(0, Math.min(rowsOf(state.kind).length - 1, state.row));
}
function controls() {
  fill($('pair'), pairs.map((pair, i) => [i, pair.title]), state.pair);
  const map = data.maps[state.kind], heads = map[0].length;
  fill($('kind'), Object.keys(data.maps).map(k => [k, names[k]]), state.kind);
  fill($('layer'), map.map((_, i) => [i, String(i)]), state.layer);
  const each = map[0].map((_, i) => [i, String(i)]);
  fill($('head'), heads > 1 ? [[-1, 'mean of all'], ...each] : each, state.head);
  $('view').value = state.view;
}
const shade = weight => `rgba(var(--cell), ${Math.min(1, weight)})`;
function matrix(rows, columns, now) {
  const table = element('table'), top = element('tr');
  top.append(element('th'));
  const strongest = now[state.row].indexOf(Math.max(...now[state.row]));
  columns.forEach((piece, j) => {
    const cell = element('th', undefined, 'column' + (j === strongest ? ' strong' : ''));
    cell.append(element('span', seen(piece))); top.append(cell);
  });
  table.append(top);
  rows.forEach((piece, i) => {
    const line = element('tr', undefined, i === state.row ? 'chosen' : '');
    line.dataset.row = i;
    line.append(element('th', seen(piece), 'row'));
    now[i].forEach((weight, j) => {
      const cell = element('td');
      cell.style.background = shade(weight);
      cell.title = `${apart(piece)} \\u2192 ${apart(columns[j])}: ${weight.toFixed(3)}`;
      line.append(cell);
    });
    line.addEventListener('mouseenter', () => choose(i));
    table.append(line);
  });
  return table;
}
function lines(rows, columns, now) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  const make = (name, attributes, text) => {
    const made = document.createElementNS(svg.namespaceURI, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    svg.append(made); return made;
  };
  const left = 12 + 9 * Math.max(...rows.map(piece => seen(piece).length)), right = left + 260, step = 26;
  const y = i => 22 + i * step;
  svg.setAttribute('width', right + 40 + 9 * Math.max(...columns.map(piece => seen(piece).length)));
  svg.setAttribute('height', y(Math.max(rows.length, columns.length)));
  now[state.row].forEach((weight, j) => {
    if (weight > 0.005) make('line', { x1: left + 8, y1: y(state.row) - 5, x2: right - 8, y2: y(j) - 5,
      'stroke-opacity': Math.min(1, weight) });
  });
  rows.forEach((piece, i) => {
    const word = make('text', { x: left, y: y(i), 'text-anchor': 'end' }, seen(piece));
    if (i === state.row) word.setAttribute('class', 'chosen');
    word.dataset.row = i;
    word.addEventListener('mouseenter', () => choose(i));
  });
  columns.forEach((piece, j) => make('text', { x: right, y: y(j),
    'fill-opacity': 0.35 + 0.65 * Math.min(1, now[state.row][j]) }, seen(piece)));
  return svg;
}
function list(entries) {
  const made = element('ol');
  for (const [piece, p] of entries) {
    const item = element('li');
    item.append(element('span', (100 * p).toFixed(1) + ' %', 'p'), element('bdi', seen(piece)));
    made.append(item);
  }
  return made;
}
function about(rows, columns, now) {
  const box = $('about'), row = now[state.row];
  box.replaceChildren();
  const head = element('div'), name = element('b');
  name.append(element('bdi', seen(rows[state.row]))); head.append(name, ' looks at');
  const best = row.map((p, j) => [columns[j], p]).sort((a, b) => b[1] - a[1]).slice(0, 4);
  box.append(head, list(best));
  if (state.kind === 'cross') {
    const sum = element('div', 'context = ', 'soft');
    for (const [piece, p] of best.filter(([, p]) => p >= 0.05))
      sum.append(`${p.toFixed(2)} \u00b7 `, element('bdi', seen(piece)), ' + ');
    sum.append('\u2026'); box.append(sum);
  }
  const candidates = state.kind === 'cross' ? data.candidates[state.row] : undefined;
  if (candidates && candidates.length) box.append(element('div', 'most probable here'), list(candidates));
}
function overview() {
  const map = data.maps[state.kind], focused = [...$('heads').children].indexOf(document.activeElement);
  $('heads').replaceChildren(...map.flatMap((heads, layer) => heads.map((now, head) => {
    const button = element('button'), canvas = element('canvas');
    button.type = 'button';
    button.setAttribute('aria-pressed', layer === state.layer && head === state.head);
    canvas.width = now[0].length; canvas.height = now.length;
    const pen = canvas.getContext('2d');
    const colour = getComputedStyle(document.documentElement).getPropertyValue('--cell');
    now.forEach((row, i) => row.forEach((weight, j) => {
      pen.fillStyle = `rgba(${colour}, ${Math.min(1, weight)})`; pen.fillRect(j, i, 1, 1);
    }));
    button.append(canvas, `layer ${layer}, head ${head}`);
    button.addEventListener('click', () => { state.layer = layer; state.head = head; draw(); });
    return button;
  })));
  if (focused >= 0) $('heads').children[focused]?.focus();
}
function picture() {
  const rows = rowsOf(state.kind), columns = columnsOf(state.kind), now = weights(state.layer, state.head);
  $('main').replaceChildren(state.view === 'matrix' ? matrix(rows, columns, now) : lines(rows, columns, now));
  about(rows, columns, now);
}
function draw() { clamp(); controls(); picture(); overview(); }
function move(by) { state.row += by; clamp(); picture(); }
function choose(row) { if (row !== state.row) { state.row = row; picture(); } }
for (const key of ['pair', 'kind', 'layer', 'head', 'view'])
  $(key).addEventListener('change', event => {
    state[key] = key === 'kind' || key === 'view' ? event.target.value : Number(event.target.value); draw();
  });
$('controls').addEventListener('submit', event => event.preventDefault());
document.addEventListener('keydown', event => {
  if (event.target.tagName === 'SELECT' || event.ctrlKey || event.altKey || event.metaKey) return;
  const moves = { ArrowLeft: ['head', -1], ArrowRight: ['head', 1], '[': ['layer', -1], ']': ['layer', 1],
    p: ['pair', -1], n: ['pair', 1] };
  if (event.key === 'ArrowUp') move(-1);
  else if (event.key === 'ArrowDown') move(1);
  else if (event.key === 'v') { state.view = state.view === 'matrix' ? 'lines' : 'matrix'; draw(); }
  else if (event.key in moves) { const [key, by] = moves[event.key]; state[key] += by; draw(); }
  else return;
  event.preventDefault();
  for (const mark of document.querySelectorAll('#main .chosen, #main .strong'))
    mark.scrollIntoView({ block: 'nearest', inline: 'nearest' });
});
for (const part of document.querySelectorAll('.several')) part.hidden = pairs.length === 1;
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', overview);
draw();
"""
