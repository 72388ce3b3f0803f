"""One self-contained page that shows every weight of a pair: no network, safe against hostile text.

Everything that comes from text or model stands in one JSON block, with `<`, `>` and `&` escaped, and reaches the
page as text only; a content security policy forbids whatever else.
"""

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

import numpy as np

from nmt.page import plain, policy_hash

_DIGITS: Final = 3


def attention_page(
    *,
    title: str,
    source: Sequence[str],
    target: Sequence[str],
    maps: Mapping[str, np.ndarray],
    layer: int,
    candidates: Sequence[Sequence[tuple[str, float]]],
) -> str:
    """The page as HTML.

    Args:
        title: what it shows.
        source: source pieces.
        target: target pieces.
        maps: `cross` (L, H, T, S), and where there are `encoder` (L, H, S, S) and `decoder` (L, H, T, T), the columns
            of which are BOS and the target but for its last piece.
        layer: of `cross`, shown first.
        candidates: for each target position the most probable pieces with their probabilities.
    """
    data = {
        "source": [plain(piece) for piece in source],
        "target": [plain(piece) for piece in target],
        "read": ["<s>", *(plain(piece) for piece in target[:-1])],
        "layer": layer,
        "maps": {kind: np.round(weights.astype(float), _DIGITS).tolist() for kind, weights in maps.items()},
        "candidates": [[[plain(piece), round(p, 4)] for piece, p in step] for step in candidates],
    }
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
            f'<script type="application/json" id="data">{_json(data)}</script>',
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
<label>attention <select id="kind"></select></label>
<label>layer <select id="layer"></select></label>
<label>head <select id="head"></select></label>
<label>view <select id="view"><option value="matrix">matrix</option>
<option value="lines">lines</option></select></label>
<span class="keys"><kbd>↑</kbd> <kbd>↓</kbd> word · <kbd>←</kbd> <kbd>→</kbd> head · <kbd>[</kbd> <kbd>]</kbd> layer
 · <kbd>v</kbd> view</span>
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
kbd { border: 1px solid var(--line); border-radius: .25rem; padding: 0 .3rem; font-size: .8rem; }
main { display: flex; flex-wrap: wrap; gap: 1.5rem; padding: 1rem 1.5rem; }
#main { overflow: auto; max-width: 100%; outline-offset: 4px; }
table { border-collapse: collapse; }
th { font-weight: 400; }
th.column { height: 1px; vertical-align: bottom; padding: 0 0 .3rem; }
th.column span { writing-mode: vertical-rl; transform: rotate(180deg); white-space: pre; }
th.row { text-align: right; padding: 0 .6rem 0 0; white-space: pre; cursor: default; }
td { width: 22px; min-width: 22px; height: 22px; border: 1px solid var(--line); padding: 0; }
tr.chosen th.row, th.strong { color: var(--mark); font-weight: 650; }
tr.chosen td { border-color: var(--mark); }
svg text { fill: var(--ink); font-size: 15px; white-space: pre; }
svg text.chosen { fill: var(--mark); font-weight: 650; }
svg line { stroke: rgb(var(--cell)); stroke-width: 2.5; }
aside { flex: 1 1 18rem; min-width: 16rem; }
#about { min-height: 9.5rem; }
#about b { color: var(--mark); white-space: pre; }
#about ol { margin: .4rem 0 1rem; padding: 0; list-style: none; }
#about li { display: flex; gap: .6rem; }
#about li span { white-space: pre; }
#about .p { width: 4rem; text-align: right; color: var(--soft); font-variant-numeric: tabular-nums; }
#heads { display: flex; flex-wrap: wrap; gap: .5rem; }
#heads button { border: 1px solid var(--line); background: none; border-radius: .3rem; padding: .25rem;
  color: var(--soft); font: 11px system-ui, sans-serif; cursor: pointer; }
#heads button[aria-pressed=true] { border-color: var(--mark); color: var(--mark); }
#heads canvas { display: block; width: 72px; height: 72px; image-rendering: pixelated; }
"""

SCRIPT: Final = """
'use strict';
const data = JSON.parse(document.getElementById('data').textContent);
const $ = id => document.getElementById(id);
const state = { kind: 'cross', layer: data.layer, head: -1, row: 0, view: 'matrix' };
const names = { cross: 'target to source', encoder: 'within the source', decoder: 'within the target' };
const seen = piece => piece.replace(/\\u2581/g, ' ').replace(/^ /, '') || '\\u2423';
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
  const map = data.maps[state.kind];
  state.layer = Math.max(0, Math.min(map.length - 1, state.layer));
  state.head = map[0].length === 1 ? 0 : Math.max(-1, Math.min(map[0].length - 1, state.head));
  state.row = Math.max(0, Math.min(rowsOf(state.kind).length - 1, state.row));
}
function controls() {
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
      cell.title = `${seen(piece)} \\u2192 ${seen(columns[j])}: ${weight.toFixed(3)}`;
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
    item.append(element('span', (100 * p).toFixed(1) + ' %', 'p'), element('span', seen(piece)));
    made.append(item);
  }
  return made;
}
function about(rows, columns, now) {
  const box = $('about'), row = now[state.row];
  box.replaceChildren();
  const head = element('div'); head.append(element('b', seen(rows[state.row])), ' looks at');
  const best = row.map((p, j) => [columns[j], p]).sort((a, b) => b[1] - a[1]).slice(0, 4);
  box.append(head, list(best));
  if (state.kind === 'cross') {
    const terms = best.filter(([, p]) => p >= 0.05).map(([piece, p]) => `${p.toFixed(2)} \u00b7 ${seen(piece)}`);
    box.append(element('div', 'context = ' + [...terms, '\u2026'].join(' + '), 'soft'));
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
function choose(row) { if (row !== state.row) { state.row = row; picture(); } }
for (const key of ['kind', 'layer', 'head', 'view'])
  $(key).addEventListener('change', event => {
    state[key] = key === 'kind' || key === 'view' ? event.target.value : Number(event.target.value); draw();
  });
$('controls').addEventListener('submit', event => event.preventDefault());
document.addEventListener('keydown', event => {
  if (event.target.tagName === 'SELECT' || event.ctrlKey || event.altKey || event.metaKey) return;
  const moves = { ArrowUp: ['row', -1], ArrowDown: ['row', 1], ArrowLeft: ['head', -1], ArrowRight: ['head', 1],
    '[': ['layer', -1], ']': ['layer', 1] };
  if (event.key === 'v') state.view = state.view === 'matrix' ? 'lines' : 'matrix';
  else if (event.key in moves) { const [key, by] = moves[event.key]; state[key] += by; }
  else return;
  event.preventDefault(); draw();
  document.querySelector('#main .chosen')?.scrollIntoView({ block: 'nearest' });
});
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', overview);
draw();
"""
