"""On a terminal: job control, the window's size, and settings that are put back."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import time

import pexpect
import pytest

from cli.screen import Session
from support.options import MachineOptions
from support.uvm import UVM, option_arguments

pytestmark = [pytest.mark.machine, pytest.mark.realtime, pytest.mark.timeout(120)]
BUSYBOX = "/bin/busybox"


def test_interactive_bash_stops_continues_and_interrupts_jobs(
    machine_options: MachineOptions,
) -> None:
    s = Session(machine_options, "bash", "--norc", "-i")
    s.prompt()
    s.child.sendline("sleep 100")
    time.sleep(0.5)
    s.child.send("\x1a")
    assert "Stopped" in s.prompt()
    assert "Stopped" in s.line("jobs")
    s.child.sendline("fg")
    time.sleep(0.5)
    s.child.send("\x03")
    s.prompt()
    assert "status=130" in s.line("echo status=$?")
    assert "woke" in s.line("sleep 0.2 & wait; echo woke")
    s.child.sendline("exit 3")
    assert s.end() == 3


def test_window_size_is_known_and_its_change_passed_on(machine_options: MachineOptions) -> None:
    s = Session(machine_options, "bash", "--norc", "-i")
    s.prompt()
    assert "30 100" in s.line("stty size")
    s.line("trap 'echo resized' WINCH")
    s.child.setwinsize(40, 120)
    time.sleep(0.3)
    s.child.sendline("true")
    s.child.expect_exact("resized")
    s.prompt()
    assert "40 120" in s.line("stty size")
    s.child.sendline("exit")
    assert s.end() == 0


def test_outer_terminal_is_raw_meanwhile_and_as_it_was_afterwards(
    machine_options: MachineOptions,
) -> None:
    s = Session(machine_options, BUSYBOX, "sh", "-c", "echo began; read x; echo $x")
    s.child.expect_exact("began")
    assert s.is_raw()
    s.child.sendline("over")
    assert s.end() == 0


@pytest.mark.parametrize(
    ("program", "how"),
    [
        ("echo began; exec sleep 1000", signal.SIGTERM),
        ("echo began; exec sleep 1000", signal.SIGHUP),
        ("echo began; kill -SEGV $$", None),
        ("echo began; exit 5", None),
    ],
)
def test_settings_are_put_back_however_it_ends(
    program: str, how: signal.Signals | None, machine_options: MachineOptions
) -> None:
    import termios

    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)

    def lead() -> None:
        os.setsid()
        import fcntl

        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    command = [UVM, "run", *option_arguments(machine_options), "--", BUSYBOX, "sh", "-c", program]
    with subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, preexec_fn=lead
    ) as process:
        seen = b""
        while b"began" not in seen:
            seen += os.read(master, 1024)
        if how is not None:
            assert termios.tcgetattr(slave) != before
            process.send_signal(how)
        process.wait(30)
    assert termios.tcgetattr(slave) == before
    os.close(master)
    os.close(slave)
    if how is not None:
        assert process.returncode == -how


def test_stopped_from_outside_it_gives_the_terminal_back_and_takes_it_again(
    machine_options: MachineOptions,
) -> None:
    s = Session(machine_options, BUSYBOX, "cat")
    s.wait_until(s.is_raw)
    s.child.sendline("one")
    s.child.expect_exact("one\r\none")
    s.signal(signal.SIGTSTP)
    s.wait_until(lambda: not s.is_raw())
    s.signal(signal.SIGCONT)
    s.wait_until(s.is_raw)
    s.child.sendline("two")
    s.child.expect_exact("two\r\ntwo")
    s.child.send("\x04")
    assert s.end() == 0


def test_lines_are_edited_on_the_screen_as_a_terminal_does(machine_options: MachineOptions) -> None:
    s = Session(machine_options, BUSYBOX, "sh", "-c", 'read a; echo "[$a]"')
    s.wait_until(s.is_raw)
    s.child.send("wrong words")
    s.child.send("\x17\x7f\x7f\x7f\x7fote\n")  # ^W, four times DEL
    s.child.expect_exact("]")
    assert s.display(s.child.before + b"]") == ["wrote", "[wrote]"]
    assert s.end() == 0


def test_much_output_arrives_whole(machine_options: MachineOptions) -> None:
    s = Session(machine_options, BUSYBOX, "seq", "100000")
    assert s.rest().splitlines() == [b"%d" % n for n in range(1, 100001)]


def test_terminal_is_not_left_non_blocking(machine_options: MachineOptions) -> None:
    master, slave = pty.openpty()
    command = [UVM, "run", *option_arguments(machine_options), "--", BUSYBOX, "head", "-n", "1"]
    with subprocess.Popen(
        command, stdin=slave, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        os.write(master, b"line\n")
        assert process.stdout is not None and process.stdout.readline() == b"line\n"
        assert os.get_blocking(slave)
        assert process.wait(30) == 0
    assert os.get_blocking(slave)
    os.close(master)
    os.close(slave)


def test_only_the_output_a_terminal_gets_plain_lines_and_isatty(
    machine_options: MachineOptions,
) -> None:
    script = "test -t 0 || echo no input terminal; test -t 1 && echo output terminal"
    program = f"echo x | {UVM} run -- {BUSYBOX} sh -c '{script}'"
    child = pexpect.spawn("/bin/sh", ["-c", program], timeout=30)
    child.expect(pexpect.EOF)
    assert child.before == b"no input terminal\r\noutput terminal\r\n"
