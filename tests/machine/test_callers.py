"""What a machine takes from whoever starts programs in it: arguments, limits, umask, folder."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.guests import Builder
from support.options import TRANSPORTS, TRAPS, MachineOptions
from support.twice import Twice
from support.uvm import UVM, one_line, option_arguments, uvm, uvm_run
from uvm_async import Machine, UsageError

pytestmark = [pytest.mark.machine, pytest.mark.timeout(120)]
BUSYBOX = "/bin/busybox"
CUTS = (65, 300, 700, 1000, 4096, 8192, 100_000, 1_000_000)


# -- what is executed


@pytest.mark.asyncio
@pytest.mark.parametrize("program", [BUSYBOX, "/bin/ls"])
async def test_program_cut_short_ends_as_on_the_host(
    program: str, twice: Twice, tmp_path: Path
) -> None:
    whole = Path(program).read_bytes()
    cut = tmp_path / "cut"
    cut.mkdir()
    for size in CUTS:
        (cut / f"{size:07}").write_bytes(whole[:size])
        (cut / f"{size:07}").chmod(0o755)
    script = f'for f in {cut}/*; do "$f" true >/dev/null 2>&1; echo "$f $?"; done'
    outcome = await twice.agree([BUSYBOX, "sh", "-c", script])
    assert outcome.stdout.count(b" 139\n") >= 4


@pytest.mark.asyncio
async def test_class_in_the_header_does_not_matter_as_on_the_host(
    twice: Twice, tmp_path: Path
) -> None:
    busybox = bytearray(Path(BUSYBOX).read_bytes())
    busybox[4] = 1  # ELFCLASS32
    (tmp_path / "busybox").write_bytes(busybox)
    (tmp_path / "busybox").chmod(0o755)
    outcome = await twice.agree([tmp_path / "busybox", "echo", "hi"])
    assert outcome.stdout == b"hi\n"


@pytest.mark.fixed_machine
@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("trap", TRAPS)
def test_32_bit_call_is_never_another_call(trap: str, transport: str, guests: Builder) -> None:
    program = str(guests.build("int80"))
    done = uvm("run", "--trap", trap, "--transport", transport, "--", program)
    # On a host without IA-32 emulation the instruction is a fault.
    assert (done.returncode, done.stdout) in ((0, b"-38\n" * 6), (signal.SIGSEGV, b""))


@pytest.mark.fixed_machine
def test_32_bit_call_is_told_as_what_it_is(guests: Builder) -> None:
    done = uvm("run", "--strace", "--", str(guests.build("int80")))
    if done.returncode == 0:
        assert b"int80_syscall_20() = -1 ENOSYS" in done.stderr
        assert b"getpid" not in done.stderr and b"writev" not in done.stderr
        assert done.stderr.count(b"32-bit system call") == 5  # one of the numbers comes twice


# -- the API's arguments


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("how", "error", "text"),
    [
        ({"args": ["echo", "a\0b"]}, ValueError, "embedded null byte"),
        ({"args": ["ec\0ho"]}, ValueError, "embedded null byte"),
        ({"args": ["true"], "cwd": "/\0"}, ValueError, "embedded null byte"),
        ({"args": ["true"], "env": {"A": "\0"}}, ValueError, "embedded null byte"),
        ({"args": ["true"], "env": {"A=": "b"}}, ValueError, "illegal environment variable name"),
        ({"args": ["true"], "env": {"": "b"}}, ValueError, "illegal environment variable name"),
        ({"args": ["true"], "cwd": "/nosuch"}, FileNotFoundError, "'/nosuch'"),
        ({"args": ["nosuch"], "cwd": "/"}, FileNotFoundError, "'nosuch'"),
        ({"args": ["true"], "cwd": "/etc/passwd"}, NotADirectoryError, "'/etc/passwd'"),
        ({"args": "echo hi"}, TypeError, '"sh", "-c"'),
        ({"args": []}, ValueError, "args is empty"),
    ],
)
async def test_wrong_argument_is_named(
    how: dict[str, Any], error: type[Exception], text: str, machine_options: MachineOptions
) -> None:
    async with Machine(**machine_options.kwargs()) as m:
        with pytest.raises(error) as caught:
            await m.run(**how)
        assert text in str(caught.value)
        assert (await m.run(["true"], cwd="/")).returncode == 0


def test_seed_that_is_no_number_is_wrong_use() -> None:
    with pytest.raises(UsageError, match="seed must be a whole number"):
        Machine(seed="a")  # type: ignore[arg-type]


# -- what is inherited


@pytest.mark.asyncio
async def test_umask_is_the_embedders_unless_it_is_given(machine_options: MachineOptions) -> None:
    before = os.umask(0o027)
    try:
        async with Machine(**machine_options.kwargs()) as m:
            inherited = await m.run([BUSYBOX, "sh", "-c", "umask"])
            given = await m.run([BUSYBOX, "sh", "-c", "umask"], umask=0o7)
            assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
    assert (inherited.stdout, given.stdout) == (b"0027\n", b"0007\n")


def test_files_in_a_bound_folder_have_the_callers_umask(
    machine_options: MachineOptions, tmp_path: Path
) -> None:
    flags = ["--bind", f"{tmp_path}:/b:rw"]
    done = uvm_run(machine_options, BUSYBOX, "touch", "/b/new", flags=flags, umask=0o077)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o600


def test_caller_in_a_deleted_folder_has_the_guest_in_its_root(
    machine_options: MachineOptions, tmp_path: Path
) -> None:
    run = " ".join([UVM, "run", *option_arguments(machine_options), "--", "pwd"])
    command = f"mkdir g; cd g; rmdir ../g; exec {run}"
    done = subprocess.run(["/bin/sh", "-c", command], cwd=tmp_path, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"/\n", b"")


def limited(kind: int, value: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(kind, (value, value))


def test_machine_runs_with_64_descriptors(machine_options: MachineOptions) -> None:
    script = "ls -R /etc >/dev/null 2>&1; echo ok | cat | cat | cat"
    done = uvm_run(
        machine_options, BUSYBOX, "sh", "-c", script,
        preexec_fn=limited(resource.RLIMIT_NOFILE, 64),
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, b"ok\n", b"")


@pytest.mark.parametrize("count", [12, 20, 40])
def test_fewer_descriptors_are_refused_in_one_line(
    count: int, machine_options: MachineOptions
) -> None:
    done = uvm_run(
        machine_options, BUSYBOX, "true", preexec_fn=limited(resource.RLIMIT_NOFILE, count)
    )
    assert done.returncode == 125
    assert one_line(done.stderr)
    assert b"ulimit -n" in done.stderr and b"64" in done.stderr


def test_file_size_limit_is_named_where_memory_does_not_fit(
    machine_options: MachineOptions,
) -> None:
    done = uvm_run(
        machine_options, BUSYBOX, "true", preexec_fn=limited(resource.RLIMIT_FSIZE, 100 << 10)
    )
    assert done.returncode == 125
    assert one_line(done.stderr) and b"ulimit -f" in done.stderr


# -- process 1


@pytest.mark.asyncio
async def test_process_1_is_there_for_whoever_asks(machine_options: MachineOptions) -> None:
    script = """
ls -ld /proc/1 /proc/1/cwd /proc/1/root /proc/1/task/1 >/dev/null || echo not there
cat /proc/1/comm; cut -d " " -f 1-8 /proc/1/stat; cat /proc/1/maps /proc/1/cmdline
grep -E "^(Name|State|Pid|PPid|Threads):" /proc/1/status
kill -0 1 && kill -9 1 && kill -0 1 && echo lives
ps -e -o pid=,ppid=,stat=,comm= | head -n 2 | tr -s " "
for n in $(ls /proc | grep "^[12]$"); do [ -d /proc/$n ] || echo $n is not there; done
"""
    async with Machine(**machine_options.kwargs()) as m:
        result = await m.run(["sh", "-c", script], cwd="/")
    assert result.stderr == b""
    assert result.stdout.decode().split("\n") == [
        "init", "1 (init) S 0 1 1 0 -1",
        "Name:\tinit", "State:\tS (sleeping)", "Pid:\t1", "PPid:\t0", "Threads:\t1",
        "lives", " 1 0 Ss init", " 2 1 Ss sh", "",
    ]  # fmt: skip


@pytest.mark.asyncio
async def test_calls_that_take_a_pid_take_1(machine_options: MachineOptions) -> None:
    script = """
import os, resource, signal
print(os.getppid(), os.getpgid(1), os.getsid(1), os.getpriority(os.PRIO_PROCESS, 1))
print(os.sched_getaffinity(1) == os.sched_getaffinity(0), os.sched_getscheduler(1))
fd = os.pidfd_open(1)
signal.pidfd_send_signal(fd, signal.SIGKILL)
os.kill(1, 0)
print(resource.prlimit(1, resource.RLIMIT_CORE)[0])
"""
    async with Machine(**machine_options.kwargs()) as m:
        result = await m.run(["python3", "-c", script], cwd="/")
    assert (result.stdout, result.stderr) == (b"1 1 1 0\nTrue 0\n0\n", b"")


# -- signals while nothing runs yet


@pytest.mark.fixed_machine
def test_sigint_before_the_program_runs_ends_the_command_silently() -> None:
    for delay_ms in range(60, 400, 20):
        command = [UVM, "run", "--", BUSYBOX, "sleep", "30"]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as p:
            wait_for_main(p.pid)
            time.sleep((delay_ms - 60) / 1000)
            p.send_signal(signal.SIGINT)
            assert p.stderr and p.stderr.read() == b""
            assert p.wait(30) == -signal.SIGINT


def wait_for_main(pid: int) -> None:
    """Until the command has taken SIGINT from the interpreter, whose start is not ours."""
    end = time.monotonic() + 20
    caught_once = False
    while time.monotonic() < end:
        status = Path(f"/proc/{pid}/status").read_text()
        caught = int(status.partition("SigCgt:\t")[2].split()[0], 16) >> (signal.SIGINT - 1) & 1
        if caught_once and not caught:
            return
        caught_once = caught_once or bool(caught)
        time.sleep(0.0005)
    raise TimeoutError(f"process {pid} does not start")


@pytest.mark.fixed_machine
@pytest.mark.parametrize("signo", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_ended_demo_leaves_nothing(signo: signal.Signals, tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [UVM, "demo", "--picture", str(tmp_path / "p.svg")]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=environment
    ) as p:
        assert p.stdout and b"processes" in p.stdout.readline()
        assert [path.name for path in tmp_path.iterdir()] != []
        p.send_signal(signo)
        p.stdout.read()
        assert p.wait(30) == -signo
    assert list(tmp_path.iterdir()) == []
