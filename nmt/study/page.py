"""The page of a study: every question with its figures, and what they say."""

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nmt.charts import Curve, line_chart
from nmt.errors import UsageError
from nmt.files import atomic_file
from nmt.metrics.base import bootstrap_samples
from nmt.metrics.significance import paired_bootstrap
from nmt.page import html_page, html_table, markdown_table, text_of
from nmt.study.measure import ParallelFiles, Study, read_figures
from nmt.study.plan import BASELINES, Part, Run

Table = tuple[list[str], list[list[str]]]
Section = tuple[str, str, str, Table]
"""Title, what was found, a chart or nothing, a table."""


def write_page(study: Study) -> Path:
    """Write `study.html` and `study.md` of runs that are all measured; where the first is.

    Raises:
        UsageError: there are none.
    """
    if not study.plan.runs:
        raise UsageError(f"nothing in {study.out} is measured to its end yet")
    ladder, family = _variants(study, "ladder"), _variants(study, "family")
    sections: list[Section] = []
    if ladder:
        sections += [_ladder(study), *(_lengths(study, test) for test in study.tests)]
    if len(family) > 1 and BASELINES["family"] in family:
        sections.append(_family(study))
    if ladder:
        sections += [_beams(study, test) for test in study.tests]
    sections += [_alignment(study, pairs) for pairs in study.gold]
    if ladder and all(_time_at(study, arch, n) for arch in ladder for n in study.plan.lengths):
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
    return f"{len(study.plan.runs)} models trained on {study.data.name}"


# -- the ladder ----------------------------------------------------------------------------------------------


def _ladder(study: Study) -> Section:
    test, beam = study.tests[0], study.plan.beams[1]
    header = ["model", "parameters", "tokens/s in training", "minutes", *(f"BLEU, {t.name}" for t in study.tests), "p"]
    rows = []
    for run in _runs(study, "ladder"):
        facts = read_figures(study, (run.name, "training"))
        scores = [_bleu(study, run, t, beam) for t in study.tests]
        speed, minutes = f"{facts['tokens_per_second']:,.0f}", f"{facts['seconds'] / 60:.1f}"
        rows.append([run.name, f"{facts['parameters']:,}", speed, minutes, *map(_interval, scores), _p(study, run)])
    found = [
        f"on {t.name} "
        + ", ".join(f"{arch} {_spread(_bleus(study, runs, t))}" for arch, runs in _variants(study, "ladder").items())
        for t in study.tests
    ]
    finding = f"BLEU with beam {beam}, mean ± standard deviation of the seeds: {'; '.join(found)}."
    p = f"p: paired bootstrap against {BASELINES['ladder']} of the same seed, {test.name}."
    return "The three generations", f"{finding} {p}", "", (header, rows)


# -- length --------------------------------------------------------------------------------------------------


def _lengths(study: Study, test: ParallelFiles) -> Section:
    """Bahdanau et al. 2015, figure 2; Cho et al. 2014."""
    beam, variants = study.plan.beams[1], _variants(study, "ladder")
    buckets = {
        arch: [read_figures(study, (run.name, test.name, beam))["buckets"] for run in runs]
        for arch, runs in variants.items()
    }
    some = next(iter(buckets.values()))[0]
    labels = [_label(bucket) for bucket in some]
    header = ["model", *(f"{_label(b)} ({b['lines']:,})" for b in some)]
    rows = [
        [run.name, *(_interval(bucket["bleu"]) for bucket in found)]
        for arch, runs in variants.items()
        for run, found in zip(runs, buckets[arch], strict=True)
    ]
    means = {
        arch: [
            {key: statistics.mean(bucket["bleu"][key] for bucket in same) for key in ("value", "low", "high")}
            for same in zip(*found, strict=True)
        ]
        for arch, found in buckets.items()
    }
    curves = [
        Curve(arch, *([m[key] for m in mean] for key in ("value", "low", "high"))) for arch, mean in means.items()
    ]
    chart = line_chart(f"BLEU by source words, {test.name}", labels, curves, below="words of the source")
    counted = [i for i, bucket in enumerate(some) if bucket["lines"] >= 20]
    finding = "there are too few lengths to say."
    if len(counted) > 1 and {"gru", "attention"} <= means.keys():
        finding = _falls(means, labels, counted[0], counted[-1])
    about = "Values and 95 % intervals of the chart are means of the seeds." if len(rows) > len(means) else ""
    return f"Does quality fall with length? ({test.name})", f"On {test.name}, {finding} {about}", chart, (header, rows)


def _falls(means: dict[str, list[dict[str, float]]], labels: list[str], first: int, last: int) -> str:
    """How much of its BLEU each keeps, from the first to the last lengths that have 20 lines."""
    kept = {arch: mean[last]["value"] / max(mean[first]["value"], 1e-9) for arch, mean in means.items()}
    shares = ", ".join(f"{arch} {100 * share:.0f} %" for arch, share in kept.items())
    text = f"of the BLEU at {labels[first]} words there is left at {labels[last]}: {shares}."
    apart = means["attention"][last]["low"] > means["gru"][last]["high"]
    there = f"at {labels[last]} words their intervals are {'apart' if apart else 'not apart'}"
    if kept["attention"] > kept["gru"] and apart:
        return f"{text} Attention flattens the fall, as was claimed: {there}."
    return f"{text} That attention flattens the fall does not show here; {there}."


# -- the family ----------------------------------------------------------------------------------------------


def _family(study: Study) -> Section:
    base, variants = BASELINES["family"], _variants(study, "family")
    header = ["what", "seeds", "tokens/s in training", *(f"BLEU, {t.name}" for t in study.tests)]
    header += [f"against {base}, {t.name}" for t in study.tests]
    rows = []
    for variant, runs in variants.items():
        speeds = [read_figures(study, (run.name, "training"))["tokens_per_second"] for run in runs]
        row = [variant, f"{len(runs)}", f"{statistics.median(speeds):,.0f}"]
        row += [_spread(_bleus(study, runs, test)) for test in study.tests]
        rows.append([*row, *(_against(study, variants[base], runs, test) for test in study.tests)])
    test = study.tests[0]
    means = {variant: statistics.mean(_bleus(study, runs, test)) for variant, runs in variants.items()}
    best, worst = max(means, key=means.__getitem__), min(means, key=means.__getitem__)
    finding = (
        f"Best on {test.name}, beam {study.plan.beams[1]}: {best} with {means[best]:.2f}; last: {worst} with "
        f"{means[worst]:.2f}. Mean ± standard deviation of the seeds. "
    )
    noise = _noise(study, test)
    if noise is None:
        finding += "With one seed nothing tells a difference from noise."
    else:
        finding += (
            f"Seeds of one variant spread by {noise:.2f} (standard deviation, pooled over the variants); a * marks "
            "differences of more than two of their standard errors."
        )
    return "Scores, scopes, placements", finding, "", (header, rows)


def _against(study: Study, base: Sequence[Run], runs: Sequence[Run], test: ParallelFiles) -> str:
    if runs == base:
        return ""
    difference = statistics.mean(_bleus(study, runs, test)) - statistics.mean(_bleus(study, base, test))
    noise = _noise(study, test)
    beyond = noise is not None and abs(difference) > 2 * noise * math.sqrt(1 / len(runs) + 1 / len(base))
    return f"{difference:+.2f}{'*' if beyond else ''}"


def _noise(study: Study, test: ParallelFiles) -> float | None:
    """Standard deviation of BLEU between seeds, pooled over the variants; `None` where each has one."""
    groups = [_bleus(study, runs, test) for runs in _variants(study, "family").values()]
    freedom = sum(len(group) - 1 for group in groups)
    if not freedom:
        return None
    return math.sqrt(sum((len(g) - 1) * statistics.variance(g) for g in groups if len(g) > 1) / freedom)


# -- search --------------------------------------------------------------------------------------------------


def _beams(study: Study, test: ParallelFiles) -> Section:
    beams, variants = study.plan.beams, _variants(study, "ladder")
    found = {
        (arch, beam): [read_figures(study, (run.name, test.name, beam)) for run in runs]
        for arch, runs in variants.items()
        for beam in beams
    }
    labels = [_label(bucket) for bucket in next(iter(found.values()))[0]["buckets"]]
    header = ["model, beam", "all", "sentences/s", *labels]
    rows, gains = [], []
    for (arch, beam), seeds in found.items():
        speed = statistics.mean(figures["speed"]["sentences_per_second"] for figures in seeds)
        by_length = zip(*(figures["buckets"] for figures in seeds), strict=True)
        bleus = [statistics.mean(bucket["bleu"]["value"] for bucket in same) for same in by_length]
        whole = statistics.mean(_bleus(study, variants[arch], test, beam))
        rows.append([f"{arch}, {beam}", f"{whole:.2f}", f"{speed:,.1f}", *(f"{bleu:.1f}" for bleu in bleus)])
    for arch, runs in variants.items():
        means = " → ".join(f"{statistics.mean(_bleus(study, runs, test, beam)):.2f}" for beam in beams)
        gains.append(f"{arch} {means}")
    finding = f"BLEU with beam {' → '.join(map(str, beams))} on {test.name}: {'; '.join(gains)} (means of the seeds)."
    return f"Greedy or beam? ({test.name})", finding, "", (header, rows)


# -- alignment -----------------------------------------------------------------------------------------------


def _alignment(study: Study, gold: ParallelFiles) -> Section:
    errors: dict[str, list[list[float]]] = {}
    for run in study.plan.runs:
        found = read_figures(study, (run.name, gold.name, "aer"))
        for name, figures in (found["alignments"] if found else {}).items():
            what = name if name == "diagonal" else f"{run.variant}, {name}"
            errors.setdefault(what, []).append([figures[key] for key in ("aer", "precision", "recall")])
    means = {what: [statistics.mean(column) for column in zip(*rows, strict=True)] for what, rows in errors.items()}
    if not means:
        return f"Do weights align words? ({gold.name})", "No attention.", "", (["attention"], [])
    diagonal = means.pop("diagonal")
    best = min(means, key=lambda what: means[what][0])
    finding = (
        f"Lowest error rate on {gold.name}: {best}, {means[best][0]:.1f} % (the diagonal has {diagonal[0]:.1f}); "
        "means of the seeds."
    )
    rows = [[what, *(f"{value:.1f}" for value in row)] for what, row in {"diagonal": diagonal, **means}.items()]
    return f"Do weights align words? ({gold.name})", finding, "", (["attention", "AER", "precision", "recall"], rows)


# -- growth --------------------------------------------------------------------------------------------------


def _growth(study: Study) -> Section:
    lengths, arches = study.plan.lengths, list(_variants(study, "ladder"))
    header = ["model", *(f"{length} tokens" for length in lengths), "grows as n^"]
    rows: list[list[str]] = []
    curves: list[Curve] = []
    found: dict[tuple[str, str], float] = {}
    for what, key in (("training", "target_tokens_per_second"), ("translation", "lines_per_second")):
        for arch in arches:
            times = []
            for length in lengths:
                rate = _time_at(study, arch, length)[what][key]
                times.append(1000 * length / rate if what == "training" else 1000 / rate)
            exponent = _slope(lengths, times)
            found[what, arch] = exponent
            of = "" if what == "training" else " of a sentence with half as many words"
            rows.append([f"{arch}, {what}{of}, ms", *(f"{time:.2f}" for time in times), f"{exponent:.2f}"])
            if what == "training":
                curves.append(Curve(arch, times))
    for arch in arches:
        held = [_time_at(study, arch, length)["training"]["peak_memory_mib"] for length in lengths]
        rows.append([f"{arch}, training, peak MiB", *(f"{value:,.0f}" for value in held), ""])
    chart = line_chart("ms a sentence in training", [str(n) for n in lengths], curves, below="tokens a sentence")
    powers = "; ".join(f"{arch} {found['training', arch]:.2f}" for arch in arches)
    finding = (
        f"Time a sentence in training grows with its length n as n to the power of: {powers}. Recurrence costs "
        "O(n·d²), attention over all positions O(n²·d) beside the O(n·d²) of its projections: the square shows only "
        "once n comes near d, and the output layer, O(n·d·V) for all three, hides it further."
    )
    return "How do time and memory grow?", finding, chart, (header, rows)


def _time_at(study: Study, arch: str, length: int) -> Any:
    return read_figures(study, ("time", arch, length))


def _slope(lengths: Sequence[int], times: Sequence[float]) -> float:
    """Of the line through the logarithms, by least squares."""
    xs, ys = [math.log(length) for length in lengths], [math.log(time) for time in times]
    return statistics.linear_regression(xs, ys).slope


# -- figures -------------------------------------------------------------------------------------------------


def _runs(study: Study, part: Part) -> list[Run]:
    return [run for run in study.plan.runs if run.part == part]


def _variants(study: Study, part: Part) -> dict[str, list[Run]]:
    """The seeds of each."""
    variants: dict[str, list[Run]] = {}
    for run in _runs(study, part):
        variants.setdefault(run.variant, []).append(run)
    return variants


def _bleu(study: Study, run: Run, test: ParallelFiles, beam: int) -> dict[str, Any]:
    score: dict[str, Any] = read_figures(study, (run.name, test.name, beam))["scores"]["bleu"]
    return score


def _bleus(study: Study, runs: Sequence[Run], test: ParallelFiles, beam: int | None = None) -> list[float]:
    return [_bleu(study, run, test, beam or study.plan.beams[1])["value"] for run in runs]


def _spread(values: Sequence[float]) -> str:
    deviation = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{deviation}"


def _p(study: Study, run: Run) -> str:
    """Of the difference to the baseline of the same seed, by paired bootstrap; nothing where there is none."""
    test, beam = study.tests[0], study.plan.beams[1]
    base = next((r for r in _variants(study, run.part).get(BASELINES[run.part], []) if r.seed == run.seed), run)
    if base is run:
        return ""
    lines = {which.name: _lines(study.hyps(which, test, beam)) for which in (base, run)}
    refs = [(line,) for line in _lines(test.ref)]
    return f"{paired_bootstrap(lines, refs, bootstrap_samples(len(refs)))[run.name].bleu:.3f}"


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").removesuffix("\n").split("\n")


def _label(bucket: dict[str, Any]) -> str:
    return f"{bucket['low']}+" if bucket["high"] is None else f"{bucket['low']}-{bucket['high']}"


def _interval(score: dict[str, Any]) -> str:
    return f"{score['value']:.1f} [{score['low']:.1f}, {score['high']:.1f}]"
