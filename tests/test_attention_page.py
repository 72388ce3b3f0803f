"""The page holds what it is given, as text, whatever that is; a browser drives it."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from nmt.attention_page import attention_page

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
    return attention_page(
        title="<i>title</i>\u202e", source=HOSTILE, target=TARGET, maps=maps, layer=1, candidates=candidates
    )


def test_text_never_becomes_markup() -> None:
    html = page()
    assert html.count("<script") == 2
    assert not {"\u202e", "\u2066"} & set(html)  # what turns the direction of text is shown, not done
    assert "\\u202e" in html
    assert "<img" not in html
    assert "<i>" not in html
    block = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert block is not None
    data = json.loads(block[1])
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
    drive = """{
const log = [];
window.addEventListener('securitypolicyviolation', e => log.push('violation ' + e.violatedDirective));
const about = () => document.getElementById('about').textContent;
const press = key => document.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
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
document.querySelectorAll('#heads button')[5].click();
log.push(document.getElementById('layer').value, document.images.length);
document.title = 'saw ' + JSON.stringify(log);
}"""
    html = page()
    # The policy lets no script in but its own: the driver is let in by leaving the policy out.
    unguarded = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", html)
    file = tmp_path / "page.html"
    file.write_text(unguarded.replace("</body>", f"<script>{drive}</script></body>"), encoding="utf-8")
    seen = dump(file)
    title = re.search(r"<title>saw (.*?)</title>", seen)
    assert title is not None, seen[-2000:]
    log = json.loads(title[1].replace("&amp;", "&"))
    assert log == [18, 4, True, True, "2", "0", "1", True, 36, 6, "2", 0]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_the_page_runs_under_its_own_policy_and_lets_nothing_else_run(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    html = page()
    file.write_text(html.replace("</body>", "<script>document.title = 'broken in'</script></body>"), encoding="utf-8")
    seen = dump(file)
    assert seen.count("<td") == 18
    assert "broken in</title>" not in seen


def dump(file: Path) -> str:
    """The page as a browser has it after its scripts ran."""
    assert CHROMIUM is not None
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000", "--dump-dom"]
    profile = f"--user-data-dir={file.parent / 'profile'}"
    done = subprocess.run([CHROMIUM, *options, profile, file.as_uri()], capture_output=True, timeout=60, check=False)
    return done.stdout.decode()
