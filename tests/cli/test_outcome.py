"""How `uvm` ends where the program or the machine has not had its way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.options import MachineOptions
from support.uvm import UVM, one_line, option_arguments, uvm, uvm_run

pytestmark = [pytest.mark.machine, pytest.mark.timeout(120)]
BUSYBOX = "/bin/busybox"


def test_machine_that_cannot_have_its_memory_gives_125(machine_options: MachineOptions) -> None:
    done = uvm_run(machine_options, BUSYBOX, "true", flags=["--mem", "8000000000G"])
    assert done.returncode == 125
    assert one_line(done.stderr)


def test_death_by_a_signal_leaves_no_core(tmp_path: Path) -> None:
    import resource

    def cores() -> None:
        limit = resource.RLIM_INFINITY
        resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))

    command = [UVM, "run", "--", BUSYBOX, "sh", "-c", "kill -SEGV $$"]
    done = subprocess.run(command, cwd=tmp_path, preexec_fn=cores, capture_output=True, timeout=60)
    assert done.returncode == -signal.SIGSEGV
    assert list(tmp_path.iterdir()) == []


def test_signal_while_booting_ends_us_by_that_signal_and_leaves_nothing() -> None:
    for delay in (0.15, 0.25, 0.35):
        with subprocess.Popen(
            [UVM, "run", "--", BUSYBOX, "sleep", "1000"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            time.sleep(delay)
            process.terminate()
            _, stderr = process.communicate(timeout=30)
        assert process.returncode == -signal.SIGTERM
        assert b"Traceback" not in stderr


@pytest.mark.realtime
def test_keyboards_signal_reaches_the_whole_group(machine_options: MachineOptions) -> None:
    script = "trap 'echo shell' INT; (echo ready; exec sleep 1000); echo after"
    command = [UVM, "run", *option_arguments(machine_options), "--", BUSYBOX, "sh", "-c", script]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)
    assert out == b"shell\nafter\n"


def test_signal_that_the_caller_ignores_stays_ignored(machine_options: MachineOptions) -> None:
    command = " ".join([UVM, "run", *option_arguments(machine_options), "--", BUSYBOX, "cat"])
    with subprocess.Popen(
        ["/bin/sh", "-c", f"trap '' HUP; exec {command}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        time.sleep(1)  # under the virtual clock the guest has its input when that has ended
        process.send_signal(signal.SIGHUP)
        time.sleep(0.2)
        out, _ = process.communicate(b"still here\n", timeout=30)
    assert (process.returncode, out) == (0, b"still here\n")


def test_options_of_the_program_are_the_programs(machine_options: MachineOptions) -> None:
    done = uvm("run", *option_arguments(machine_options), BUSYBOX, "echo", "--cpus", "-v", "--help")
    assert done.stdout == b"--cpus -v --help\n"


def test_closed_standard_streams_are_survived(machine_options: MachineOptions) -> None:
    command = " ".join([UVM, "run", *option_arguments(machine_options), "--", BUSYBOX])
    done = subprocess.run(
        ["/bin/sh", "-c", f"{command} sh -c 'exit 4' <&- >&- 2>&-"], timeout=60, check=False
    )
    assert done.returncode == 4


def test_starting_a_program_imports_no_structlog() -> None:
    code = "import sys, uvm_async.cli.guest; print('structlog' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
    assert (done.stdout, done.stderr) == (b"False\n", b"")


def test_help_of_every_verb_needs_no_machine() -> None:
    for verb in ("run", "doctor", "demo", "calls"):
        done = uvm(verb, "--help", env={"PATH": os.environ["PATH"]})
        assert done.returncode == 0 and done.stdout.startswith(b"Usage: uvm " + verb.encode())
