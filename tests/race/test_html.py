"""The report as a page, looked at in a real browser."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import time
import zlib
from pathlib import Path

import pytest

from race.samples import Program, compile_bank, crowd, deadlock, lost_update
from uvm_async.race.html import render_html
from uvm_async.race.trace import Trace

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--hide-scrollbars", "--window-size=1400,800"),
)


class Browser:
    """Chromium without a screen, with a home of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pages = 0

    def _run(self, page: str, fragment: str, *flags: str) -> str:
        self._pages += 1
        path = self._folder / f"page{self._pages}.html"
        path.write_text(page, encoding="utf-8")
        profile = self._folder / "profile"
        done = subprocess.run(
            [
                "chromium",
                *FLAGS,
                f"--user-data-dir={profile}",
                *flags,
                f"{path.as_uri()}{fragment}",
            ],
            capture_output=True,
            text=True,
            timeout=100,
            env={**os.environ, "HOME": str(self._folder)},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def dom(self, page: str, fragment: str = "") -> str:
        """The document as its script has made it."""
        text = self._run(page, fragment, "--dump-dom")
        # What the page was made from is not what it shows.
        return re.sub(r"<script.*?</script>", "", text, flags=re.S)

    def picture(self, page: str, *flags: str) -> Path:
        path = self._folder / f"shot{self._pages}.png"
        self._run(page, "", f"--screenshot={path}", *flags)
        return path


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    return compile_bank(tmp_path_factory.mktemp("bank"))


@pytest.fixture
def browser(tmp_path: Path) -> Browser:
    return Browser(tmp_path)


def cell(dom: str, step: int) -> str:
    """The classes of a step's cell."""
    match = re.search(rf'<div class="cell ([^"]*)"[^>]*data-step="{step}"', dom)
    assert match is not None, f"step {step} is not shown"
    return match[1]


def steps_with(dom: str, name: str) -> set[int]:
    found = re.findall(r'<div class="cell ([^"]*)"[^>]*data-step="(\d+)"', dom)
    return {int(step) for classes, step in found if name in classes.split()}


def top_left_pixel(path: Path) -> tuple[int, int, int]:
    """Of a PNG: no filter changes the first pixel."""
    data, at, packed = path.read_bytes(), 8, b""
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        if data[at + 4 : at + 8] == b"IDAT":
            packed += data[at + 8 : at + 8 + size]
        at += size + 12
    red, green, blue = zlib.decompressobj().decompress(packed, 4)[1:4]
    return red, green, blue


def test_the_page_needs_nothing_else(program: Program) -> None:
    page = render_html(lost_update(program))
    outside = set(re.findall(r"https?://[^\s\"'<]+", page))
    assert outside <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"<(?:link|img|iframe)\b|<script[^>]+src=|@import|url\((?!#)", page)
    assert "default-src 'none'" in page


def test_a_lost_update_is_drawn_in_columns(program: Program, browser: Browser) -> None:
    dom = browser.dom(render_html(lost_update(program)))
    assert re.search(r'<h1 id="headline" class="failed">SIGABRT after 14 steps', dom)
    assert dom.count('class="head"') == 3
    columns = dict(re.findall(r'data-step="(\d+)"[^>]*style="--c: ?(\d);', dom))
    assert [columns[step] for step in ("0", "4", "8", "12")] == ["0", "1", "2", "0"]
    assert len(re.findall(r'data-step="', dom)) == 14
    assert steps_with(dom, "race") == {8, 10}
    assert steps_with(dom, "soft") == {5}
    assert steps_with(dom, "fail") == {13}
    assert steps_with(dom, "chosen") == {10}
    assert "balance = seen;" in dom
    assert "lost update on balance" in dom
    assert dom.count('class="row switch"') == 4


def test_a_read_shows_the_write_that_it_reads_from(program: Program, browser: Browser) -> None:
    dom = browser.dom(render_html(lost_update(program)), "#s12")
    assert "chosen" in cell(dom, 12)
    assert steps_with(dom, "linked") == {10, 12}
    assert re.search(r'data-from="10" data-to="12"', dom)
    assert "thread 1 wrote at step 10" in dom
    assert re.search(r'<span class="l here"><i>47</i>\s*assert\(balance == 130\);', dom)


@pytest.mark.parametrize("event", ["click", "mouseover"])
def test_mouse_marks_the_write(program: Program, browser: Browser, event: str) -> None:
    page = render_html(lost_update(program))
    script = f"""<script>document.querySelector('[data-step="12"]').dispatchEvent(
        new MouseEvent("{event}", {{bubbles: true}}));</script></body>"""
    dom = browser.dom(page.replace("</body>", script))
    assert {10, 12} <= steps_with(dom, "linked")


def test_a_deadlock_is_drawn_as_a_ring(program: Program, browser: Browser) -> None:
    dom = browser.dom(render_html(deadlock(program)))
    assert dom.count('class="task"') == 2
    assert dom.count('class="lock"') == 2
    assert dom.count('class="edge ring"') == 4
    assert "held by thread 2" in dom
    assert "waits for ever" in dom


def test_a_crowd_shows_who_matters_at_first(program: Program, browser: Browser) -> None:
    page = render_html(crowd(program))
    dom = browser.dom(page)
    assert dom.count('class="head"') == 3
    assert "show 97 idle threads" in dom
    assert len(re.findall(r'data-step="', dom)) < 100
    assert steps_with(dom, "race") == {2762, 6240}


def test_everything_can_be_shown(program: Program, browser: Browser) -> None:
    """100 columns, 6,342 rows, in a few seconds."""
    page = render_html(crowd(program))
    started = time.monotonic()
    dom = browser.dom(page, "#s6240&all")
    assert time.monotonic() - started < 60
    assert dom.count('class="head"') == 100
    assert len(re.findall(r'data-step="', dom)) == 6342
    assert len(page) < 1_000_000


@pytest.mark.parametrize("dark", [False, True])
def test_the_page_is_light_or_dark_as_the_reader_likes(
    program: Program, browser: Browser, dark: bool
) -> None:
    setting = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    pixel = top_left_pixel(browser.picture(render_html(lost_update(program)), setting))
    assert (max(pixel) < 64) is dark


def test_what_a_program_says_is_shown_not_obeyed(browser: Browser) -> None:
    said = b"</script><script>document.title='taken'</script><b>bold & brave</b>"
    page = render_html(Trace(failure="exit status 1", stdout=said, argv=["<i>", "{{story}}"]))
    dom = browser.dom(page)
    assert "<title>uvm race: exit status 1</title>" in dom
    assert "&lt;b&gt;bold &amp; brave&lt;/b&gt;" in dom
    assert "&lt;i&gt; {{story}}" in dom
