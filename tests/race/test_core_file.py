"""Cores of a live process, opened by gdb."""

from __future__ import annotations

import os
import re
import signal
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from uvm_async.race.core_file import REGISTER_NAMES, CoreThread, MappedFile, Memory, write_core

PROGRAM = r"""
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

/* Each thread writes down its registers, then waits inside known functions. */
static pthread_barrier_t ready;
static ucontext_t contexts[3];
static int tids[3];
static unsigned long fs_bases[3];
int balance = 4711;
char untouched[1 << 20];

__attribute__((noinline)) static void park(long me, int depth)
{
    volatile int local = 100 + (int)me;
    if (depth) {
        park(me, depth - 1);
        return;
    }
    tids[me] = (int)syscall(SYS_gettid);
    __asm__("mov %%fs:0, %0" : "=r"(fs_bases[me]));
    getcontext(&contexts[me]);
    pthread_barrier_wait(&ready);
    if (me == 0) {
        printf("%d %p %p %p\n", (int)sizeof contexts[0], (void *)contexts, (void *)tids,
               (void *)fs_bases);
        fflush(stdout);
    }
    for (;;)
        pause();
    local++;
}

static void *worker(void *arg)
{
    park((long)arg, 2);
    return 0;
}

int main(void)
{
    pthread_t thread;
    pthread_barrier_init(&ready, 0, 3);
    for (long i = 1; i < 3; i++)
        pthread_create(&thread, 0, worker, (void *)i);
    park(0, 0);
}
"""

# Of ucontext_t: gregs begin at 40, in this order; the x87 state is pointed to by fpregs at 224.
GREGS = (
    *("r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rdi", "rsi", "rbp", "rbx", "rdx"),
    *("rax", "rcx", "rsp", "rip", "eflags"),
)


@dataclass
class Live:
    """A process whose threads stand still, and what a core needs of it."""

    pid: int
    threads: list[CoreThread]
    memory: list[Memory]
    files: list[MappedFile]
    auxv: bytes


@pytest.fixture(scope="module", params=["static", "dynamic"])
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("core")
    (folder / "parked.c").write_text(PROGRAM)
    link = ["-static"] if request.param == "static" else []
    subprocess.run(
        ["gcc", "-O0", "-g", "-pthread", *link, "parked.c", "-o", "parked"], cwd=folder, check=True
    )
    return folder / "parked"


@pytest.fixture
def live(program: Path) -> Iterator[Live]:
    process = subprocess.Popen([program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        size, contexts, tids, bases = process.stdout.readline().split()
        os.kill(process.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        with open(f"/proc/{process.pid}/mem", "rb", buffering=0) as mem:

            def read(addr: int, count: int) -> bytes:
                mem.seek(addr)
                return mem.read(count)

            memory, files = maps_of(process.pid, mem.fileno())
            threads = []
            for me in range(3):
                context = read(int(contexts, 16) + me * int(size), int(size))
                values = dict(zip(GREGS, struct.unpack_from("<18q", context, 40), strict=True))
                (tid,) = struct.unpack("<i", read(int(tids, 16) + 4 * me, 4))
                (base,) = struct.unpack("<Q", read(int(bases, 16) + 8 * me, 8))
                registers = [values.get(name, 0) for name in REGISTER_NAMES]
                threads.append(CoreThread(tid, registers, base, context[424:936], 6))
            auxv = Path(f"/proc/{process.pid}/auxv").read_bytes()
            yield Live(process.pid, threads, memory, files, auxv)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def maps_of(pid: int, mem: int) -> tuple[list[Memory], list[MappedFile]]:
    memory, files = [], []
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        span, rights, offset, *rest = line.split(maxsplit=5)
        start, end = (int(part, 16) for part in span.split("-"))
        path = rest[2] if len(rest) > 2 else ""
        if path in ("[vvar]", "[vsyscall]", "[vvar_vclock]") or rights[0] != "r":
            continue
        protection = sum(bit for bit, c in zip((1, 2, 4), rights, strict=False) if c != "-")

        def content(addr: int, count: int) -> bytes:
            return os.pread(mem, count, addr)

        memory.append(Memory(start, end, protection, content))
        if path.startswith("/"):
            files.append(MappedFile(start, end, int(offset, 16) // 4096, path))
    return memory, files


def gdb(program: Path, core: Path, *commands: str) -> str:
    words = [word for command in commands for word in ("-ex", command)]
    done = subprocess.run(
        ["gdb", "-nx", "-batch", "-iex", "set debuginfod enabled off", *words, program, core],
        capture_output=True,
        text=True,
        timeout=100,
    )
    return done.stdout + done.stderr


@pytest.fixture
def core(live: Live, tmp_path: Path) -> Path:
    path = tmp_path / "core"
    write_core(
        path,
        live.threads,
        live.memory,
        live.auxv,
        live.files,
        pid=live.pid,
        comm="parked",
        argv=["parked", "one"],
    )
    return path


def test_gdb_shows_every_thread_with_its_backtrace(program: Path, core: Path) -> None:
    said = gdb(program, core, "info threads", "thread apply all bt", "p balance", "info signals 6")
    assert "SIGABRT" in said
    assert len(re.findall(r"^\*? +\d+ +.*(?:Thread|LWP)", said, re.M)) == 3, said
    backtraces = said[said.index("\nThread ") :]
    assert len(re.findall(r"^#\d .*park \(me=", backtraces, re.M)) == 7, said
    assert len(re.findall(r"^#\d .*worker \(arg=", backtraces, re.M)) == 2, said
    assert re.search(r"main \(\) at .*parked\.c", said), said
    assert "= 4711" in said
    assert "warning" not in said.lower(), said


def test_gdb_finds_locals_registers_and_mapped_files(program: Path, core: Path, live: Live) -> None:
    said = gdb(program, core, "frame function park", "p local", "info proc mappings", "p $rsp")
    assert "$1 = 100" in said, said
    assert str(program) in said
    rsp = live.threads[0].registers[REGISTER_NAMES.index("rsp")]
    assert f"{rsp:#x}" in said


def test_pages_of_zeros_take_no_room(core: Path) -> None:
    info = core.stat()
    assert info.st_blocks * 512 < info.st_size - (1 << 20)


def test_memory_that_is_not_saved_is_left_to_the_file(tmp_path: Path) -> None:
    path = tmp_path / "core"
    stretches = [Memory(0x1000, 0x3000, 5, None), Memory(0x3000, 0x4000, 3, b"x" * 10)]
    write_core(path, [CoreThread(1, [0] * 27)], stretches, b"", [], pid=1, comm="x")
    said = subprocess.run(["readelf", "-lW", path], capture_output=True, text=True).stdout
    loads = [line.split() for line in said.splitlines() if "LOAD" in line]
    assert [(load[2], load[4], load[5], "".join(load[6:-1])) for load in loads] == [
        ("0x0000000000001000", "0x000000", "0x002000", "RE"),
        ("0x0000000000003000", "0x001000", "0x001000", "RW"),
    ]


def test_more_stretches_than_an_elf_header_can_count(tmp_path: Path) -> None:
    path = tmp_path / "core"
    many = [Memory(at << 12, (at + 1) << 12, 1, None) for at in range(1, 70_001)]
    write_core(path, [CoreThread(1, [0] * 27)], many, b"", [], pid=1, comm="x")
    said = subprocess.run(["readelf", "-hW", path], capture_output=True, text=True).stdout
    assert "65535 (70001)" in said


@pytest.mark.parametrize("threads", [[], [CoreThread(1, [0] * 26)]])
def test_a_core_without_registers_is_refused(tmp_path: Path, threads: list[CoreThread]) -> None:
    with pytest.raises(ValueError, match="27 registers"):
        write_core(tmp_path / "core", threads, [], b"", [], pid=1, comm="x")
