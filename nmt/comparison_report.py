"""A comparison as a page to keep: Markdown, or one HTML file that needs nothing else."""

import math
from collections.abc import Sequence
from pathlib import Path

from nmt.charts import Curve, heat_map, line_chart
from nmt.comparison import LEVELS, Comparison, Disagreement, System, bucket_labels
from nmt.files import atomic_file
from nmt.page import html_page, html_table, markdown_table, plain, text_of
from nmt.report import interval_text

CURVE_PLACES = 24
"""Places of the time axis."""

Table = tuple[list[str], list[list[str]]]
"""Header and rows."""


def write_comparison(path: Path, comparisons: Sequence[Comparison]) -> None:
    """Write the report on one or more test sets as the suffix of `path` says, whole or not at all."""
    text = markdown(comparisons) if path.suffix == ".md" else html(comparisons)
    with atomic_file(path) as file:
        file.write(text.encode())


def score_table(comparison: Comparison) -> Table:
    """Scores with intervals; p is how often chance alone makes a difference as large as that from the first."""
    header = ["model", "BLEU", "95 %", "p", "chrF2", "95 %", "p", "TER", "loops"]
    header += ["source tokens/s", "lines/s", "MiB", "by"]
    rows = []
    for system in comparison.systems:
        scores, difference = system.evaluation.scores, comparison.differences.get(system.name)
        speed = system.evaluation.speed
        rows.append(
            [
                system.name,
                f"{scores['bleu'].value:.2f}",
                interval_text(scores["bleu"]).strip(),
                "" if difference is None else f"{difference.bleu:.3f}",
                f"{scores['chrf'].value:.2f}",
                interval_text(scores["chrf"]).strip(),
                "" if difference is None else f"{difference.chrf:.3f}",
                f"{scores['ter'].value:.2f}",
                f"{system.evaluation.looping:,}",
                "" if speed is None else f"{speed.source_tokens_per_second:,.0f}",
                "" if speed is None else f"{speed.sentences_per_second:,.1f}",
                _number(system.memory, ",.0f"),
                "" if speed is None else f"{system.engine}, {speed.device}, {speed.precision}",
            ]
        )
    return header, rows


def model_table(comparison: Comparison) -> Table:
    """What the models are, and what they cost."""
    reached = [level for level in LEVELS if any(system.minutes_to(level) is not None for system in comparison.systems)]
    header = ["model", "architecture", "parameters", "MB", "training min", "train tok/s", "train MiB"]
    header += [f"min to {level} BLEU" for level in reached]
    rows = []
    for system in comparison.systems:
        minutes = [system.minutes_to(level) for level in reached]
        rows.append(
            [
                system.name,
                system.architecture,
                f"{system.parameters:,}",
                f"{system.megabytes:.1f}",
                _number(system.training_minutes, ".1f"),
                _number(system.training_tokens_per_second, ",.0f"),
                _number(system.training_memory, ",.0f"),
                *(_number(value, ".1f") for value in minutes),
            ]
        )
    return header, rows


def length_table(comparison: Comparison, *, intervals: bool = True) -> Table:
    """BLEU by words of the source, with 95 % intervals or, for narrow screens, without."""
    labels = bucket_labels(comparison.systems)
    by_label = {b.label: b.lines for system in comparison.systems for b in system.evaluation.buckets}
    header = ["model", *(f"{label} ({by_label[label]:,})" for label in labels)]
    rows = []
    for system in comparison.systems:
        found = {bucket.label: bucket.bleu for bucket in system.evaluation.buckets}
        scores = [found.get(label) for label in labels]
        known = [(score, interval_text(score) if intervals and score else "") for score in scores]
        cells = ["" if score is None else f"{score.value:.1f}{interval}" for score, interval in known]
        rows.append([system.name, *cells])
    return header, rows


def curve_table(comparison: Comparison) -> Table:
    """Validation BLEU by minutes of training."""
    header = ["model", "validation BLEU after minutes of training"]
    found = [(system.name, ", ".join(f"{b:.1f} ({m:.1f})" for m, b in system.curve)) for system in comparison.systems]
    return header, [[name, curve] for name, curve in found if curve]


def disagreement_rows(comparison: Comparison) -> Table:
    """The sentences on which the systems differ most."""
    header = ["line", "who", "chrF2", "text"]
    rows = []
    for item in comparison.disagreements:
        rows.append([str(item.line), "source", "", item.source])
        rows += [["", "reference", "", ref] for ref in item.refs]
        for system, hyp, score in zip(comparison.systems, item.hyps, item.scores, strict=True):
            rows.append(["", system.name, f"{score:.0f}", hyp or "(empty)"])
    return header, rows


def signature(comparison: Comparison) -> str:
    """Of BLEU."""
    return comparison.systems[0].evaluation.scores["bleu"].signature


def markdown(comparisons: Sequence[Comparison]) -> str:
    """The report as Markdown."""
    first = comparisons[0]
    parts = [f"# {_title(comparisons)}\n"]

    def add(title: str, table: Table, numbers: Sequence[int]) -> None:
        header, rows = table
        if len(header) > 1 and rows:
            parts.extend([f"## {title}\n", markdown_table(header, rows, tuple(numbers))])

    add("Models", model_table(first), range(2, 20))
    add("Training", curve_table(first), ())
    for each in comparisons:
        add(f"Scores on {each.test}", score_table(each), range(1, 12))
        add(f"BLEU by source words (lines), {each.test}", length_table(each), range(1, 10))
        add(f"Where they differ most, {each.test}", disagreement_rows(each), (2,))
    return "\n".join([*parts, f"`{signature(first)}`", ""])


def html(comparisons: Sequence[Comparison]) -> str:
    """The report as one HTML page."""
    first = comparisons[0]
    parts = ["<h2>Models</h2>\n", html_table(*model_table(first), range(2, 20), "models")]
    if any(system.curve for system in first.systems):
        parts += ["<h2>Validation BLEU by minutes of training</h2>\n", _curve_chart(first.systems)]
    for each in comparisons:
        parts += [f"<h2>Scores on {text_of(each.test)}</h2>\n"]
        parts.append(html_table(*score_table(each), range(1, 12), "scores-table"))
        parts.append(f'<p class="soft">p: paired bootstrap against the first. {signature(each)}</p>\n')
        labels = bucket_labels(each.systems)
        if labels:
            parts += ["<h2>BLEU by source words</h2>\n", _length_chart(each.systems, labels)]
            parts.append(html_table(*length_table(each), range(1, 10), "lengths"))
        if each.disagreements:
            parts += ["<h2>Where they differ most</h2>\n", html_table(*disagreement_rows(each), (2,), "differ")]
        if any(any(item.attention) for item in each.disagreements):
            parts.append("<h2>What they looked at there</h2>\n")
            parts += [_attention(each.systems, item) for item in each.disagreements]
    return html_page(_title(comparisons), parts)


def _title(comparisons: Sequence[Comparison]) -> str:
    return f"{len(comparisons[0].systems)} models on {', '.join(each.test for each in comparisons)}"


def _attention(systems: Sequence[System], item: Disagreement) -> str:
    """The maps of one sentence side by side: translations down, the source across."""
    figures = []
    for system, seen in zip(systems, item.attention, strict=True):
        if seen is not None:
            columns, rows = [plain(word) for word in seen.source], [plain(word) for word in seen.target]
            drawn = heat_map(f"attention of {plain(system.name)}", columns, rows, seen.weights.tolist())
            figures.append(f"<figure><figcaption>{text_of(system.name)}</figcaption>\n{drawn}</figure>\n")
    if not figures:
        return ""
    return f'<p class="soft">line {item.line}</p>\n<div class="maps">\n{"".join(figures)}</div>\n'


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _length_chart(systems: Sequence[System], labels: Sequence[str]) -> str:
    curves = []
    for system in systems:
        found = {bucket.label: bucket.bleu for bucket in system.evaluation.buckets}
        scores = [found.get(label) for label in labels]
        curves.append(
            Curve(
                plain(system.name),
                [None if score is None else score.value for score in scores],
                [None if score is None else score.low for score in scores],
                [None if score is None else score.high for score in scores],
            )
        )
    return line_chart("BLEU by source words", labels, curves, below="words of the source")


def _curve_chart(systems: Sequence[System]) -> str:
    """Each validation at the nearest of some places on the time axis; a later one takes an earlier one's place."""
    longest = max(minutes for system in systems for minutes, _ in system.curve)
    step = max(longest / CURVE_PLACES, 1e-9)
    curves = []
    for system in systems:
        values: list[float | None] = [None] * CURVE_PLACES
        for minutes, bleu in system.curve:
            values[min(CURVE_PLACES - 1, int(minutes / step))] = bleu
        curves.append(Curve(plain(system.name), values))
    digits = max(0, math.ceil(math.log10(2 / step)))
    places = [f"{(i + 0.5) * step:.{digits}f}" for i in range(CURVE_PLACES)]
    return line_chart("Validation BLEU", places, curves, below="minutes")
