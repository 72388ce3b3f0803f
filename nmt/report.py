"""An evaluation as a page to keep: Markdown, or one HTML file that needs nothing else."""

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Final

from nmt.charts import Bar, bar_chart, length_histogram
from nmt.errors import UsageError, did_you_mean
from nmt.evaluation import Bucket, Evaluation, Example
from nmt.files import atomic_file
from nmt.lines import printable
from nmt.metrics import Score

SUFFIXES: Final = (".md", ".html")
_DIRECTIONS: Final = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
EXAMPLES: Final = 10
"""Best and worst lines shown."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """An evaluation and what was evaluated."""

    title: str
    facts: tuple[tuple[str, str], ...]
    """What there is to know about the model, the test set and the search: (name, value)."""
    evaluation: Evaluation


def check_report_path(path: Path) -> None:
    """Raise `UsageError` unless `path` names a kind of report in a folder that is there.

    To be asked before the work, not after it.
    """
    if path.suffix not in SUFFIXES:
        near = did_you_mean(path.suffix, SUFFIXES)
        raise UsageError(f"--report {path}: the name must end in {' or '.join(SUFFIXES)}{near}")
    if not path.parent.is_dir():
        raise UsageError(f"--report {path}: there is no folder {path.parent}")
    if path.is_dir():
        raise UsageError(f"--report {path} is a directory")


def write_report(path: Path, report: Report) -> None:
    """Write `report` as the suffix of `path` says, whole or not at all."""
    text = markdown(report) if path.suffix == ".md" else html(report)
    with atomic_file(path) as file:
        file.write(text.encode())


# -- rows shared by both forms -----------------------------------------------------------------------------


def interval_text(score: Score) -> str:
    """` [33.6, 35.4]`, or nothing for a score without interval."""
    return "" if score.low is None or score.high is None else f" [{score.low:.1f}, {score.high:.1f}]"


def count_rows(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Lines, what went wrong, length and speed."""
    refs = "1 reference each" if evaluation.max_refs == 1 else f"up to {evaluation.max_refs} references each"
    rows = [
        ("Lines", f"{evaluation.lines:,} ({refs})"),
        ("Empty translations", f"{evaluation.empty:,}"),
        ("Looping translations", f"{evaluation.looping:,}"),
        ("Cut lines", "unknown" if evaluation.cut is None else f"{evaluation.cut:,}"),
        (
            "Length ratio",
            f"{evaluation.length_ratio:.3f} (words of the translations over words of the references)",
        ),
    ]
    if (speed := evaluation.speed) is not None:
        per_second = f"{speed.sentences_per_second:,.1f} sentences/s, {speed.source_tokens_per_second:,.0f}"
        where = f"{speed.device}, {speed.precision}"
        rows.append(("Speed", f"{per_second} source tokens/s ({speed.seconds:.1f} s on {where})"))
    return rows


def _plain(text: str) -> str:
    """`text` on one line; characters that would change the direction of what follows are shown as escapes."""
    return _DIRECTIONS.sub(lambda match: f"\\u{ord(match[0]):04x}", printable(text))


def _example_rows(examples: Sequence[Example]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a table of lines; without sources no column for them."""
    header = ["line", "chrF2", "source", "translation", "reference"]
    rows = [[str(e.line), f"{e.chrf:.0f}", e.source or "", e.hyp or "(empty)", " / ".join(e.refs)] for e in examples]
    if all(e.source is None for e in examples):
        return header[:2] + header[3:], [row[:2] + row[3:] for row in rows]
    return header, rows


# -- Markdown ----------------------------------------------------------------------------------------------


def _cell(text: str) -> str:
    """`text` as it is, inside a Markdown table cell."""
    escaped = "".join(f"\\{mark}" if mark in "\\`*_[]|~#" else mark for mark in _plain(text))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    rule = ["---:" if i in numbers else "---" for i in range(len(header))]
    body = [[_cell(value) for value in row] for row in rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in [list(header), rule, *body]) + "\n"


def markdown(report: Report) -> str:
    """The report as Markdown, for a repository or a pull request."""
    evaluation = report.evaluation
    parts = [f"# {_cell(report.title)}\n", _markdown_table(("", ""), report.facts)]
    rows = [(s.name, f"{s.value:.2f}", interval_text(s).strip(), s.signature) for s in evaluation.scores.values()]
    parts += ["## Scores\n", _markdown_table(("metric", "score", "95 % interval", "signature"), rows, (1,))]
    parts.append(_markdown_table(("", ""), count_rows(evaluation)))
    if evaluation.buckets:
        buckets = [
            (
                bucket.label,
                f"{bucket.lines:,}",
                f"{bucket.bleu.value:.1f}",
                interval_text(bucket.bleu).strip(),
            )
            for bucket in evaluation.buckets
        ]
        header = ("source words", "lines", "BLEU", "95 % interval")
        parts += ["## BLEU by source length\n", _markdown_table(header, buckets, (1, 2))]
    for title, examples in (("Worst lines", evaluation.worst), ("Best lines", evaluation.best)):
        if examples:
            columns, lines = _example_rows(examples)
            parts += [f"## {title}, by sentence chrF2\n", _markdown_table(columns, lines, (0, 1))]
    return "\n".join(parts)


# -- HTML --------------------------------------------------------------------------------------------------

_STYLE: Final = """
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
.facts th { width: 13rem; }
.examples th, .examples td { width: 29%; }
.examples th.number, .examples td.number { width: 6.5%; }
.scroll { overflow-x: auto; }
.examples { min-width: 40rem; }
svg { display: block; width: 100%; height: auto; font: 12px system-ui, sans-serif; }
svg text { fill: var(--soft); }
svg text.value { fill: var(--ink); }
svg .grid { stroke: var(--line); stroke-width: 1; }
svg .bar { fill: var(--accent); }
svg .whisker { stroke: var(--ink); stroke-width: 1.4; fill: none; }
svg .step { stroke: var(--second); stroke-width: 2; fill: none; }
svg .key { fill: var(--second); }
"""


def _html_table(header: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int], kind: str) -> str:
    def row(tag: str, values: Sequence[str]) -> str:
        cells = [
            f"<{tag}{' class=number' if i in numbers else ''}><bdi>{_text(value)}</bdi></{tag}>"
            for i, value in enumerate(values)
        ]
        return f"<tr>{''.join(cells)}</tr>\n"

    body = "".join(row("td", values) for values in rows)
    return f'<div class="scroll"><table class="{kind}">\n{row("th", header)}{body}</table></div>\n'


def _fact_table(rows: Sequence[tuple[str, str]]) -> str:
    body = "".join(f"<tr><th>{_text(key)}</th><td><bdi>{_text(value)}</bdi></td></tr>\n" for key, value in rows)
    return f'<table class="facts">\n{body}</table>\n'


def _text(text: str) -> str:
    return escape(_plain(text), quote=True)


def _card(score: Score) -> str:
    interval = f"95 % interval{interval_text(score)}" if score.low is not None else "no interval"
    signature = _text(score.signature).replace("|", "|<wbr>")
    better = "lower is better" if score.name == "TER" else "higher is better"
    return (
        f'<div class="score">{_text(score.name)} <span class="soft">({better})</span><b>{score.value:.1f}</b>'
        f'<span class="soft">{interval}</span><code>{signature}</code></div>\n'
    )


def _example_table(title: str, examples: Sequence[Example]) -> str:
    if not examples:
        return ""
    header, rows = _example_rows(examples)
    return f"<h2>{title}, by sentence chrF2</h2>\n" + _html_table(header, rows, (0, 1), "examples")


def _bar(bucket: Bucket) -> Bar:
    lines = "1 line" if bucket.lines == 1 else f"{bucket.lines:,} lines"
    score = bucket.bleu
    return Bar(label=f"{bucket.label} words", below=lines, value=score.value, low=score.low, high=score.high)


def html(report: Report) -> str:
    """The report as one HTML page that loads nothing and runs nothing, light or dark as the screen."""
    evaluation = report.evaluation
    digest = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'"
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n',
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
        f"<title>{_text(report.title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n",
        f'<h1>{_text(report.title)}</h1>\n<div class="scores">\n',
        *map(_card, evaluation.scores.values()),
        "</div>\n<h2>What was evaluated</h2>\n",
        _fact_table(report.facts),
        "<h2>What came out</h2>\n",
        _fact_table(count_rows(evaluation)),
    ]
    if evaluation.buckets:
        parts += [
            "<h2>BLEU by source length</h2>\n",
            '<p class="soft">Bars: BLEU of the lines whose source has so many words. Whiskers: 95 % '
            "bootstrap interval.</p>\n",
            bar_chart("BLEU by source length", [_bar(bucket) for bucket in evaluation.buckets]),
        ]
    parts += [
        "<h2>Lengths</h2>\n",
        '<p class="soft">Lines by number of words: translations (bars) and first references (line).</p>\n',
        length_histogram(evaluation.lengths),
        _example_table("Worst lines", evaluation.worst),
        _example_table("Best lines", evaluation.best),
        "</body>\n</html>\n",
    ]
    return "".join(parts)
