"""The page holds what it is given, as text, whatever that is; a browser drives it."""

import json
import re
import shutil
import subprocess
from html import escape, unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmt.attention_page import MOST_WEIGHTS, Shown, attention_page
from nmt.errors import DataError
from nmt.page import policy_hash

HOSTILE = [
    "\u2581<script>alert(1)</script>",
    "\u2581\"'&amp;",
    "\u2581\u05e9\u05dc\u05d5\u05dd",
    "\u2581\U0001f600",
    "\u2581x\U000e0041\U000e007f",
    "</s>",
]
TARGET = ["\u2581A", "\u2581man</script><img src=x onerror=alert(2)>", "</s>"]


def page() -> str:
    rng = np.random.default_rng(1)

    def weights(layers: int, rows: int, columns: int) -> np.ndarray:
        return rng.dirichlet(np.ones(columns), (layers, 2, rows))

    maps = {"cross": weights(2, 3, 6), "encoder": weights(3, 6, 6), "decoder": weights(2, 3, 3)}
    candidates = [[("\u2581The", 0.75), ("\u2581<b>\u2066", 0.2)] for _ in TARGET]
    title = "<i>title</i>\u202e"
    return attention_page(
        [Shown(title=title, source=HOSTILE, target=TARGET, maps=maps, layer=1, candidates=candidates)]
    )


def pair(source: list[str], target: list[str], weights: np.ndarray) -> Shown:
    title = " ".join(source)
    return Shown(title=title, source=source, target=target, maps={"cross": weights}, layer=0, candidates=[])


def test_text_never_becomes_markup() -> None:
    html = page()
    assert html.count("<script") == 2
    assert not {"\u202e", "\u2066"} & set(html)  # what turns the direction of text is shown, not done
    assert "\\u202e" in html
    assert "<img" not in html
    assert "<i>" not in html
    block = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert block is not None
    [data] = json.loads(block[1])
    assert data["source"] == HOSTILE
    assert data["target"] == TARGET
    assert data["read"] == ["<s>", *TARGET[:-1]]
    assert np.shape(data["maps"]["encoder"]) == (3, 2, 6, 6)


def test_nothing_is_fetched() -> None:
    html = page()
    assert not re.search(r"(src|href)=", html.replace("src=x onerror", ""))
    assert "default-src 'none'" in html.replace("&#x27;", "'")


CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_a_browser_shows_and_drives_it(tmp_path: Path) -> None:
    """A script at the end moves through the page as a person would; what it saw stands in the title."""
    log = drive(
        page(),
        """
log.push(document.querySelectorAll('#main td').length, document.querySelectorAll('#heads button').length);
document.querySelectorAll('#main tr')[2].dispatchEvent(new MouseEvent('mouseenter'));
log.push(about().includes('man<' + '/script>'), about().includes('<b>'));
press('ArrowDown'); log.push(document.querySelector('tr.chosen').dataset.row);
press('ArrowRight'); press(']');
log.push(document.getElementById('head').value, document.getElementById('layer').value);
press('v'); log.push(document.querySelectorAll('#main svg line').length > 0);
const kind = document.getElementById('kind');
kind.value = 'encoder'; kind.dispatchEvent(new Event('change')); press('v');
log.push(document.querySelectorAll('#main td').length, document.querySelectorAll('#heads button').length);
const last = document.querySelectorAll('#heads button')[5];
last.focus(); last.click();
log.push(document.getElementById('layer').value, document.images.length);
log.push(document.activeElement === document.querySelectorAll('#heads button')[5]);
""",
        tmp_path,
    )
    assert log == [18, 4, True, True, "2", "0", "1", True, 36, 6, "2", 0, True]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_words_of_other_directions_stay_beside_their_weights(tmp_path: Path) -> None:
    """Where each piece of the context and its weight are drawn, from left to right."""
    source = ["\u2581\u05e9\u05dc\u05d5\u05dd", "\u2581\u05e2\u05d5\u05dc\u05dd", "\u2581la", "</s>"]
    weights = np.array([[[[0.5, 0.3, 0.15, 0.05]]]])
    html = attention_page([pair(source, ["</s>"], weights)])
    log = drive(
        html,
        """
const place = node => { const range = document.createRange(); range.selectNode(node);
  return range.getBoundingClientRect().left; };
const shown = [...document.querySelector('#about .soft').childNodes].map(node => [place(node), node.textContent]);
log.push(...shown.sort((a, b) => a[0] - b[0]).map(([, text]) => text.trim()));
""",
        tmp_path,
    )
    words = [piece.strip("\u2581") for piece in source]
    expected = ["context =", "0.50 \u00b7", words[0], "+", "0.30 \u00b7", words[1], "+", "0.15 \u00b7", "la", "+"]
    assert " ".join(log).split() == [*" ".join(expected).split(), "0.05", "\u00b7", "</s>", "+", "\u2026"]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_of_a_long_sentence_what_a_word_looks_at_stays_in_sight(tmp_path: Path) -> None:
    """81 pieces a side, the last word reached by keyboard: its row, its strongest column and the text beside."""
    size = 81
    weights = np.full((1, 1, size, size), 0.001)
    weights[..., np.arange(size), np.arange(size)] = 0.9
    pieces = [f"\u2581word{i}" for i in range(size)]
    html = attention_page([pair(pieces, pieces, weights)])
    log = drive(
        html,
        """
for (let i = 0; i < 80; i++) press('ArrowDown');
const inside = element => { const box = element.getBoundingClientRect();
  return box.top >= 0 && box.left >= 0 && box.bottom <= innerHeight && box.right <= innerWidth; };
const row = document.querySelector('tr.chosen'), strong = document.querySelector('th.strong');
log.push(row.dataset.row, inside(row.querySelector('th')), strong.textContent, inside(strong));
log.push(about().startsWith('word80 looks at'), inside(document.querySelector('#about ol')));
""",
        tmp_path,
    )
    assert log == ["80", True, "word80", True, True, True]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_one_of_several_pairs_is_chosen_by_keyboard_or_from_the_list(tmp_path: Path) -> None:
    two, three = (np.full((1, 1, size, size), 1 / size) for size in (2, 3))
    html = attention_page([pair(["a", "b"], ["c", "d"], two), pair(["e", "f", "g"], ["h", "i", "j"], three)])
    log = drive(
        html,
        """
const list = document.getElementById('pair'), cells = () => document.querySelectorAll('#main td').length;
log.push(list.offsetParent !== null, [...list.options].map(option => option.textContent).join(), cells());
press('ArrowDown'); press('n');
log.push(document.querySelector('h1').textContent, cells(), document.querySelector('tr.chosen').dataset.row);
press('n'); log.push(list.value);
list.value = 0; list.dispatchEvent(new Event('change')); log.push(document.title, cells());
""",
        tmp_path,
    )
    assert log == [True, "a b,e f g", 4, "e f g", 9, "0", "1", "a b", 4]


def test_a_page_of_too_many_weights_is_refused() -> None:
    weights = np.broadcast_to(np.float32(0.5), (1, 1, 1, MOST_WEIGHTS // 2))
    with pytest.raises(DataError, match="too much for a page"):
        attention_page([pair(["a"], ["b"], weights)] * 3)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_the_page_runs_under_its_own_policy_and_lets_nothing_else_run(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    html = page()
    file.write_text(html.replace("</body>", "<script>document.title = 'broken in'</script></body>"), encoding="utf-8")
    seen = dump(file)
    assert seen.count("<td") == 18
    assert "broken in</title>" not in seen


def drive(html: str, script: str, folder: Path) -> list[Any]:
    """What `script` logged in the page: let in by its hash, so that the page's policy stays otherwise as it is.

    Asserts that the page asked for nothing; and, by asking for a picture at the end, that asking would have been seen.
    """
    body = f"""{{
const log = [], refused = [];
addEventListener('securitypolicyviolation', e => refused.push(e.effectiveDirective));
const about = () => document.getElementById('about').textContent;
const press = key => document.dispatchEvent(new KeyboardEvent('keydown', {{ key, bubbles: true }}));
{script}
setTimeout(() => {{
  log.push(refused.length, performance.getEntriesByType('resource').length);
  const picture = document.createElement('img');
  picture.src = 'https://example.org/a.png'; document.body.append(picture);
  setTimeout(() => {{ log.push(...refused); document.title = 'saw ' + JSON.stringify(log); }}, 200);
}}, 200);
}}"""
    file = folder / "page.html"
    guarded = html.replace("script-src ", f"script-src {escape(policy_hash(body))} ", 1)
    file.write_text(guarded.replace("</body>", f"<script>{body}</script></body>"), encoding="utf-8")
    seen = dump(file)
    title = re.search(r"<title>saw (.*?)</title>", seen)
    assert title is not None, seen[-2000:]
    *log, violations, resources, refused = json.loads(unescape(title[1]))
    assert (violations, resources, refused) == (0, 0, "img-src")
    return log


def dump(file: Path) -> str:
    """The page as a browser has it after its scripts ran."""
    assert CHROMIUM is not None
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000", "--dump-dom"]
    options.append("--window-size=1400,900")
    profile = f"--user-data-dir={file.parent / 'profile'}"
    done = subprocess.run([CHROMIUM, *options, profile, file.as_uri()], capture_output=True, timeout=60, check=False)
    return done.stdout.decode()
