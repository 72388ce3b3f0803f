"""An evaluation as a page to keep: Markdown, or one HTML file that needs nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nmt.charts import Bar, bar_chart, length_histogram
from nmt.errors import UsageError, did_you_mean
from nmt.evaluation import Bucket, Evaluation, Example
from nmt.files import atomic_file
from nmt.metrics import Score
from nmt.page import cell, fact_table, html_page, html_table, markdown_table, text_of

SUFFIXES: Final = (".md", ".html")
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
    """Raise `UsageError` unless `path` names a kind of report; asked before the work, not after it."""
    if path.suffix not in SUFFIXES:
        near = did_you_mean(path.suffix, SUFFIXES)
        raise UsageError(f"--report {path}: the name must end in {' or '.join(SUFFIXES)}{near}")


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


def _example_rows(examples: Sequence[Example]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a table of lines; without sources no column for them."""
    header = ["line", "chrF2", "source", "translation", "reference"]
    rows = [[str(e.line), f"{e.chrf:.0f}", e.source or "", e.hyp or "(empty)", " / ".join(e.refs)] for e in examples]
    if all(e.source is None for e in examples):
        return header[:2] + header[3:], [row[:2] + row[3:] for row in rows]
    return header, rows


# -- Markdown ----------------------------------------------------------------------------------------------


def markdown(report: Report) -> str:
    """The report as Markdown, for a repository or a pull request."""
    evaluation = report.evaluation
    parts = [f"# {cell(report.title)}\n", markdown_table(("", ""), report.facts)]
    rows = [(s.name, f"{s.value:.2f}", interval_text(s).strip(), s.signature) for s in evaluation.scores.values()]
    parts += ["## Scores\n", markdown_table(("metric", "score", "95 % interval", "signature"), rows, (1,))]
    parts.append(markdown_table(("", ""), count_rows(evaluation)))
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
        parts += ["## BLEU by source length\n", markdown_table(header, buckets, (1, 2))]
    for title, examples in (("Worst lines", evaluation.worst), ("Best lines", evaluation.best)):
        if examples:
            columns, lines = _example_rows(examples)
            parts += [f"## {title}, by sentence chrF2\n", markdown_table(columns, lines, (0, 1))]
    return "\n".join(parts)


# -- HTML --------------------------------------------------------------------------------------------------


def _card(score: Score) -> str:
    interval = f"95 % interval{interval_text(score)}" if score.low is not None else "no interval"
    signature = text_of(score.signature).replace("|", "|<wbr>")
    better = "lower is better" if score.name == "TER" else "higher is better"
    return (
        f'<div class="score">{text_of(score.name)} <span class="soft">({better})</span><b>{score.value:.1f}</b>'
        f'<span class="soft">{interval}</span><code>{signature}</code></div>\n'
    )


def _example_table(title: str, examples: Sequence[Example]) -> str:
    if not examples:
        return ""
    header, rows = _example_rows(examples)
    return f"<h2>{title}, by sentence chrF2</h2>\n" + html_table(header, rows, (0, 1), "examples")


def _bar(bucket: Bucket) -> Bar:
    lines = "1 line" if bucket.lines == 1 else f"{bucket.lines:,} lines"
    score = bucket.bleu
    return Bar(label=f"{bucket.label} words", below=lines, value=score.value, low=score.low, high=score.high)


def html(report: Report) -> str:
    """The report as one HTML page that loads nothing and runs nothing, light or dark as the screen."""
    evaluation = report.evaluation
    parts = [
        '<div class="scores">\n',
        *map(_card, evaluation.scores.values()),
        "</div>\n<h2>What was evaluated</h2>\n",
        fact_table(report.facts),
        "<h2>What came out</h2>\n",
        fact_table(count_rows(evaluation)),
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
    ]
    return html_page(report.title, parts)
