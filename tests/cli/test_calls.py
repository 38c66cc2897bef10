"""`uvm calls`: the table, and whether it is enough for a program."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from support.options import MachineOptions
from support.uvm import one_line, uvm, uvm_run
from uvm_async.cli.calls import names_in_strace_log

BUSYBOX = "/bin/busybox"


def unsupported() -> str:
    """A call that the machine does not have."""
    from uvm_async.syscalls.dispatch import load_all
    from uvm_async.syscalls.numbers import X86_64

    have = {entry.call.name for entry in load_all().values()}
    return next(name for name in X86_64 if name not in have and name != "rseq")


def test_table_has_every_number_and_says_what_is_missing() -> None:
    done = uvm("calls")
    lines = done.stdout.decode().splitlines()
    assert done.returncode == 0
    table = {line.split()[1]: line for line in lines[:-1]}
    assert len(table) > 300
    assert table["read"].split()[2:] == ["yes"]
    assert "in part  " in table["prctl"]
    assert "ENOSYS" in table[unsupported()]
    assert lines[-1].endswith("calls of the x86-64 table are supported.")


def test_missing_leaves_out_what_is_whole() -> None:
    lines = uvm("calls", "--missing").stdout.decode().splitlines()
    assert not any(line.split()[1] == "read" for line in lines)
    assert any(line.split()[1] == unsupported() for line in lines)


def test_log_with_a_call_that_is_not_supported_gives_1(tmp_path: Path) -> None:
    log = tmp_path / "log"
    bpf = unsupported()
    log.write_text(
        'execve("/bin/x", ["x"], 0x7ffe /* 3 vars */) = 0\n'
        "[pid 77] read(0,  <unfinished ...>\n"
        f"12345 {bpf}(0, 0x7ffe, 72) = 3\n"
        "[pid 77] <... read resumed>0x7ffe, 10) = 0\n"
        f"10:11:12.5 {bpf}(1) = -1 EPERM (Operation not permitted)\n"
        "--- SIGCHLD {si_signo=SIGCHLD} ---\n"
        "+++ exited with 0 +++\n"
    )
    done = uvm("calls", "--check", str(log))
    text = done.stdout.decode()
    assert done.returncode == 1
    assert f"not supported: {bpf} (2x)" in text
    assert "Of 3 calls 2 are supported" in text


def test_log_without_calls_is_wrong_use(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("nothing of the kind\n")
    done = uvm("calls", "--check", str(log))
    assert done.returncode == 2
    assert one_line(done.stderr)


def test_lines_of_every_kind_of_strace_log_are_understood() -> None:
    lines = [
        "read(0, ...) = 0",
        "[pid   12] read(0, ...) = 0",
        "12 read(0, ...) = 0",
        "12    17:48:01.123456 read(0, ...) = 0",
        "     0.000123 read(0, ...) = 0",
        "[00007f12] read(0, ...) = 0",
        "<... read resumed>...) = 0",
        "--- SIGINT {...} ---",
    ]
    assert names_in_strace_log(lines) == {"read": 6}


@pytest.mark.parametrize("program", [["ls", "/"], ["sh", "-c", "echo a | cat"]])
def test_what_the_hosts_strace_sees_of_busybox_is_supported(
    program: list[str], tmp_path: Path
) -> None:
    tool = shutil.which("strace")
    assert tool is not None, "tests/debian-packages.txt names strace"
    log = tmp_path / "log"
    subprocess.run([tool, "-f", "-o", str(log), BUSYBOX, *program], check=True, capture_output=True)
    done = uvm("calls", "--check", str(log))
    assert done.returncode == 0, done.stdout


@pytest.mark.machine
def test_our_own_strace_is_understood(machine_options: MachineOptions, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(uvm_run(machine_options, BUSYBOX, "ls", "/", flags=["--strace"]).stderr)
    done = uvm("calls", "--check", str(log))
    assert done.returncode == 0, done.stdout
