import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from nmt.charts import Bar, bar_chart, length_histogram, nice_step
from nmt.errors import UsageError
from nmt.evaluation import Speed, evaluate
from nmt.report import Report, check_report_path, html, markdown, write_report
from nmt.testset import TestSet

EVIL = '<script>alert("1")</script> & | pipe ` *b* \x1b[31m \u202eltr \u2028'
SPEED = Speed(seconds=2.0, sentences_per_second=2.5, source_tokens_per_second=30.0, device="cpu", precision="fp32")


def report(*, sources: bool = True, hyps: list[str] | None = None) -> Report:
    lines = tuple(f"ligne {'mot ' * i}" for i in range(12))
    refs = tuple((f"line {'word ' * i}",) for i in range(12))
    test = TestSet(name="tiny", sources=lines if sources else None, refs=refs)
    hyps = hyps or [EVIL, "", *(f"line {'word ' * i}" for i in range(2, 12))]
    evaluation = evaluate(test, hyps, examples=4, speed=SPEED)
    return Report(title=f"model {EVIL}", facts=(("Model", EVIL), ("Search", "beam 5")), evaluation=evaluation)


class Strict(HTMLParser):
    """Collects tags and attributes; complains about what does not nest."""

    VOID = frozenset({"meta", "wbr"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parsed(page: str) -> Strict:
    parser = Strict()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser


@pytest.mark.parametrize("sources", [True, False])
def test_html_is_well_formed_and_loads_nothing(sources):
    page = html(report(sources=sources))

    for tag, attributes in parsed(page).seen:
        assert tag not in {"script", "link", "img", "iframe", "object", "a", "form"}
        assert not {"src", "href", "style", "srcset"} & attributes.keys()
        assert not any(name.startswith("on") for name in attributes)
    assert "url(" not in page
    assert "http" not in page.replace("http-equiv", "")


def test_policy_allows_the_style_sheet_and_nothing_else():
    page = html(report())
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()

    assert f"content=\"default-src 'none'; style-src 'sha256-{digest}'\"" in page


def test_text_is_escaped_and_tamed():
    page = html(report())

    assert "&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt; &amp; | pipe" in page
    assert not set(page) & {"\x1b", "\u202e", "\u2028"}
    assert "\\u202e" in page


def test_both_forms_hold_scores_signatures_and_counts():
    made = report()
    for text in (html(made).replace("<wbr>", ""), markdown(made).replace("\\|", "|")):
        for score in made.evaluation.scores.values():
            assert score.signature in text
            assert f"{score.value:.1f}" in text or f"{score.value:.2f}" in text
        assert "2.5 sentences/s" in text
        assert "Worst lines" in text
        assert "(empty)" in text


def test_markdown_tables_keep_their_columns():
    for block in markdown(report()).split("\n\n"):
        rows = [line for line in block.strip("\n").split("\n") if line.startswith("|")]
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) <= 1


def test_markdown_escapes_html_and_control_characters():
    text = markdown(report())

    assert "<script>" not in text
    assert not set(text) & {"\x1b", "\u202e", "\u2028"}


def test_without_sources_there_is_no_length_chart_and_no_source_column():
    text = markdown(report(sources=False))

    assert "BLEU by source length" not in text
    assert "| source |" not in text


@pytest.mark.parametrize("name", ["report.md", "report.html"])
def test_written_by_suffix(tmp_path, name):
    write_report(tmp_path / name, report())

    assert (tmp_path / name).read_text(encoding="utf-8").startswith(("# model", "<!doctype html>"))
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_impossible_report_paths_are_refused_early(tmp_path):
    with pytest.raises(UsageError, match=r"must end in \.md or \.html \(did you mean '\.html'\?\)"):
        check_report_path(tmp_path / "report.htm")
    check_report_path(Path("report.html"))


@pytest.mark.parametrize(
    ("top", "step"), [(0.0, 1.0), (1.0, 0.2), (7.0, 2.0), (54.3, 20.0), (100.0, 20.0), (260.0, 100.0)]
)
def test_axis_steps_are_round(top, step):
    assert nice_step(top) == pytest.approx(step)
    assert nice_step(top) * 5 >= top


@pytest.mark.parametrize("value", [0.0, 12.3, 100.0])
def test_bars_stay_inside_the_chart(value):
    chart = bar_chart("x", [Bar("1-5 words", "3 lines", value, max(0.0, value - 9), min(104.0, value + 9))])

    for y in re.findall(r'\by[12]?="([-\d.]+)"', chart):
        assert 0 <= float(y) <= 260
    parsed(chart)


@pytest.mark.parametrize("lengths", [((0, 3, 0),), ((0, 1, 1), (4000, 1, 0)), tuple((n, n, 2) for n in range(70))])
def test_histogram_of_any_lengths(lengths):
    chart = length_histogram(lengths)

    parsed(chart)
    assert 1 <= chart.count('class="bar"') <= 42


def test_one_line_that_is_wrong_makes_a_report():
    test = TestSet(name="x", sources=("un",), refs=(("one",),))
    made = Report(title="x", facts=(), evaluation=evaluate(test, [""], examples=3))

    parsed(html(made))
    assert "BLEU" in markdown(made)
