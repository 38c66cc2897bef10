"""Unmodified Debian programs: scripts of three shells, Python, perl, git, the usual tools.

Each file of tests/guests/{sh,bash,py,perl} is one test (sh/ is run by three shells);
output and status are the host's, byte for byte, but for the pids in bash's messages.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from support.guests import GUESTS_DIR
from support.oracle import Outcome
from support.twice import Twice

pytestmark = [
    pytest.mark.machine,
    pytest.mark.many_traps,
    pytest.mark.asyncio,
    pytest.mark.timeout(180),
]

INTERPRETERS: dict[str, list[list[str]]] = {
    "sh": [["/bin/busybox", "sh"], ["/bin/dash"], ["/bin/bash"]],
    "bash": [["/bin/bash"]],
    "py": [["/usr/bin/python3"]],
    "perl": [["/usr/bin/perl"]],
}


def programs() -> list[Any]:
    """(interpreter, script) of each script and each interpreter of its folder."""
    return [
        pytest.param(interpreter, script, id=f"{Path(interpreter[0]).name}-{script.stem}")
        for folder, interpreters in INTERPRETERS.items()
        for script in sorted((GUESTS_DIR / folder).iterdir())
        for interpreter in interpreters
    ]


def without_pids(outcome: Outcome) -> Outcome:
    """bash names the pid of a job that a signal ended: `line 6: 15075 Killed`."""
    stderr = re.sub(rb"(line \d+:) +\d+ ", rb"\1 PID ", outcome.stderr)
    return dataclasses.replace(outcome, stderr=stderr)


@pytest.mark.parametrize(("interpreter", "script"), programs())
async def test_script_prints_what_it_prints_on_the_host(
    interpreter: list[str], script: Path, twice: Twice
) -> None:
    await twice.agree([*interpreter, script], edit=without_pids)


@pytest.mark.parametrize("interpreter", [["/bin/busybox", "sh"], ["/bin/dash"], ["/bin/bash"]])
async def test_script_may_come_through_standard_input(interpreter: list[str], twice: Twice) -> None:
    script = b'echo one\nread -r line\nthis is data\necho "read $line"\n(exit 4)\n'
    await twice.agree(interpreter, input=script)


async def test_python_imports_what_the_readme_says(twice: Twice) -> None:
    program = "import ssl, sqlite3, threading, subprocess, asyncio; print('imported')"
    await twice.agree(["/usr/bin/python3", "-c", program])


async def test_python_shows_a_traceback_and_exits_with_1(twice: Twice) -> None:
    await twice.agree(["/usr/bin/python3", "-c", "raise ValueError('wrong')"])


async def test_bash_starts_by_a_script_with_an_interpreter_line(twice: Twice) -> None:
    script = (
        "printf '#!/bin/bash\\necho \"$0 $1 ${BASH_VERSION:+bash}\"\\n' >s; chmod +x s; ./s arg"
    )
    await twice.agree(["/bin/sh", "-c", script])
