"""`uvm demo`: the tour ends well and leaves a picture."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from support.uvm import one_line, uvm
from uvm_async.cli import demo

pytestmark = [pytest.mark.machine, pytest.mark.fixed_machine, pytest.mark.timeout(240)]
SVG = "{http://www.w3.org/2000/svg}"


def test_tour_shows_all_stops_and_leaves_a_clean_disk_and_a_picture(tmp_path: Path) -> None:
    done = uvm("demo", cwd=tmp_path, timeout_s=200)
    text = done.stdout.decode()
    assert done.returncode == 0, text
    for title in ("processes:", "pipes:", "preemption:", "threads:", "disk:"):
        assert title in text
    assert "calls the disk clean" in text
    assert "failed" not in text
    assert [p.name for p in tmp_path.iterdir()] == ["uvm-switches.svg"]
    picture = ElementTree.parse(tmp_path / "uvm-switches.svg").getroot()
    assert picture.tag == f"{SVG}svg"
    assert len(picture.findall(f"{SVG}rect")) > 20


def test_without_mke2fs_the_tour_says_so_and_has_no_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "find_tool", lambda name: None)
    assert demo.make_image(str(tmp_path / "disk.img")) is None
    assert "there is no mke2fs" in capsys.readouterr().out
    assert "disk" not in [step.title for step in demo.steps_of(with_disk=False)]


def test_folder_that_cannot_be_written_is_wrong_use() -> None:
    done = uvm("demo", "--picture", "/nonexistent/p.svg")
    assert done.returncode == 2
    assert one_line(done.stderr)
