"""`uvm run` as a user types it: statuses, streams, signals, folders, messages."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from support.guests import Builder
from support.options import TRANSPORTS, TRAPS, MachineOptions
from support.uvm import UVM, one_line, option_arguments, uvm, uvm_run

pytestmark = [pytest.mark.machine, pytest.mark.timeout(120)]
BUSYBOX = "/bin/busybox"


@pytest.mark.fixed_machine
@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("trap", TRAPS)
def test_busybox_says_hi_through_each_trap_door_and_transport(trap: str, transport: str) -> None:
    done = uvm("run", "--trap", trap, "--transport", transport, "--", BUSYBOX, "echo", "hi")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"hi\n", b"")


@pytest.mark.parametrize("code", [0, 1, 7, 125, 126, 255])
def test_exit_status_of_the_program_is_ours(code: int, machine_options: MachineOptions) -> None:
    done = uvm_run(machine_options, BUSYBOX, "sh", "-c", f"exit {code}")
    assert (done.returncode, done.stdout, done.stderr) == (code, b"", b"")


@pytest.mark.parametrize("name", ["TERM", "KILL", "SEGV", "HUP", "USR1", "ABRT"])
def test_death_by_a_signal_is_our_death_by_that_signal(
    name: str, machine_options: MachineOptions
) -> None:
    done = uvm_run(machine_options, BUSYBOX, "sh", "-c", f"kill -{name} $$")
    assert done.returncode == -getattr(signal, f"SIG{name}")


def test_program_that_is_not_there_gives_127_and_says_so(machine_options: MachineOptions) -> None:
    for program in ("/nonexistent/program", "no-such-program-in-path"):
        done = uvm_run(machine_options, program)
        assert done.returncode == 127
        assert done.stdout == b""
        assert one_line(done.stderr) and program.encode() in done.stderr


def test_program_that_cannot_be_executed_gives_126(
    machine_options: MachineOptions, tmp_path: Path
) -> None:
    plain = tmp_path / "plain"
    plain.write_text("no program")
    for program in (plain, tmp_path):
        done = uvm_run(machine_options, str(program))
        assert done.returncode == 126
        assert one_line(done.stderr) and str(program).encode() in done.stderr


def test_truncated_and_foreign_programs_give_126(
    machine_options: MachineOptions, tmp_path: Path
) -> None:
    whole = Path(BUSYBOX).read_bytes()
    foreign = bytearray(whole[:4096])
    foreign[18:20] = (183).to_bytes(2, "little")  # EM_AARCH64
    for name, data in (("truncated", whole[:40]), ("foreign", bytes(foreign)), ("empty", b"")):
        program = tmp_path / name
        program.write_bytes(data)
        program.chmod(0o755)
        done = uvm_run(machine_options, str(program))
        assert done.returncode == 126, name
        assert one_line(done.stderr), name


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["run"],
        ["run", "--"],
        ["run", "--no-such-option", "--", BUSYBOX],
        ["run", "--cpus", "none", "--", BUSYBOX],
        ["run", "--cpus", "0", "--", BUSYBOX],
        ["run", "--mem", "lots", "--", BUSYBOX],
        ["run", "--clock", "sun", "--", BUSYBOX],
        ["run", "--trap", "door", "--", BUSYBOX],
        ["run", "--transport", "pigeon", "--", BUSYBOX],
        ["run", "--policy", "none-of-that-name", "--", BUSYBOX],
        ["run", "--seed", "x", "--", BUSYBOX],
        ["run", "--bind", "nowhere", "--", BUSYBOX],
        ["run", "--root", "/nonexistent/folder", "--", BUSYBOX],
        ["run", "--disk", "/nonexistent/image", "--", BUSYBOX],
        ["no-such-verb"],
    ],
    ids=lambda a: " ".join(a).replace("/", "_") or "nothing",
)
def test_wrong_use_gives_one_line_and_status_2(arguments: list[str]) -> None:
    done = uvm(*arguments)
    assert done.returncode == 2
    assert done.stdout == b""
    assert one_line(done.stderr), done.stderr


def test_number_that_is_none_is_called_so() -> None:
    done = uvm("run", "--cpus", "x", "--", BUSYBOX)
    assert done.stderr == (
        b"uvm run: invalid value for '--cpus': 'x' is not a whole number (see uvm run --help)\n"
    )


def test_streams_pass_through_in_both_directions(machine_options: MachineOptions) -> None:
    data = os.urandom(300_000)
    done = uvm_run(machine_options, BUSYBOX, "cat", input=data)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == data
    done = uvm_run(machine_options, BUSYBOX, "sh", "-c", "echo out; echo err >&2; echo out2")
    assert (done.stdout, done.stderr) == (b"out\nout2\n", b"err\n")


@pytest.mark.realtime
def test_program_begins_before_its_input_ends(machine_options: MachineOptions) -> None:
    command = [UVM, "run", *option_arguments(machine_options), "--", BUSYBOX, "cat"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as p:
        assert p.stdin and p.stdout
        for line in (b"first\n", b"second\n"):
            p.stdin.write(line)
            p.stdin.flush()
            assert p.stdout.readline() == line
        p.stdin.close()
        assert p.wait(30) == 0


def test_reader_that_goes_ends_the_program_by_sigpipe(machine_options: MachineOptions) -> None:
    command = [UVM, "run", *option_arguments(machine_options), "--", BUSYBOX, "yes"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as p:
        assert p.stdout and p.stdout.readline() == b"y\n"
        p.stdout.close()
        assert p.wait(30) == -signal.SIGPIPE


def test_program_runs_as_root_in_the_callers_directory(
    machine_options: MachineOptions, tmp_path: Path
) -> None:
    done = uvm_run(machine_options, BUSYBOX, "sh", "-c", "id -u; id -g; pwd", cwd=tmp_path)
    assert done.stdout.split() == [b"0", b"0", os.fsencode(tmp_path)]


def test_environment_is_the_callers(machine_options: MachineOptions) -> None:
    done = uvm_run(machine_options, BUSYBOX, "env", env={"PATH": "/bin", "MARK": "here"})
    assert sorted(done.stdout.split()) == [b"MARK=here", b"PATH=/bin"]


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "USR1"])
def test_signals_to_uvm_reach_the_program(name: str, machine_options: MachineOptions) -> None:
    script = f"trap 'echo caught; exit 5' {name}; echo ready; while :; do sleep 0.05; done"
    command = [UVM, "run", *option_arguments(machine_options), "--", BUSYBOX, "sh", "-c", script]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as p:
        assert p.stdout and p.stdout.readline() == b"ready\n"
        p.send_signal(getattr(signal, f"SIG{name}"))
        assert p.stdout.read() == b"caught\n"
        assert p.wait(30) == 5


def test_signal_that_the_program_does_not_catch_ends_both(machine_options: MachineOptions) -> None:
    command = [UVM, "run", *option_arguments(machine_options), "--", BUSYBOX, "sh", "-c"]
    command.append("echo ready; exec sleep 1000")
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as p:
        assert p.stdout and p.stdout.readline() == b"ready\n"
        p.terminate()
        assert p.wait(30) == -signal.SIGTERM


def small_root(folder: Path) -> Path:
    """A root with nothing in it but a static busybox."""
    for name in ("bin", "tmp", "etc"):
        (folder / name).mkdir(parents=True)
    shutil.copy(BUSYBOX, folder / "bin" / "busybox")
    for name in ("sh", "ls", "cat"):
        (folder / "bin" / name).symlink_to("busybox")
    (folder / "etc" / "marker").write_text("of the small root\n")
    return folder


def test_root_may_be_any_folder_and_is_not_written(
    machine_options: MachineOptions, tmp_path: Path
) -> None:
    root = small_root(tmp_path / "root")
    script = "cat /etc/marker; echo new >/etc/marker; cat /etc/marker; ls /usr 2>/dev/null; ls /"
    done = uvm_run(machine_options, "/bin/sh", "-c", script, flags=["--root", str(root)])
    lines = done.stdout.splitlines()
    assert lines[:2] == [b"of the small root", b"new"]
    assert {b"bin", b"dev", b"etc", b"proc", b"tmp"} <= set(lines[2:])
    assert (root / "etc" / "marker").read_text() == "of the small root\n"


def test_bound_folders_are_read_only_unless_said_otherwise(
    machine_options: MachineOptions, tmp_path: Path
) -> None:
    shared, writable = tmp_path / "shared", tmp_path / "writable"
    for folder in (shared, writable):
        folder.mkdir()
        (folder / "file").write_text("before\n")
    root = small_root(tmp_path / "root")
    flags = ["--root", str(root), "--bind", f"{shared}:/a", "--bind", f"{writable}:/b:rw"]
    script = (
        "cat /a/file /b/file; echo x >/a/file || echo refused; echo after >/b/file; echo n >/b/new"
    )
    done = uvm_run(machine_options, "/bin/sh", "-c", script, flags=flags)
    assert done.stdout.splitlines() == [b"before", b"before", b"refused"]
    assert (shared / "file").read_text() == "before\n"
    assert (writable / "file").read_text() == "after\n"
    assert (writable / "new").read_text() == "n\n"


def test_strace_prints_decoded_calls_on_standard_error(machine_options: MachineOptions) -> None:
    done = uvm_run(machine_options, BUSYBOX, "cat", "/nonexistent", flags=["--strace"])
    text = done.stderr.decode()
    assert done.returncode == 1
    assert 'execve("/bin/busybox"' in text
    assert '"/nonexistent"' in text and "ENOENT" in text
    assert "exit_group(1)" in text


def test_trace_writes_a_timeline_that_perfetto_opens(
    machine_options: MachineOptions, tmp_path: Path
) -> None:
    trace = tmp_path / "trace.json"
    script = "echo a | cat | cat; /bin/true"
    done = uvm_run(machine_options, BUSYBOX, "sh", "-c", script, flags=["--trace", str(trace)])
    assert done.stdout == b"a\n"
    data = json.loads(trace.read_text())
    events = data["traceEvents"] if isinstance(data, dict) else data
    assert len(events) > 50
    assert all({"ph", "pid"} <= event.keys() for event in events)
    assert any(event["ph"] == "X" and event["dur"] >= 0 for event in events)
    assert any("execve" in event.get("name", "") for event in events)


def test_same_seed_same_output_and_other_seed_another(guests: Builder) -> None:
    program = str(guests.build("racy"))

    def run(seed: int) -> bytes:
        return uvm("run", "--clock", "virtual", "--seed", str(seed), "--", program).stdout

    outputs = [run(seed) for seed in range(1, 9)]
    assert run(3) == outputs[2]
    assert len(set(outputs)) > 1


def test_doctor_says_what_the_host_offers() -> None:
    done = uvm("doctor")
    text = done.stdout.decode().lower()
    assert done.returncode == 0
    for word in ("user dispatch", "seccomp", "fsgsbase", "io_uring", "mapping", "ia-32", "cpu"):
        assert word in text


def test_help_lists_the_verbs() -> None:
    done = uvm("--help")
    assert done.returncode == 0
    for verb in (b"run", b"demo", b"bench", b"doctor"):
        assert verb in done.stdout


def test_image_that_is_no_ext2_is_refused_with_a_message(
    machine_options: MachineOptions, tmp_path: Path
) -> None:
    image = tmp_path / "image"
    image.write_bytes(os.urandom(1 << 20))
    before = image.read_bytes()
    script = "mkdir /mnt/x; mount -t ext2 /dev/vda /mnt/x; echo $?"
    done = uvm_run(machine_options, "/bin/sh", "-c", script, flags=["--disk", str(image)])
    assert done.stdout.splitlines()[-1] != b"0"
    assert b"Traceback" not in done.stderr
    assert image.read_bytes() == before


class Terminal:
    """`uvm run` on a terminal of its own."""

    def __init__(self, options: MachineOptions, script: str) -> None:
        command = [UVM, "run", *option_arguments(options), "--", BUSYBOX, "sh", "-c", script]
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            os.execv(command[0], command)
        self.seen = b""

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def wait_for(self, text: bytes, seconds: float = 30) -> None:
        """Read until `text` was printed."""
        end = time.monotonic() + seconds
        while text not in self.seen:
            ready, _, _ = select.select([self.master], [], [], max(0, end - time.monotonic()))
            assert ready, f"{text!r} did not come; there was {self.seen!r}"
            try:
                self.seen += os.read(self.master, 4096)
            except OSError:
                raise AssertionError(f"ended without {text!r}: {self.seen!r}") from None
        self.seen = self.seen[self.seen.index(text) + len(text) :]

    def close(self) -> int:
        """The wait status in Python's manner."""
        _, status = os.waitpid(self.pid, 0)
        os.close(self.master)
        return os.waitstatus_to_exitcode(status)


def test_on_a_terminal_lines_are_edited_and_echoed(machine_options: MachineOptions) -> None:
    script = 'test -t 0 && echo terminal; read -r x; echo "[$x]"; cat; echo end'
    t = Terminal(machine_options, script)
    t.wait_for(b"terminal\r\n")
    t.type(b"worng\x7f\x7f\x7fong\n")
    t.wait_for(b"[woong]\r\n")
    t.type(b"line\n")
    t.wait_for(b"line\r\nline\r\n")
    t.type(b"\x04")
    t.wait_for(b"end\r\n")
    assert t.close() == 0


@pytest.mark.realtime
def test_on_a_terminal_interrupt_goes_to_the_foreground_program(
    machine_options: MachineOptions,
) -> None:
    script = "trap 'echo shell lives' INT; (trap - INT; echo ready; exec sleep 99); echo $?"
    t = Terminal(machine_options, script)
    t.wait_for(b"ready\r\n")
    time.sleep(0.3)
    t.type(b"\x03")
    t.wait_for(b"shell lives\r\n")
    t.wait_for(b"130\r\n")
    assert t.close() == 0


@pytest.mark.realtime
def test_interrupt_that_nobody_catches_is_our_death_by_sigint(
    machine_options: MachineOptions,
) -> None:
    script = "echo ready; exec sleep 1000"
    t = Terminal(machine_options, script)
    t.wait_for(b"ready\r\n")
    time.sleep(0.3)
    t.type(b"\x03")
    assert t.close() == -signal.SIGINT
