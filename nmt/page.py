"""What reports are made of: Markdown tables, and HTML pages that load nothing and run nothing."""

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from nmt.lines import printable

_DIRECTIONS: Final = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def plain(text: str) -> str:
    """`text` on one line; characters that would change the direction of what follows are shown as escapes."""
    return _DIRECTIONS.sub(lambda match: f"\\u{ord(match[0]):04x}", printable(text))


def cell(text: str) -> str:
    """`text` as it is, inside a Markdown table cell."""
    escaped = "".join(f"\\{mark}" if mark in "\\`*_[]|~#" else mark for mark in plain(text))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """Rows under a header; columns numbered in `numbers` are flush right."""
    rule = ["---:" if i in numbers else "---" for i in range(len(header))]
    body = [[cell(value) for value in row] for row in rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in [list(header), rule, *body]) + "\n"


STYLE: Final = """
:root { color-scheme: light dark; --ink: #1d2330; --soft: #5b6475; --line: #d9dde5; --paper: #ffffff;
  --panel: #f5f6f9; --accent: #5c86e6; --second: #c4661f; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9f0; --soft: #a0a8b8; --line: #363c49;
  --paper: #15181f; --panel: #1d212a; --accent: #7ea2ff; --second: #f0a060; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 62rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 1.5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 .75rem; }
p.soft, .soft { color: var(--soft); }
.scores { display: grid; grid-template-columns: repeat(auto-fit, minmax(14rem, 1fr)); gap: 1rem; }
.score { background: var(--panel); border: 1px solid var(--line); border-radius: .6rem;
  padding: 1rem 1.2rem; }
.score b { display: block; font-size: 2.1rem; line-height: 1.2; font-weight: 650;
  font-variant-numeric: tabular-nums; }
.score code { display: block; margin-top: .6rem; font-size: .72rem; color: var(--soft);
  overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th, td { text-align: left; vertical-align: top; padding: .4rem .7rem .4rem 0;
  border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
th { color: var(--soft); font-weight: 600; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap;
  overflow-wrap: normal; }
.figures td:first-child, :is(.scores-table, .models) :is(th, td):not(:first-child) { white-space: nowrap;
  overflow-wrap: normal; }
.scores-table td:first-child, .models td:first-child, .lengths td:first-child { min-width: 9rem; }
.facts th { width: 13rem; }
.examples th, .examples td { width: 29%; }
.examples th.number, .examples td.number { width: 6.5%; }
.differ td:last-child { width: 68%; }
.scroll { overflow-x: auto; }
.examples { min-width: 40rem; }
svg { display: block; width: 100%; height: auto; font: 12px system-ui, sans-serif; }
svg text { fill: var(--soft); }
svg text.value { fill: var(--ink); }
.maps { display: flex; flex-wrap: wrap; gap: 1rem 2rem; align-items: flex-start; }
.maps figure { margin: 0; max-width: 100%; overflow-x: auto; }
.maps figcaption { color: var(--soft); font-size: .85rem; }
svg.heat { width: auto; max-width: none; font-size: 11px; }
svg .frame { fill: none; stroke: var(--line); }
svg .grid { stroke: var(--line); stroke-width: 1; }
svg .bar { fill: var(--accent); }
svg .whisker { stroke: var(--ink); stroke-width: 1.4; fill: none; }
svg .step { stroke: var(--second); stroke-width: 2; fill: none; }
svg .key { fill: var(--second); }
svg .curve { fill: none; stroke-width: 2; }
svg .band { opacity: .15; }
svg .c0 { stroke: #4c78d8; } svg .c1 { stroke: #d97a1d; } svg .c2 { stroke: #3a9a5b; }
svg .c3 { stroke: #b5489a; } svg .c4 { stroke: #7a6bd1; } svg .c5 { stroke: #8a8f3a; }
svg .f0 { fill: #4c78d8; } svg .f1 { fill: #d97a1d; } svg .f2 { fill: #3a9a5b; }
svg .f3 { fill: #b5489a; } svg .f4 { fill: #7a6bd1; } svg .f5 { fill: #8a8f3a; }
"""


def html_table(header: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int], kind: str) -> str:
    """The same as HTML, of the class `kind`."""

    def row(tag: str, values: Sequence[str]) -> str:
        cells = [
            f"<{tag}{' class=number' if i in numbers else ''}><bdi>{text_of(value)}</bdi></{tag}>"
            for i, value in enumerate(values)
        ]
        return f"<tr>{''.join(cells)}</tr>\n"

    body = "".join(row("td", values) for values in rows)
    return f'<div class="scroll"><table class="{kind}">\n{row("th", header)}{body}</table></div>\n'


def fact_table(rows: Sequence[tuple[str, str]]) -> str:
    """Names and values."""
    body = "".join(f"<tr><th>{text_of(key)}</th><td><bdi>{text_of(value)}</bdi></td></tr>\n" for key, value in rows)
    return f'<table class="facts">\n{body}</table>\n'


def text_of(text: str) -> str:
    """`text` as text of a page, whatever is in it."""
    return escape(plain(text), quote=True)


def policy_hash(text: str) -> str:
    """What a content security policy calls an inline style or script by."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def html_page(title: str, parts: Iterable[str]) -> str:
    """A page, light or dark as the screen; a policy forbids it to load or run anything."""
    policy = f"default-src 'none'; style-src {policy_hash(STYLE)}"
    return "".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n',
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
            f"<title>{text_of(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n",
            f"<h1>{text_of(title)}</h1>\n",
            *parts,
            "</body>\n</html>\n",
        ]
    )
