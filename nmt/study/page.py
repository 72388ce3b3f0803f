"""The page of a study: every question with its figures, and what they say."""

import math
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from nmt.charts import Curve, line_chart
from nmt.files import atomic_file
from nmt.metrics.base import bootstrap_samples
from nmt.metrics.significance import paired_bootstrap
from nmt.page import html_page, html_table, markdown_table, text_of
from nmt.study.measure import ParallelFiles, Study, read_figures
from nmt.study.plan import BASELINE, Run

Table = tuple[list[str], list[list[str]]]
ARCHITECTURES = ("gru", "attention", "transformer")


def write_page(study: Study) -> Path:
    """Write `study.html` and `study.md`; where the first is."""
    tests, gold = study.tests, study.gold
    sections: list[Section] = []
    if study.plan.has_ladder:
        sections += [_ladder(study), *(_lengths(study, test) for test in tests)]
    if study.plan.has_family:
        sections.append(_family(study))
    if study.plan.has_ladder:
        sections += [_beams(study, test) for test in tests]
    sections += [_alignment(study, pairs) for pairs in gold]
    if study.plan.has_ladder:
        sections.append(_growth(study))
    parts, text = [], [f"# {_title(study)}\n"]
    for title, finding, chart, (header, rows) in sections:
        numbers = range(1, len(header))
        parts += [f"<h2>{text_of(title)}</h2>\n", f"<p>{text_of(finding)}</p>\n", chart]
        parts.append(html_table(header, rows, numbers, "figures"))
        text += [f"## {title}\n", f"{finding}\n", markdown_table(header, rows, tuple(numbers))]
    for name, content in (("study.html", html_page(_title(study), parts)), ("study.md", "\n".join(text))):
        with atomic_file(study.out / name) as file:
            file.write(content.encode())
    return study.out / "study.html"


def _title(study: Study) -> str:
    return f"{len(study.plan.runs)} models of {study.plan.updates:,} updates each on {study.data.name}"


Section = tuple[str, str, str, Table]
"""Title, what was found, a chart or nothing, a table."""


# -- the ladder ----------------------------------------------------------------------------------------------


def _ladder(study: Study) -> Section:
    test, beam = study.tests[0], study.plan.beams[1]
    header = ["model", "parameters", "tokens/s in training", "minutes", *(f"BLEU, {t.name}" for t in study.tests), "p"]
    rows = []
    for run in _runs(study, "ladder"):
        facts = read_figures(study, (run.name, "training"))
        scores = [_bleu(study, run, t, beam) for t in study.tests]
        speed, minutes = f"{facts['tokens_per_second']:,.0f}", f"{facts['seconds'] / 60:.1f}"
        p = "" if run.name == BASELINE else f"{_p_value(study, run, test, beam):.3f}"
        rows.append([run.name, f"{facts['parameters']:,}", speed, minutes, *map(_interval, scores), p])
    means = {arch: _mean(study, arch, test, beam) for arch in ARCHITECTURES}
    finding = "; ".join(f"{arch} {_spread(values)}" for arch, values in means.items())
    seeds = len(means["gru"])
    what = f"over {seeds} seeds (mean ± standard deviation)" if seeds > 1 else "one seed"
    finding = f"BLEU on {test.name}, beam {beam}, {what}: {finding}."
    return "The three generations", f"{finding} p: paired bootstrap against {BASELINE}.", "", (header, rows)


def _mean(study: Study, arch: str, test: ParallelFiles, beam: int) -> list[float]:
    return [_bleu(study, run, test, beam)["value"] for run in _runs(study, "ladder") if run.arch == arch]


def _spread(values: Sequence[float]) -> str:
    deviation = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{deviation}"


# -- length --------------------------------------------------------------------------------------------------


def _lengths(study: Study, test: ParallelFiles) -> Section:
    """Bahdanau et al. 2015, figure 2; Cho et al. 2014."""
    beam = study.plan.beams[1]
    found = {arch: read_figures(study, (f"{arch}-1", test.name, beam))["buckets"] for arch in ARCHITECTURES}
    labels = [_label(bucket) for bucket in found["gru"]]
    header = ["model", *(f"{_label(b)} ({b['lines']:,})" for b in found["gru"])]
    rows = [[arch, *(_interval(bucket["bleu"]) for bucket in buckets)] for arch, buckets in found.items()]
    curves = [
        Curve(
            arch,
            [bucket["bleu"]["value"] for bucket in buckets],
            [bucket["bleu"]["low"] for bucket in buckets],
            [bucket["bleu"]["high"] for bucket in buckets],
        )
        for arch, buckets in found.items()
    ]
    chart = line_chart(f"BLEU by source words, {test.name}", labels, curves, below="words of the source")
    finding = f"On {test.name}, {_falls(found)}"
    return f"Does quality fall with length? ({test.name})", finding, chart, (header, rows)


def _falls(found: dict[str, list[dict[str, Any]]]) -> str:
    """How much of its BLEU each keeps, from the first to the last lengths that have 20 lines."""
    kept, counted = {}, [i for i, bucket in enumerate(found["gru"]) if bucket["lines"] >= 20]
    if len(counted) < 2:
        return "there are too few lengths to say."
    first, last = counted[0], counted[-1]
    for arch, buckets in found.items():
        kept[arch] = buckets[last]["bleu"]["value"] / max(buckets[first]["bleu"]["value"], 1e-9)
    words = [_label(found["gru"][i]) for i in (first, last)]
    shares = ", ".join(f"{arch} {100 * share:.0f} %" for arch, share in kept.items())
    text = f"of the BLEU at {words[0]} words there is left at {words[1]}: {shares}. "
    apart = found["attention"][last]["bleu"]["low"] > found["gru"][last]["bleu"]["high"]
    if kept["attention"] > kept["gru"] and apart:
        return text + f"Attention flattens the fall, as was claimed: at {words[1]} words their intervals are apart."
    return text + "That attention flattens the fall does not show here."


# -- the family ----------------------------------------------------------------------------------------------


def _family(study: Study) -> Section:
    test, beam = study.tests[0], study.plan.beams[1]
    header = ["what", "tokens/s in training", "BLEU", "against additive, global, before", "p"]
    base = next(run for run in study.plan.runs if run.name == BASELINE)
    rows, scores = [], {}
    for run in [base, *(run for run in study.plan.runs if run.group != "ladder")]:
        facts, score = read_figures(study, (run.name, "training")), _bleu(study, run, test, beam)
        scores[run.name] = score["value"]
        difference = score["value"] - scores[BASELINE]
        p = "" if run is base else f"{_p_value(study, run, test, beam):.3f}"
        speed = f"{facts['tokens_per_second']:,.0f}"
        rows.append([run.name, speed, _interval(score), "" if run is base else f"{difference:+.2f}", p])
    best = max(scores, key=lambda name: scores[name])
    seeds = _mean(study, "attention", test, beam)
    noise = f"; three seeds of {base.arch} spread by {max(seeds) - min(seeds):.2f}" if len(seeds) > 1 else ""
    finding = f"Best on {test.name}, beam {beam}: {best} with {scores[best]:.2f} (one seed each{noise})."
    return "Scores, scopes, placements", finding, "", (header, rows)


# -- search --------------------------------------------------------------------------------------------------


def _beams(study: Study, test: ParallelFiles) -> Section:
    found = {
        (arch, beam): read_figures(study, (f"{arch}-1", test.name, beam))
        for arch in ARCHITECTURES
        for beam in study.plan.beams
    }
    labels = [_label(bucket) for bucket in found["gru", study.plan.beams[0]]["buckets"]]
    header = ["model, beam", "all", "sentences/s", *labels]
    rows = [
        [
            f"{arch}, {beam}",
            f"{figures['scores']['bleu']['value']:.2f}",
            f"{figures['speed']['sentences_per_second']:,.1f}",
            *(f"{bucket['bleu']['value']:.1f}" for bucket in figures["buckets"]),
        ]
        for (arch, beam), figures in found.items()
    ]
    gains = []
    for arch in ARCHITECTURES:
        values = [found[arch, beam]["scores"]["bleu"]["value"] for beam in study.plan.beams]
        gains.append(f"{arch} {' → '.join(f'{value:.2f}' for value in values)}")
    finding = f"BLEU with beam {' → '.join(map(str, study.plan.beams))} on {test.name}: {'; '.join(gains)}."
    return f"Greedy or beam? ({test.name})", finding, "", (header, rows)


# -- alignment -----------------------------------------------------------------------------------------------


def _alignment(study: Study, gold: ParallelFiles) -> Section:
    rows: list[list[str]] = []
    best = ("", math.inf)
    for run in study.plan.runs:
        found = read_figures(study, (run.name, gold.name, "aer"))
        for name, figures in (found["alignments"] if found else {}).items():
            if name == "diagonal" and rows and rows[0][0] == "diagonal":
                continue
            what = name if name == "diagonal" else f"{run.name}, {name}"
            row = [what, *(f"{figures[key]:.1f}" for key in ("aer", "precision", "recall"))]
            rows.insert(0 if name == "diagonal" else len(rows), row)
            if name != "diagonal" and figures["aer"] < best[1]:
                best = (what, figures["aer"])
    diagonal = f" (the diagonal has {rows[0][1]})" if rows else ""
    finding = f"Lowest error rate on {gold.name}: {best[0]}, {best[1]:.1f} %{diagonal}." if best[0] else "No attention."
    return f"Do weights align words? ({gold.name})", finding, "", (["attention", "AER", "precision", "recall"], rows)


# -- growth --------------------------------------------------------------------------------------------------


def _growth(study: Study) -> Section:
    lengths = study.plan.lengths
    header = ["model", *(f"{length} tokens" for length in lengths), "grows as n^"]
    rows: list[list[str]] = []
    curves: list[Curve] = []
    found: dict[tuple[str, str], float] = {}
    for what, key in (("training", "target_tokens_per_second"), ("translation", "lines_per_second")):
        for arch in ARCHITECTURES:
            times = []
            for length in lengths:
                rate = read_figures(study, ("time", arch, length))[what][key]
                times.append(1000 * length / rate if what == "training" else 1000 / rate)
            exponent = _slope(lengths, times)
            found[what, arch] = exponent
            of = "" if what == "training" else " of a sentence with half as many words"
            rows.append([f"{arch}, {what}{of}, ms", *(f"{time:.2f}" for time in times), f"{exponent:.2f}"])
            if what == "training":
                curves.append(Curve(arch, times))
    for arch in ARCHITECTURES:
        held = [read_figures(study, ("time", arch, length))["training"]["peak_memory_mib"] for length in lengths]
        rows.append([f"{arch}, training, peak MiB", *(f"{value:,.0f}" for value in held), ""])
    chart = line_chart("ms a sentence in training", [str(n) for n in lengths], curves, below="tokens a sentence")
    powers = "; ".join(f"{arch} {found['training', arch]:.2f}" for arch in ARCHITECTURES)
    finding = (
        f"Time a sentence in training grows with its length n as n to the power of: {powers}. Recurrence costs "
        "O(n·d²), attention over all positions O(n²·d) beside the O(n·d²) of its projections: the square shows only "
        "once n comes near d, and the output layer, O(n·d·V) for all three, hides it further."
    )
    return "How do time and memory grow?", finding, chart, (header, rows)


def _slope(lengths: Sequence[int], times: Sequence[float]) -> float:
    """Of the line through the logarithms, by least squares."""
    xs, ys = [math.log(length) for length in lengths], [math.log(time) for time in times]
    return statistics.linear_regression(xs, ys).slope


# -- figures -------------------------------------------------------------------------------------------------


def _runs(study: Study, group: str) -> Iterable[Run]:
    return [run for run in study.plan.runs if run.group == group]


def _bleu(study: Study, run: Run, test: ParallelFiles, beam: int) -> dict[str, Any]:
    score: dict[str, Any] = read_figures(study, (run.name, test.name, beam))["scores"]["bleu"]
    return score


def _p_value(study: Study, run: Run, test: ParallelFiles, beam: int) -> float:
    base = next(other for other in study.plan.runs if other.name == BASELINE)
    lines = {which.name: _lines(study.hyps(which, test, beam)) for which in (base, run)}
    refs = [(line,) for line in _lines(test.ref)]
    return paired_bootstrap(lines, refs, bootstrap_samples(len(refs)))[run.name].bleu


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").removesuffix("\n").split("\n")


def _label(bucket: dict[str, Any]) -> str:
    return f"{bucket['low']}+" if bucket["high"] is None else f"{bucket['low']}-{bucket['high']}"


def _interval(score: dict[str, Any]) -> str:
    return f"{score['value']:.1f} [{score['low']:.1f}, {score['high']:.1f}]"
