"""`--strace`: what was called, with what, and what came of it."""

from __future__ import annotations

import re

import pytest

from support.guests import Builder
from support.options import MachineOptions
from support.uvm import uvm_run

pytestmark = [pytest.mark.machine, pytest.mark.timeout(120)]
BUSYBOX = "/bin/busybox"


def strace(options: MachineOptions, *program: str, **kwargs: object) -> list[str]:
    """The lines on standard error."""
    done = uvm_run(options, *program, flags=["--strace"], **kwargs)
    return done.stderr.decode().splitlines()


def one(lines: list[str], pattern: str) -> str:
    """The first line in which `pattern` is found."""
    found = [line for line in lines if re.search(pattern, line)]
    assert found, f"no line matches {pattern!r} in:\n" + "\n".join(lines)
    return found[0]


def test_flags_paths_strings_and_structures_are_decoded(machine_options: MachineOptions) -> None:
    script = "echo hello >/tmp/strace-test; cat /tmp/strace-test; stat /nonexistent"
    lines = strace(machine_options, BUSYBOX, "sh", "-c", script)
    one(lines, r'execve\("/bin/busybox", \["/bin/busybox", "sh", "-c", "')
    one(
        lines,
        r'open(at)?\((AT_FDCWD, )?"/tmp/strace-test", O_WRONLY\|O_CREAT\|O_TRUNC.*, 0666\) = \d',
    )
    one(lines, r'write\(1, "hello\\n", 6\) = 6')
    one(
        lines,
        r'stat\w*\(.*"/nonexistent", 0x[0-9a-f]+.*\) = -1 ENOENT \(No such file or directory\)',
    )
    one(lines, r"rt_sigaction\(SIG\w+, \{sa_handler=.*sa_flags=.*\}, NULL, 8\) = 0")
    one(lines, r"mprotect\(0x[0-9a-f]+, \d+, PROT_READ\) = 0")


def test_children_signals_and_ends_are_told(machine_options: MachineOptions) -> None:
    script = "true | cat; kill -USR1 $$"
    lines = strace(machine_options, BUSYBOX, "sh", "-c", script)
    one(lines, r"pipe2?\(\[\d+, \d+\]")
    one(lines, r"clone\(.*SIGCHLD.*\) = \d+|fork\(\) = \d+")
    one(
        lines,
        r"--- SIGCHLD \{si_signo=SIGCHLD, si_code=CLD_EXITED, si_pid=\d+, .*si_status=0\} ---",
    )
    one(lines, r"wait4\(-1.*(WIFEXITED|unfinished)|<\.\.\. wait4 resumed>.*WIFEXITED")
    one(lines, r"\+\+\+ exited with 0 \+\+\+")
    assert lines[-1].endswith("+++ killed by SIGUSR1 +++")


def test_every_call_that_begins_ends_and_lines_are_whole(machine_options: MachineOptions) -> None:
    script = "for i in 1 2 3; do (echo $i; sleep 0.05) & done; wait"
    lines = strace(machine_options, BUSYBOX, "sh", "-c", script)
    shape = re.compile(
        r"\[pid +\d+\] (\w+\(.*( = .*|<unfinished \.\.\.>)|<\.\.\. \w+ resumed>.* = .*"
        r"|---.*---|\+\+\+.*\+\+\+)"
    )
    calls = [line for line in lines if line.startswith("[pid")]
    assert all(shape.fullmatch(line) for line in calls), [
        x for x in calls if not shape.fullmatch(x)
    ]
    begun = sum("<unfinished ...>" in line for line in calls)
    resumed = sum("resumed>" in line for line in calls)
    assert begun == resumed


def test_unknown_calls_are_told_of_only_when_asked(machine_options: MachineOptions) -> None:
    quiet = uvm_run(machine_options, BUSYBOX, "true")
    assert quiet.stderr == b""
    told = uvm_run(machine_options, BUSYBOX, "true", flags=["-v"])
    assert b"unknown system call" in told.stderr or told.stderr == b""


def test_observing_changes_nothing_under_the_virtual_clock(machine_options: MachineOptions) -> None:
    script = "date +%s%N; echo $$ $RANDOM; ps"
    flags = ["--clock", "virtual", "--seed", "5"]
    plain = uvm_run(machine_options, BUSYBOX, "sh", "-c", script, flags=flags)
    seen = uvm_run(machine_options, BUSYBOX, "sh", "-c", script, flags=[*flags, "--strace"])
    assert plain.stdout and plain.stdout == seen.stdout


def test_pause_that_a_handler_ends_is_to_be_restarted_if_there_is_none(
    machine_options: MachineOptions, guests: Builder
) -> None:
    lines = strace(machine_options, str(guests.build("sig_suspend")))
    one(lines, r"= \? ERESTARTNOHAND \(To be restarted if no handler\)")


def test_refused_calls_have_their_arguments(machine_options: MachineOptions) -> None:
    lines = strace(machine_options, "/bin/ls", "/")
    one(lines, r"rseq\(0x[0-9a-f]+, 0x20, 0, 0x[0-9a-f]+\) = -1 ENOSYS")


def test_unknown_calls_are_named(machine_options: MachineOptions, guests: Builder) -> None:
    done = uvm_run(machine_options, str(guests.build("misc_no_such_call")), flags=["-v"])
    assert b"unknown system call" in done.stderr and b"number=999" in done.stderr
