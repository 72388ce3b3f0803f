"""Charts: what stands where."""

import re

from nmt.charts import HEIGHT, WIDTH, Curve, line_chart


def test_the_key_of_many_curves_stays_inside_and_names_keep_what_differs() -> None:
    names = [f"checkpoints/study/models/attention-{i}" for i in range(9)]
    svg = line_chart("t", ["1", "2"], [Curve(name, [1.0, 2.0]) for name in names], below="")
    found = re.search(r'viewBox="0 (-?\d+) (\d+) (\d+)"', svg)
    assert found is not None
    top, width, height = map(int, found.groups())
    assert (width, top + height) == (WIDTH, HEIGHT)
    keys = re.findall(r'<text x="(\d+)" y="(-?\d+)">([^<]*attention-\d)</text>', svg)
    assert len({text for *_, text in keys}) == len({(x, y) for x, y, _ in keys}) == len(names)
    assert all(0 <= int(x) <= WIDTH - 120 and top < int(y) < 16 for x, y, _ in keys)


def test_a_few_curves_have_their_key_in_one_row() -> None:
    assert f'viewBox="0 0 {WIDTH} {HEIGHT}"' in line_chart("t", ["1"], [Curve("a", [1.0])] * 4, below="")
