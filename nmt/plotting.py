"""Figures of plain numbers and strings, as PNG, SVG or PDF, through matplotlib (the extra `plot`)."""

import importlib.util
import logging
import warnings
from collections.abc import Sequence, Set
from pathlib import Path
from typing import Any, Final, NamedTuple

from nmt.errors import UsageError
from nmt.files import atomic_file

FORMATS: Final = ("png", "svg", "pdf")
DPI: Final = 160
LONGEST_LABEL: Final = 24


class Line(NamedTuple):
    """One curve."""

    label: str
    x: Sequence[float]
    y: Sequence[float]


def check_plot(path: Path, option: str, *, others: Sequence[str] = ()) -> None:
    """Raise `UsageError` unless a figure can be written as `path` names it; `others` are suffixes to speak of too."""
    if path.suffix.lower().lstrip(".") not in FORMATS:
        raise UsageError(f"{option} {path}: the name must end in .{', .'.join([*others, *FORMATS])}")
    if importlib.util.find_spec("matplotlib") is None:
        raise UsageError(f"{option} needs the package matplotlib: pip install 'nmt[plot]'")


def new_figure(width: float, height: float) -> tuple[Any, Any]:
    """A figure of so many inches and its axes, drawn without a display."""
    from matplotlib.figure import Figure

    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # it tells of weights that a font has not
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    return figure, figure.add_subplot()


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure as the suffix of `path` says, whole or not at all; the same figure gives the same bytes."""
    import matplotlib as mpl

    kind = path.suffix.lower().lstrip(".")
    undated: dict[str, Any] = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]
    with atomic_file(path) as file, mpl.rc_context({"svg.hashsalt": "nmt"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # `heat_map` tells of them in one line
        figure.savefig(file, format=kind, metadata=undated)


def line_plot(path: Path, lines: Sequence[Line], *, x_label: str, y_label: str, log: bool = False) -> None:
    """Curves with a mark at every value; `log` for axes on which a doubling is always as wide."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    figure, axes = new_figure(6.4, 4.0)
    for line in lines:
        axes.plot(line.x, line.y, marker="o", markersize=4, linewidth=1.6, label=line.label)
    if log:
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2)
        ticks = sorted({value for line in lines for value in line.x})
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        values = [value for line in lines for value in line.y]
        wide = max(values) >= 8 * min(values)  # where it is not, there may be no power of two
        axes.yaxis.set_major_locator(LogLocator(2) if wide else MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    else:
        axes.set_ylim(bottom=0)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(alpha=0.3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if len(lines) > 1:
        axes.legend(frameon=False)
    save_figure(figure, path)


def heat_map(path: Path, weights: Any, columns: Sequence[str], rows: Sequence[str]) -> str:
    """Weights as shades of grey, white for 1: source words above, target words at the left.

    Bahdanau et al. 2015, figure 3, https://arxiv.org/abs/1409.0473.

    Args:
        path: of the picture.
        weights: array (rows, columns), from 0 to 1.
        columns: source words.
        rows: target words.

    Returns:
        Letters that no font of this machine has, drawn as boxes.
    """
    figure, missing = heat_map_figure(weights, columns, rows)
    save_figure(figure, path)
    return missing


def heat_map_figure(weights: Any, columns: Sequence[str], rows: Sequence[str]) -> tuple[Any, str]:
    """The figure of `heat_map`, and the letters that no font has."""
    size = 0.26  # inches a word: small, but readable, however long the sentence is
    longest = max(map(len, [*columns, *rows]), default=1)
    margin = 0.5 + 0.09 * min(longest, LONGEST_LABEL)
    figure, axes = new_figure(margin + size * len(columns) + 0.2, margin + size * len(rows) + 0.2)
    families, missing = _families({letter for word in (*columns, *rows) for letter in word})
    look = {"fontsize": 9, "fontfamily": families}
    axes.imshow(weights, cmap="gray", vmin=0.0, vmax=1.0, aspect="equal", interpolation="nearest")
    axes.xaxis.tick_top()
    axes.set_xticks(range(len(columns)), [_label(word) for word in columns], rotation=90, **look)
    axes.set_yticks(range(len(rows)), [_label(word) for word in rows], **look)
    axes.tick_params(length=0)
    return figure, missing


def _families(letters: Set[str]) -> tuple[list[str], str]:
    """Fonts that have these letters, the usual one first, and the letters that none has."""
    from matplotlib import font_manager

    def without(family: str, wanted: Set[str]) -> Set[str]:
        try:
            known = font_manager.get_font(font_manager.findfont(family, fallback_to_default=False)).get_charmap()
        except (OSError, ValueError, RuntimeError):  # a font that is there no more, or damaged
            return wanted
        return {letter for letter in wanted if ord(letter) not in known}

    usual = "DejaVu Sans"  # comes with matplotlib
    missing, families = without(usual, letters), [usual]
    others = {font.name for font in font_manager.fontManager.ttflist} if missing else set()
    for family in sorted(others - {usual, "Last Resort High-Efficiency"}):  # that one has boxes only
        left = without(family, missing)
        if left != missing:
            families.append(family)
            missing = left
    return families, "".join(sorted(missing))


def _label(text: str) -> str:
    """`text` as a label: no markup of matplotlib's (`$`), not too long."""
    shortened = text if len(text) <= LONGEST_LABEL else f"{text[: LONGEST_LABEL - 1]}…"
    return shortened.replace("$", r"\$")
