"""The page of a study: every question with its figures, and what they say."""

import math
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from nmt.charts import Curve, line_chart
from nmt.config import AttentionGRUConfig, TransformerConfig
from nmt.errors import UsageError
from nmt.files import atomic_file
from nmt.lines import read_text_lines
from nmt.metrics.base import bootstrap_samples
from nmt.metrics.significance import paired_bootstrap
from nmt.page import html_page, html_table, markdown_table, text_of
from nmt.settings import resolve
from nmt.study.measure import ParallelFiles, Study, measured, read_figures
from nmt.study.plan import BASELINES, Part, Run

ENDS: Final = ("value", "low", "high")
"""Of an interval."""
ENOUGH_LINES: Final = 20
"""Of one length, to say something of it."""
ENOUGH_FREEDOM: Final = 10
"""Of the noise between seeds, to call a difference more than that."""
ERRORS: Final = 3
"""Standard errors that a difference must have, of some fourteen that are looked at."""


class Section(NamedTuple):
    """A question, and what answers it."""

    title: str
    finding: str
    header: list[str]
    rows: list[list[str]]
    chart: str = ""


def write_page(study: Study) -> Path:
    """Write `study.html` and `study.md` of the runs that are measured to their end; where the first is.

    Raises:
        UsageError: there are none.
    """
    planned = len(study.plan.runs)
    study = measured(study)
    if not study.plan.runs:
        raise UsageError(f"no model in {study.out} is measured to its end yet")
    ladder = _variants(study, "ladder")
    sections: list[Section] = []
    if ladder:
        sections += [_ladder(study), *(_lengths(study, test) for test in study.tests)]
    if _variants(study, "family"):
        sections.append(_family(study))
    if ladder:
        sections += [_beams(study, test) for test in study.tests]
    sections += [_alignment(study, part, pairs) for part in BASELINES for pairs in study.gold if _runs(study, part)]
    if ladder and all(_time_at(study, arch, n) for arch in ladder for n in study.plan.lengths):
        sections.append(_growth(study))
    title = f"What attention changes, on {study.data.name}"
    signature = _bleu(study, study.plan.runs[0], study.tests[0])["signature"]
    about = f"{len(study.plan.runs)} of {planned} models are measured. BLEU: {signature}, with 95 % intervals."
    parts, text = [f"<p>{text_of(about)}</p>\n"], [f"# {title}\n", f"{about}\n"]
    for section in sections:
        numbers = range(1, len(section.header))
        parts += [f"<h2>{text_of(section.title)}</h2>\n", f"<p>{text_of(section.finding)}</p>\n", section.chart]
        parts.append(html_table(section.header, section.rows, numbers, "figures"))
        text += [f"## {section.title}\n", f"{section.finding}\n"]
        text.append(markdown_table(section.header, section.rows, tuple(numbers)))
    for name, content in (("study.html", html_page(title, parts)), ("study.md", "\n".join(text))):
        with atomic_file(study.out / name) as file:
            file.write(content.encode())
    return study.out / "study.html"


# -- the ladder ----------------------------------------------------------------------------------------------


def _ladder(study: Study) -> Section:
    test = study.tests[0]
    header = ["model", "parameters", "tokens/s in training", "minutes", *(f"BLEU, {t.name}" for t in study.tests), "p"]
    rows = []
    for run in _runs(study, "ladder"):
        facts = read_figures(study, (run.name, "training"))
        scores = [_bleu(study, run, t) for t in study.tests]
        speed, minutes = f"{facts['tokens_per_second']:,.0f}", f"{facts['seconds'] / 60:.1f}"
        rows.append([run.name, f"{facts['parameters']:,}", speed, minutes, *map(_interval, scores), _p(study, run)])
    found = [
        f"on {t.name} "
        + ", ".join(f"{arch} {_spread(_bleus(study, runs, t))}" for arch, runs in _variants(study, "ladder").items())
        for t in study.tests
    ]
    finding = (
        f"{_trained(study, 'ladder')} BLEU with beam {study.plan.beam}, mean ± standard deviation of the seeds: "
        f"{'; '.join(found)}. p: paired bootstrap against {BASELINES['ladder']} of the same seed, {test.name}."
    )
    return Section("The three generations", finding, header, rows)


def _trained(study: Study, part: Part) -> str:
    """How long each, and what their speeds are worth."""
    run = _runs(study, part)[0]
    others = " Several models trained at a time: speeds and minutes are no more than a hint." * (study.workers > 1)
    return f"Preset {run.preset}, {run.updates:,} updates each ({', '.join(study.plan.settings)}).{others}"


# -- length --------------------------------------------------------------------------------------------------


def _lengths(study: Study, test: ParallelFiles) -> Section:
    """Bahdanau et al. 2015, figure 2; Cho et al. 2014."""
    variants = _variants(study, "ladder")
    buckets = {
        arch: [read_figures(study, (run.name, test.name, study.plan.beam))["buckets"] for run in runs]
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
    curves = [
        Curve(
            arch,
            *([_mean(bucket["bleu"][end] for bucket in same) for same in zip(*found, strict=True)] for end in ENDS),
        )
        for arch, found in buckets.items()
    ]
    chart = line_chart(f"BLEU by source words, {test.name}", labels, curves, below="words of the source")
    counted = [i for i, bucket in enumerate(some) if bucket["lines"] >= ENOUGH_LINES]
    finding = "there are too few lengths to say."
    if len(counted) > 1:
        finding = _falls(buckets, labels, counted[0], counted[-1])
    about = " The chart has the means of the seeds, of their intervals too." if len(rows) > len(buckets) else ""
    title = f"Does quality fall with length? ({test.name})"
    return Section(title, f"On {test.name}, {finding}{about}", header, rows, chart)


def _falls(buckets: dict[str, list[Any]], labels: list[str], first: int, last: int) -> str:
    """How much of its BLEU each keeps, seed by seed, from the first to the last lengths that have enough lines."""
    kept = {
        arch: [seed[last]["bleu"]["value"] / max(seed[first]["bleu"]["value"], 1e-9) for seed in found]
        for arch, found in buckets.items()
    }
    shares = ", ".join(f"{arch} {_range([100 * share for share in found])} %" for arch, found in kept.items())
    text = f"of the BLEU at {labels[first]} words there is left at {labels[last]}: {shares}."
    if not {"gru", "attention"} <= buckets.keys():
        return text
    lows = [seed[last]["bleu"]["low"] for seed in buckets["attention"]]
    highs = [seed[last]["bleu"]["high"] for seed in buckets["gru"]]
    if None not in (*lows, *highs):
        ahead = (
            "ahead of gru beyond the intervals" if min(lows) > max(highs) else "not ahead of gru beyond the intervals"
        )
        text += f" At {labels[last]} words attention is {ahead}."
    if min(len(kept["gru"]), len(kept["attention"])) < 2:
        return f"{text} One seed does not tell whether attention flattens the fall."
    if min(kept["attention"]) > max(kept["gru"]):
        return f"{text} Attention flattens the fall, as was claimed: whatever the seeds, it keeps more."
    return f"{text} That attention flattens the fall does not show here: the shares overlap."


def _range(values: Sequence[float]) -> str:
    low, high = f"{min(values):.0f}", f"{max(values):.0f}"
    return low if low == high else f"{low} to {high}"


# -- the family ----------------------------------------------------------------------------------------------


def _family(study: Study) -> Section:
    base, variants = BASELINES["family"], _variants(study, "family")
    noises = [_noise([_bleus(study, runs, test) for runs in variants.values()]) for test in study.tests]
    header = ["what", "seeds", "tokens/s in training", *(f"BLEU, {t.name}" for t in study.tests)]
    header += [f"against {base}, {t.name}" for t in study.tests]
    rows = []
    for variant, runs in variants.items():
        speed = max(read_figures(study, (run.name, "training"))["tokens_per_second"] for run in runs)
        row = [variant, f"{len(runs)}", f"{speed:,.0f}", *(_spread(_bleus(study, runs, test)) for test in study.tests)]
        for test, noise in zip(study.tests, noises, strict=True):
            against = (
                "" if variant == base or base not in variants else _against(study, variants[base], runs, test, noise)
            )
            row.append(against)
        rows.append(row)
    test = study.tests[0]
    means = {variant: statistics.mean(_bleus(study, runs, test)) for variant, runs in variants.items()}
    best, worst = max(means, key=means.__getitem__), min(means, key=means.__getitem__)
    known = [f"{t.name} {noise:.2f}" for t, noise in zip(study.tests, noises, strict=True) if noise is not None]
    finding = (
        f"{_trained(study, 'family')} BLEU with beam {study.plan.beam}, mean ± standard deviation of the seeds. "
        f"Highest on {test.name}: {best} with {means[best]:.2f}; lowest: {worst} with {means[worst]:.2f}. "
    )
    if known:
        finding += (
            f"Standard deviation between the seeds of one variant, by the median of all: {', '.join(known)}. A * marks "
            f"differences of more than {ERRORS} standard errors, by that or by a variant's own if it is larger."
        )
    else:
        finding += "So few seeds do not tell a difference from noise."
    return Section("Scores, scopes, placements", finding, header, rows)


def _against(study: Study, base: Sequence[Run], runs: Sequence[Run], test: ParallelFiles, noise: float | None) -> str:
    ours, theirs = _bleus(study, runs, test), _bleus(study, base, test)
    difference = statistics.mean(ours) - statistics.mean(theirs)
    beyond = noise is not None and abs(difference) > ERRORS * math.hypot(_error(ours, noise), _error(theirs, noise))
    return f"{difference:+.2f}{'*' if beyond else ''}"


def _error(values: Sequence[float], noise: float) -> float:
    """Standard error of their mean; of values that spread further than the noise, by their own spread."""
    return max(noise, statistics.stdev(values) if len(values) > 1 else 0.0) / math.sqrt(len(values))


def _noise(groups: Sequence[Sequence[float]]) -> float | None:
    """Standard deviation between the seeds of a usual variant, whatever a few unstable ones do.

    By the median of the variants' variances, which is that of chi^2 / f at f degrees of freedom (Wilson and Hilferty
    1931: (1 - 2 / 9f)^3) times the true one. `None` with too few seeds.
    """
    several = [group for group in groups if len(group) > 1]
    freedoms = [len(group) - 1 for group in several]
    if sum(freedoms) < ENOUGH_FREEDOM:
        return None
    middle = (1 - 2 / (9 * statistics.mean(freedoms))) ** 3
    return math.sqrt(statistics.median(map(statistics.variance, several)) / middle)


# -- search --------------------------------------------------------------------------------------------------


def _beams(study: Study, test: ParallelFiles) -> Section:
    beams, variants = study.plan.beams, _variants(study, "ladder")
    header: list[str] = []
    rows, gains = [], []
    for arch, runs in variants.items():
        means = []
        for beam in beams:
            seeds = [read_figures(study, (run.name, test.name, beam)) for run in runs]
            header = header or ["model, beam", "all", "sentences/s", *(_label(b) for b in seeds[0]["buckets"])]
            speed = max(figures["speed"]["sentences_per_second"] for figures in seeds)
            by_length = zip(*(figures["buckets"] for figures in seeds), strict=True)
            bleus = [statistics.mean(bucket["bleu"]["value"] for bucket in same) for same in by_length]
            means.append(f"{statistics.mean(_bleus(study, runs, test, beam)):.2f}")
            rows.append([f"{arch}, {beam}", means[-1], f"{speed:,.1f}", *(f"{bleu:.1f}" for bleu in bleus)])
        gains.append(f"{arch} {' → '.join(means)}")
    finding = (
        f"BLEU with beam {' → '.join(map(str, beams))} on {test.name}: {'; '.join(gains)} (means of the seeds; of the "
        "speeds, the best)."
    )
    return Section(f"Greedy or beam? ({test.name})", finding, header, rows)


# -- alignment -----------------------------------------------------------------------------------------------


def _alignment(study: Study, part: Part, gold: ParallelFiles) -> Section:
    errors: dict[str, list[list[float]]] = {}
    for run in _runs(study, part):
        found = read_figures(study, (run.name, gold.name, "aer")) if run.attends else None
        for name, figures in (found["alignments"] if found else {}).items():
            whose = run.name if "head" in name else run.variant  # head 2 of one seed is not head 2 of another
            what = name if name == "diagonal" else f"{whose}, {name}"
            errors.setdefault(what, []).append([figures[key] for key in ("aer", "precision", "recall")])
    means = {what: [statistics.mean(column) for column in zip(*rows, strict=True)] for what, rows in errors.items()}
    title, header = f"Do weights align words? (the {part}, {gold.name})", ["attention", "AER", "precision", "recall"]
    if not means:
        return Section(title, "No model with attention is measured yet.", header, [])
    diagonal = means.pop("diagonal")
    best = min((what for what in means if "head" not in what), key=lambda what: means[what][0])
    finding = (
        f"Lowest error rate: {best}, {means[best][0]:.1f} % (the diagonal has {diagonal[0]:.1f}). Layers have the mean "
        "of their heads, and of the seeds; single heads are those of one seed."
    )
    rows = [[what, *(f"{value:.1f}" for value in row)] for what, row in {"diagonal": diagonal, **means}.items()]
    return Section(title, finding, header, rows)


# -- growth --------------------------------------------------------------------------------------------------


def _growth(study: Study) -> Section:
    lengths, arches = study.plan.lengths, list(_variants(study, "ladder"))
    header = ["model", *(f"{length} tokens" for length in lengths), "grows as n^", f"square at {lengths[-1]}"]
    rows: list[list[str]] = []
    curves: list[Curve] = []
    shares: dict[tuple[str, str], float] = {}
    for what in ("training", "translation"):
        for arch in arches:
            sizes, times = zip(*(_milliseconds(study, arch, length, what) for length in lengths), strict=True)
            shares[what, arch] = _square_share(sizes, times, lengths[-1])
            growth = f"{_slope(sizes, times):.2f}", f"{shares[what, arch]:.0%}"
            of = "" if what == "training" else f" of {', '.join(f'{size:.0f}' for size in sizes)} tokens"
            rows.append([f"{arch}, {what}{of}, ms", *(f"{time:.2f}" for time in times), *growth])
            if what == "training":
                curves.append(Curve(arch, times))
    for what in ("training", "translation"):
        for arch in arches:
            held = [_time_at(study, arch, length)[what]["peak_memory_mib"] for length in lengths]
            rows.append([f"{arch}, {what}, peak MiB", *(f"{value:,.0f}" for value in held), "", ""])
    chart = line_chart("ms a sentence in training", [str(n) for n in lengths], curves, below="tokens a sentence")
    told = []
    for arch in arches:
        expected = _operations_square_share(study, arch, lengths[-1])
        measured = f"{shares['training', arch]:.0%} of the training time"
        told.append(
            f"{arch} {expected:.0%} of the operations, {measured}, {shares['translation', arch]:.0%} of greedy's"
        )
    finding = (
        "With n tokens a side, recurrence, projections and the output layer cost O(n·d²) and O(n·d·V), attention "
        f"between positions O(n²·d). What grows with the square makes, at n = {lengths[-1]}: {'; '.join(told)} (times "
        "by least squares of a·n + b·n²; gru, which has no such operations, shows what of that is the measure's own)."
    )
    return Section("How do time and memory grow?", finding, header, rows, chart)


def _milliseconds(study: Study, arch: str, length: int, what: str) -> tuple[float, float]:
    """Tokens a side of what was timed, and time a sentence; what was translated is cut by words, to about as much."""
    figures = _time_at(study, arch, length)[what]
    if what == "training":
        return length, 1000 * length / figures["target_tokens_per_second"]
    return figures["target_tokens_per_line"], 1000 / figures["lines_per_second"]


def _square_share(lengths: Sequence[float], times: Sequence[float], n: int) -> float:
    """Share of b n^2 in a n + b n^2 fitted to the times at these lengths: least squares of the relative errors."""
    xs = [n / time for n, time in zip(lengths, times, strict=True)]
    ys = [n * n / time for n, time in zip(lengths, times, strict=True)]
    xx, xy, yy = (sum(map(math.prod, zip(u, v, strict=True))) for u, v in ((xs, xs), (xs, ys), (ys, ys)))
    linear, square = sum(xs) * yy - sum(ys) * xy, sum(ys) * xx - sum(xs) * xy
    return max(0.0, square) * n / (max(0.0, linear) + max(0.0, square) * n)


def _operations_square_share(study: Study, arch: str, n: int) -> float:
    """Share of the operations of a training step between positions, of n tokens a side.

    Queries with keys and weights with values are 2 d operations each and position, in the encoder, the decoder and
    between them; additive attention adds, takes tanh of and multiplies A numbers, and means a memory of width H. Three
    times for the gradients, as all that `flop_per_target_token` counts beside them.
    """
    run = _variants(study, "ladder")[arch][0]
    model = resolve(run.arch, preset=run.preset, environment={}, overrides=run.settings).model
    if isinstance(model, TransformerConfig):
        pairs = 4 * model.model_size * (model.num_encoder_layers + 2 * model.num_decoder_layers)
    elif isinstance(model, AttentionGRUConfig):
        pairs = 4 * model.attention_size + 2 * model.hidden_size
    else:
        pairs = 0
    square = float(3 * pairs * n)
    return square / (square + float(_time_at(study, arch, n)["training"]["flop_per_target_token"]))


def _time_at(study: Study, arch: str, length: int) -> Any:
    return read_figures(study, ("time", arch, length))


def _slope(lengths: Sequence[float], times: Sequence[float]) -> float:
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


def _bleu(study: Study, run: Run, test: ParallelFiles, beam: int | None = None) -> dict[str, Any]:
    figures = read_figures(study, (run.name, test.name, beam or study.plan.beam))
    score: dict[str, Any] = figures["scores"]["bleu"]
    return score


def _bleus(study: Study, runs: Sequence[Run], test: ParallelFiles, beam: int | None = None) -> list[float]:
    return [_bleu(study, run, test, beam)["value"] for run in runs]


def _mean(values: Iterable[float | None]) -> float | None:
    """`None` where one of them is not there."""
    known = list(values)
    return None if None in known else statistics.mean(value for value in known if value is not None)


def _spread(values: Sequence[float]) -> str:
    deviation = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{deviation}"


def _p(study: Study, run: Run) -> str:
    """Of the difference to the baseline of the same seed, by paired bootstrap; nothing where there is none."""
    test = study.tests[0]
    base = next((r for r in _variants(study, run.part).get(BASELINES[run.part], []) if r.seed == run.seed), run)
    refs = [(line,) for line in read_text_lines(test.ref)]
    samples = bootstrap_samples(len(refs))
    if base is run or not samples:
        return ""
    hyps = {which.name: read_text_lines(study.hyps(which, test, study.plan.beam)) for which in (base, run)}
    return f"{paired_bootstrap(hyps, refs, samples)[run.name].bleu:.3f}"


def _label(bucket: dict[str, Any]) -> str:
    return f"{bucket['low']}+" if bucket["high"] is None else f"{bucket['low']}-{bucket['high']}"


def _interval(score: dict[str, Any]) -> str:
    interval = "" if score["low"] is None else f" [{score['low']:.1f}, {score['high']:.1f}]"
    return f"{score['value']:.1f}{interval}"
