"""Charts as inline SVG, from plain numbers; colours come from the style sheet of the page around them."""

import math
from collections.abc import Sequence
from html import escape
from typing import Final, NamedTuple

WIDTH: Final = 720
HEIGHT: Final = 260
LEFT: Final = 44
RIGHT: Final = 12
TOP: Final = 22
BOTTOM: Final = 44
MAX_BINS: Final = 40


class Bar(NamedTuple):
    """One bar of a chart, with its confidence interval."""

    label: str
    below: str
    value: float
    low: float | None
    high: float | None


def nice_step(top: float) -> float:
    """The smallest of 1, 2, 2.5, 5 times a power of ten that reaches `top` in at most five steps."""
    if top <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(top / 5))
    return next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor * 5 >= top * (1 - 1e-9))


class _Axes:
    """The plotting area: y from 0 to `top`, x in equal columns."""

    def __init__(self, top: float, columns: int) -> None:
        self.step = nice_step(top)
        self.top = self.step * max(1, math.ceil(top / self.step - 1e-9))
        self.column = (WIDTH - LEFT - RIGHT) / columns

    def y(self, value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / self.top)

    def x(self, column: float) -> float:
        return LEFT + self.column * column

    def grid(self) -> list[str]:
        parts = []
        for i in range(round(self.top / self.step) + 1):
            y = self.y(i * self.step)
            parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            label = f"{i * self.step:,g}"
            parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
        return parts


def _svg(label: str, parts: Sequence[str], *, above: int = 0) -> str:
    """A chart, with so many points more above it."""
    inner = "\n".join(parts)
    place = f'viewBox="0 {-above} {WIDTH} {HEIGHT + above}" role="img" aria-label="{escape(label, quote=True)}"'
    return f"<svg {place}>\n{inner}\n</svg>\n"


def bar_chart(title: str, bars: Sequence[Bar]) -> str:
    """Bars from 0 with whiskers from `low` to `high`, its value above, two lines of text below."""
    axes = _Axes(max(max(bar.value, bar.high or 0.0) for bar in bars), len(bars))
    parts = axes.grid()
    for i, bar in enumerate(bars):
        middle, width = axes.x(i + 0.5), min(axes.column * 0.6, 64)
        y = peak = axes.y(bar.value)
        parts.append(
            f'<rect class="bar" x="{middle - width / 2:.1f}" y="{y:.1f}" width="{width:.1f}" '
            f'height="{axes.y(0.0) - y:.1f}"><title>{escape(bar.label)}: {bar.value:.1f}</title></rect>'
        )
        if bar.low is not None and bar.high is not None:
            low, peak = axes.y(max(bar.low, 0.0)), min(y, axes.y(bar.high))
            parts.append(
                f'<path class="whisker" d="M{middle:.1f} {peak:.1f}V{low:.1f}'
                f'M{middle - 6:.1f} {peak:.1f}h12M{middle - 6:.1f} {low:.1f}h12"/>'
            )
        for kind, at, text in (
            ("value", peak - 6, f"{bar.value:.1f}"),
            ("label", HEIGHT - 26.0, bar.label),
            ("label", HEIGHT - 10.0, bar.below),
        ):
            parts.append(_label(kind, middle, at, text))
    return _svg(title, parts)


def _label(kind: str, x: float, y: float, text: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="middle">{escape(text)}</text>'


def length_histogram(lengths: Sequence[tuple[int, int, int]]) -> str:
    """Numbers of words: translations as bars, references as a stepped line."""
    longest = max(words for words, _, _ in lengths)
    size = max(1, math.ceil((longest + 1) / MAX_BINS))
    bins = longest // size + 1
    hyps, refs = [0] * bins, [0] * bins
    for words, hyp_count, ref_count in lengths:
        hyps[words // size] += hyp_count
        refs[words // size] += ref_count
    axes = _Axes(float(max(*hyps, *refs)), bins)
    parts = axes.grid()
    for i, count in enumerate(hyps):
        y = axes.y(float(count))
        parts.append(
            f'<rect class="bar" x="{axes.x(i + 0.1):.1f}" y="{y:.1f}" width="{axes.column * 0.8:.1f}" '
            f'height="{axes.y(0.0) - y:.1f}"><title>{_range(i, size)} words: {count:,}</title></rect>'
        )
    line = "".join(f"V{axes.y(float(count)):.1f}H{axes.x(i + 1.0):.1f}" for i, count in enumerate(refs))
    parts.append(f'<path class="step" d="M{LEFT} {axes.y(0.0):.1f}{line}V{axes.y(0.0):.1f}"/>')
    every = max(1, math.ceil(bins / 14))
    for i in range(0, bins, every):
        parts.append(_label("label", axes.x(i + 0.5), HEIGHT - 26.0, str(i * size)))
    parts.append(_label("label", (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8.0, "words"))
    parts += [
        f'<rect class="bar" x="{WIDTH - 212}" y="2" width="12" height="12"/>',
        f'<text x="{WIDTH - 194}" y="12">translations</text>',
        f'<rect class="key" x="{WIDTH - 108}" y="7" width="14" height="3"/>',
        f'<text x="{WIDTH - 88}" y="12">references</text>',
    ]
    return _svg("Histogram of lengths", parts)


_KEYS: Final = 4
"""In a row."""
_KEY: Final = (WIDTH - LEFT - RIGHT) // _KEYS
_KEY_ROW: Final = 16


class Curve(NamedTuple):
    """Values at some of the places of the x axis; `None` where there is none."""

    label: str
    values: Sequence[float | None]
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()


def line_chart(title: str, places: Sequence[str], curves: Sequence[Curve], *, below: str) -> str:
    """Curves over named places, with bands from `low` to `high` where there are any; a key above."""
    tops = [value for curve in curves for value in (*curve.values, *curve.high) if value is not None]
    axes = _Axes(max(tops, default=1.0), len(places))
    parts = axes.grid()
    above = _KEY_ROW * ((len(curves) - 1) // _KEYS)
    for number, curve in enumerate(curves):
        colour = number % 6
        points = [(axes.x(i + 0.5), v) for i, v in enumerate(curve.values) if v is not None]
        band = [
            (axes.x(i + 0.5), low, high)
            for i, (low, high) in enumerate(zip(curve.low, curve.high, strict=True))
            if low is not None and high is not None
        ]
        if len(band) > 1:
            outline = [f"{x:.1f},{axes.y(high):.1f}" for x, _, high in band]
            outline += [f"{x:.1f},{axes.y(max(low, 0.0)):.1f}" for x, low, _ in reversed(band)]
            parts.append(f'<polygon class="band f{colour}" points="{" ".join(outline)}"/>')
        path = "M" + "L".join(f"{x:.1f} {axes.y(value):.1f}" for x, value in points) if points else ""
        parts.append(f'<path class="curve c{colour}" d="{path}"/>')
        for x, value in points:
            mark = f'<circle class="f{colour}" cx="{x:.1f}" cy="{axes.y(value):.1f}" r="3">'
            parts.append(f"{mark}<title>{escape(curve.label)}: {value:.1f}</title></circle>")
        left, y = LEFT + _KEY * (number % _KEYS), _KEY_ROW * (number // _KEYS) - above
        parts.append(f'<rect class="f{colour}" x="{left}" y="{y + 3}" width="14" height="4"/>')
        parts.append(f'<text x="{left + 20}" y="{y + 10}">{escape(_cut(curve.label))}</text>')
    every = max(1, math.ceil(len(places) / 14))
    for i in range(0, len(places), every):
        parts.append(_label("label", axes.x(i + 0.5), HEIGHT - 26.0, places[i]))
    parts.append(_label("label", (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8.0, below))
    return _svg(title, parts, above=above)


_CELL: Final = 15
_WIDEST: Final = 1.6
"""Times the width of other letters: m, w, capitals and their like."""
_LETTER: Final = 6.2
"""Points a letter is wide, about."""
FAINTEST: Final = 0.02


def heat_map(title: str, columns: Sequence[str], rows: Sequence[str], weights: Sequence[Sequence[float]]) -> str:
    """Weights from 0 to 1 of each row over the columns, the darker the more; those under 2 % are left blank."""
    columns, rows = [_cut(word) for word in columns], [_cut(word) for word in rows]
    left, top = (max(map(_width, words), default=_LETTER) + 10 for words in (rows, columns))
    width, height = left + _CELL * len(columns) + 2, top + _CELL * len(rows) + 2
    parts = []
    for j, word in enumerate(columns):
        x = left + _CELL * (j + 0.5) + 4
        parts.append(f'<text transform="translate({x:.1f} {top - 5:.1f}) rotate(-90)">{escape(word)}</text>')
    for i, (word, row) in enumerate(zip(rows, weights, strict=True)):
        y = top + _CELL * i
        parts.append(f'<text x="{left - 5:.1f}" y="{y + 11:.1f}" text-anchor="end">{escape(word)}</text>')
        for j, weight in enumerate(row):
            if weight >= FAINTEST:
                place = f'x="{left + _CELL * j:.1f}" y="{y:.1f}" width="{_CELL - 1}" height="{_CELL - 1}"'
                parts.append(f'<rect class="bar" {place} opacity="{min(weight, 1.0):.2f}"/>')
    frame = f'x="{left - 1:.1f}" y="{top - 1:.1f}" width="{_CELL * len(columns) + 1}" height="{_CELL * len(rows) + 1}"'
    parts.append(f'<rect class="frame" {frame}/>')
    inner, size = "\n".join(parts), f'width="{width:.0f}" height="{height:.0f}"'
    label = f'viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{escape(title)}"'
    return f'<svg class="heat" {size} {label}>\n{inner}\n</svg>\n'


def _width(word: str) -> float:
    """Room for a word, in points."""
    return _LETTER * sum(_WIDEST if letter in "mwœæ@%—" or letter.isupper() else 1.0 for letter in word)


def _cut(word: str) -> str:
    """A short word whole; of a longer one what it begins with and, as names differ there, more of its end."""
    return word if len(word) <= 20 else f"{word[:6]}…{word[-13:]}"


def _range(index: int, size: int) -> str:
    return str(index * size) if size == 1 else f"{index * size}-{index * size + size - 1}"
