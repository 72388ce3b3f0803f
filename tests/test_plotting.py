"""What a picture of attention shows, read from the figure and from the pixels."""

import re
from pathlib import Path

import numpy as np
import pytest

from nmt.plotting import Line, heat_map, heat_map_figure, line_plot

pytest.importorskip("matplotlib")

WEIGHTS = np.array([[0.9, 0.1, 0.0], [0.2, 0.3, 0.5]])


def test_rows_are_target_words_columns_source_words_and_white_is_one() -> None:
    figure, missing = heat_map_figure(WEIGHTS, ["où", "est", "la_gare$"], ["the", "station"])
    [axes] = figure.axes
    [image] = axes.images
    assert [label.get_text() for label in axes.get_xticklabels()] == ["où", "est", r"la_gare\$"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["the", "station"]
    np.testing.assert_array_equal(image.get_array(), WEIGHTS)
    assert (image.cmap(image.norm(1.0))[0], image.cmap(image.norm(0.0))[0]) == (1.0, 0.0)
    assert axes.xaxis.get_ticks_position() == "top"
    assert axes.get_ylim() == (1.5, -0.5)  # the first word is the uppermost
    assert missing == ""


def test_letters_that_no_font_has_are_named(tmp_path: Path) -> None:
    assert (
        heat_map(tmp_path / "map.png", WEIGHTS, ["a", "\U000f1233", "c\U000f1234"], ["d", "e"])
        == "\U000f1233\U000f1234"
    )


def test_the_pixels_are_as_bright_as_the_weights(tmp_path: Path) -> None:
    from matplotlib.image import imread

    heat_map(tmp_path / "map.png", np.eye(2), ["a", "b"], ["c", "d"])
    pixels = imread(tmp_path / "map.png")[..., :3].mean(-1)
    rows, columns = np.nonzero(pixels < 0.02)  # black cells: above at the right, below at the left
    middle = (rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2
    upper = rows < middle[0] - 4
    assert columns[upper].mean() > middle[1] > columns[rows > middle[0] + 4].mean()


@pytest.mark.parametrize("rates", [[652.0, 700.0, 790.0], [20.0, 300.0, 2600.0], [5.0, 5.0, 5.0]])
def test_an_axis_has_numbers_whatever_its_range(rates: list[float], tmp_path: Path) -> None:
    line_plot(tmp_path / "a.svg", [Line("x", [1.0, 2.0, 4.0], rates)], x_label="beam", y_label="lines/s", log=True)
    numbers = re.findall(r"<!-- ([\d.]+) -->", (tmp_path / "a.svg").read_text())
    assert numbers[:3] == ["1", "2", "4"]
    assert len(numbers) >= 3 + 1
