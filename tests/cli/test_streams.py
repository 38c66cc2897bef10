"""Standard streams of `uvm run` where others have them too, or they are files: as on the host."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.options import MachineOptions
from support.uvm import UVM, option_arguments

pytestmark = [pytest.mark.machine, pytest.mark.timeout(120)]
NUMBERS = b"".join(b"%d\n" % n for n in range(1, 7))
PYTHON = sys.executable if sys.executable.startswith("/usr/bin") else "/usr/bin/python3"


class Shell:
    """A script of the host's sh in which $R runs a program: in a machine, or on the host."""

    def __init__(self, options: MachineOptions, directory: Path) -> None:
        self.prefix = " ".join([UVM, "run", *option_arguments(options), "--"])
        self.directory = directory

    def run(self, script: str, prefix: str) -> tuple[int, bytes, bytes, dict[str, bytes]]:
        """Status, outputs, and what the files contain afterwards."""
        for path in self.directory.iterdir():
            path.unlink()
        (self.directory / "numbers").write_bytes(NUMBERS)
        environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "R": prefix}
        done = subprocess.run(
            ["/bin/sh", "-c", script], cwd=self.directory, env=environment, capture_output=True,
            timeout=60, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        files = {path.name: path.read_bytes() for path in sorted(self.directory.iterdir())}
        return done.returncode, done.stdout, done.stderr, files

    def agree(self, script: str) -> tuple[int, bytes, bytes, dict[str, bytes]]:
        """The host's outcome, which the machine's equals."""
        expected = self.run(script, "")
        assert self.run(script, self.prefix) == expected
        return expected


@pytest.fixture
def shell(machine_options: MachineOptions, tmp_path: Path) -> Shell:
    directory = tmp_path / "here"
    directory.mkdir()
    return Shell(machine_options, directory)


@pytest.mark.parametrize(
    "script",
    [
        "($R true; cat) <numbers",
        "while read x; do $R echo got $x; done <numbers",
        "printf 'a\\nb\\n' | ($R true; cat)",
        "printf 'a\\nb\\n' | ($R sh -c 'read a; echo $a'; cat)",
        "($R sh -c 'read a; echo $a'; cat) <numbers",
        "printf abcdef | ($R dd bs=1 count=3 status=none; echo; cat)",
    ],
)
def test_input_that_the_guest_does_not_read_is_left_to_others(shell: Shell, script: str) -> None:
    assert shell.agree(script)[1]


POLLER = """
import os, select
ready = select.epoll()
ready.register(0, select.EPOLLIN)
for _ in range(2):
    print([e & 1 for _, e in ready.poll(20)], select.select([0], [], [], 20)[0], os.read(0, 3))
"""


@pytest.mark.realtime
def test_polling_sees_what_is_there_and_takes_nothing(shell: Shell) -> None:
    script = f"(printf abc; sleep 0.5; printf defgh) | ($R {PYTHON} -c '{POLLER}'; cat)"
    assert shell.agree(script)[1].endswith(b"gh")


@pytest.mark.parametrize(
    "program", ["/bin/echo x", "head -c 10000000 /dev/zero", "sh -c 'echo x; exit 3'"]
)
def test_host_that_has_no_room_is_an_error_of_the_guests_write(shell: Shell, program: str) -> None:
    status, _, errors, _ = shell.agree(f"$R {program} >/dev/full")
    assert status == 3 or (status == 1 and b"No space left on device" in errors)


def test_what_fits_is_written_and_the_rest_is_an_error(shell: Shell) -> None:
    script = "$R sh -c 'ulimit -f 2; trap \"\" XFSZ; head -c 5000 /dev/zero' >out"
    status, _, errors, files = shell.agree(script)
    assert status and b"File too large" in errors and len(files["out"]) in (1024, 2048)


@pytest.mark.parametrize(
    "script",
    [
        "$R head -n1 <numbers",
        "$R sh -c 'head -n1; head -n1' <numbers",
        "(head -n2; $R cat) <numbers",
        "$R dd bs=1 skip=2 count=3 status=none <numbers",
        "$R truncate -s 100 /dev/stdout >out",
        "(echo a; $R echo b; echo c) >out",
        "echo x >out; (echo a; $R echo b; echo c) >>out",
        "$R sh -c 'echo 1; echo 2 >&2; echo 3' >out 2>&1",
        "$R sh -c 'echo hi >/dev/stdout; echo ho >/dev/stdout; echo hu >>/dev/stdout' >out",
        "$R cat <numbers >out",
        "$R cat <numbers >>numbers",
        "$R stat -L -c '%F %s' - <numbers",
        "$R stat -L -c '%F %t %T' - </dev/full",
        "$R head -c 3000000 /dev/zero >out",
        "$R sort -o /dev/stdout numbers >out",
        "$R sh -c 'cat; echo x >&0' <numbers",
        "$R sh -c 'read a; cat' <>numbers",
    ],
)
def test_file_is_a_file(shell: Shell, script: str) -> None:
    shell.agree(script)


def test_pipe_of_both_outputs_has_them_in_order(shell: Shell) -> None:
    script = "$R sh -c 'for i in 1 2 3 4 5 6; do echo $i; echo e$i >&2; done' 2>&1 | cat"
    assert shell.agree(script)[1].startswith(b"1\ne1\n2\ne2\n")


MAPPER = """
import mmap, os
m = mmap.mmap(1, 0)
m[0:2] = b"ZZ"
os.write(2, os.pread(1, 4, 0))
os.pwrite(1, b"yy", 4)
os.write(2, m[:])
os.lseek(1, 0, 2)
os.write(1, b"end")
os.write(2, b"%d %d" % (os.fstat(1).st_size, os.lseek(1, 0, 1)))
"""


def test_mapping_and_calls_see_the_same_contents(shell: Shell) -> None:
    files = shell.agree(f"$R {PYTHON} -c '{MAPPER}' 1<>numbers")[3]
    assert files["numbers"].startswith(b"ZZ2\nyy")
    shell.agree(
        f"$R {PYTHON} -c 'import mmap; print(mmap.mmap(0, 0, prot=mmap.PROT_READ)[:])' <numbers"
    )


def test_guest_gets_no_more_than_the_descriptor_allows(shell: Shell) -> None:
    script = "$R sh -c 'echo x >/dev/stdin' <numbers"
    _, _, errors, files = shell.run(script, shell.prefix)
    assert b"Permission denied" in errors and files["numbers"] == NUMBERS
    script = "$R sh -c 'chmod 4777 /dev/stdin' <numbers"
    _, _, errors, _ = shell.run(script, shell.prefix)
    assert b"not permitted" in errors
    assert (shell.directory / "numbers").stat().st_mode & 0o7000 == 0


async def test_files_of_the_embedder_survive_whatever_the_machine_goes_through(
    machine_options: MachineOptions, tmp_path: Path
) -> None:
    from uvm_async import Machine

    (tmp_path / "in").write_bytes(NUMBERS)
    program = "read a; echo $a; head -n1; echo x >/dev/stdout; cat >&2"
    with (tmp_path / "in").open("rb") as given, (tmp_path / "out").open("wb") as out:
        async with Machine(**machine_options.kwargs()) as m:
            p = await m.create_subprocess_exec(
                *("/bin/sh", "-c", program), stdin=given.fileno(), stdout=out.fileno(),
                stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            assert await p.communicate() == (None, b"3\n4\n5\n6\n")
            assert p.returncode == 0
        assert os.lseek(given.fileno(), 0, os.SEEK_CUR) == len(NUMBERS)
        assert os.lseek(out.fileno(), 0, os.SEEK_CUR) == 4
    assert (tmp_path / "out").read_bytes() == b"x\n"
