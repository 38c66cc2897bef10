"""Names for addresses, with nm and addr2line as the oracles."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from uvm_async.race.binary import Binary, is_library_file
from uvm_async.race.demangle import demangle
from uvm_async.race.sources import Mapping, Sources

MAIN = """\
#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

int helper(int x);
int counter;
static long table[8];
pthread_mutex_t lock_a = PTHREAD_MUTEX_INITIALIZER;

static inline int bump(int n)
{
    counter = counter + n;
    return counter;
}

__attribute__((noinline)) static void rare(int x)
{
    if (__builtin_expect(x > 1000, 0)) {
        fprintf(stderr, "%d", x);
        abort();
    }
    table[2]++;
}

void *worker(void *arg)
{
    static int calls;
    calls++;
    pthread_mutex_lock(&lock_a);
    bump(*(int *)arg);
    pthread_mutex_unlock(&lock_a);
    rare(counter);
    return 0;
}

int main(void)
{
    pthread_t thread;
    int one = 1;
    pthread_create(&thread, 0, worker, &one);
    pthread_join(thread, 0);
    printf("%d\\n", helper(counter));
    assert(counter == 1);
}
"""
OTHER = """\
extern int counter;
int send(int x) { return x * counter; }
int helper(int x) { return counter * x + send(x); }
"""
CPLUSPLUS = """\
#include <iostream>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

struct Pool {
    std::mutex lock;
    std::map<int, std::string> names;
    void push(const std::string &name)
    {
        std::lock_guard<std::mutex> guard(lock);
        names[(int)names.size()] = name;
    }
};
static Pool pool;

int main()
{
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; i++)
        threads.emplace_back([i] { pool.push("x" + std::to_string(i)); });
    for (auto &thread : threads)
        thread.join();
    std::cout << pool.names.size() << "\\n";
}
"""
USER = {"main", "worker", "rare", "helper", "send"}
LINKS = ("-static", "-static-pie", "-pie", "-no-pie")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    (folder / "main.c").write_text(MAIN)
    (folder / "other.c").write_text(OTHER)
    (folder / "pool.cc").write_text(CPLUSPLUS)
    return folder


def build(folder: Path, *flags: str, compiler: str = "gcc") -> Binary:
    sources = ["main.c", "other.c"] if compiler == "gcc" else ["pool.cc"]
    out = folder / ("_".join((compiler, *flags)) or "plain")
    if not out.exists():
        command = [compiler, *flags, "-fno-builtin", "-pthread", *sources, "-o", str(out)]
        subprocess.run(command, cwd=folder, check=True)
    return Binary(str(out))


def functions(binary: Binary) -> list[tuple[str, int, int]]:
    return [(s.name, s.start, s.size) for s in binary.symbols if s.kind == 2 and s.size]


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("level", ["-O0", "-O2"])
@pytest.mark.parametrize("debug", ["-gdwarf-4", "-gdwarf-5"])
def test_lines_are_those_of_addr2line(folder: Path, link: str, level: str, debug: str) -> None:
    binary = build(folder, link, level, debug)
    addrs = [
        addr
        for name, start, size in functions(binary)
        if name.split(".")[0] in USER | {"bump"}
        for addr in range(start, start + size)
    ]
    said = subprocess.run(
        ["addr2line", "-e", binary.path], input="\n".join(map(hex, addrs)), text=True,
        capture_output=True, check=True,
    ).stdout  # fmt: skip
    expected = [re.sub(r" \(discriminator \d+\)", "", line) for line in said.splitlines()]
    lines = [binary.line_at(addr) for addr in addrs]
    assert [f"{file}:{line or '?'}" for file, line in lines] == expected
    assert len({line for _, line in lines}) > 15


def test_units_are_found_without_aranges(folder: Path) -> None:
    binary = build(folder, "-static", "-O2", "-g")
    bare = Path(binary.path + "_bare")
    subprocess.run(["objcopy", "-R", ".debug_aranges", binary.path, bare], check=True)
    for name, start, size in functions(binary):
        if name in USER:
            for addr in (start, start + size - 1):
                assert Binary(str(bare)).line_at(addr) == binary.line_at(addr)


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("level", ["-O0", "-O2", "-Os"])
def test_symbols_are_those_of_nm(folder: Path, link: str, level: str) -> None:
    binary = build(folder, link, level)
    said = subprocess.run(["nm", "-S", binary.path], capture_output=True, text=True).stdout
    found = 0
    for line in said.splitlines():
        match = re.match(r"^(\w{16}) (\w{16}) ([tTdDbB]) (\w+)$", line)
        if match is None:
            continue
        start, size, kind, name = int(match[1], 16), int(match[2], 16), match[3], match[4]
        if name in USER | {"counter", "table", "lock_a"}:
            at = binary.function_at if kind in "tT" else binary.object_at
            assert (at(start), at(start + size - 1)) == (at(start),) * 2
            symbol = at(start)
            assert symbol is not None
            assert (symbol.name, symbol.size) == (name, size)
            found += 1
    assert found >= 7


@pytest.mark.parametrize("link", ["-static", "-static-pie"])
@pytest.mark.parametrize("level", ["-O0", "-O1", "-O2", "-O3", "-Os"])
@pytest.mark.parametrize("debug", ["-g", "-g0"])
def test_user_code_of_a_static_program_is_told_from_the_library(
    folder: Path, link: str, level: str, debug: str
) -> None:
    """Even a function of the user's that bears a name of the library's."""
    binary = build(folder, link, level, debug)
    user = {name for name, start, _ in functions(binary) if not binary.is_library_code(start)}
    here = {name for name, _, _ in functions(binary)}
    assert {name.split(".")[0] for name in user} - {"bump"} == USER & here
    assert len(here) > 500


@pytest.mark.parametrize("level", ["-O0", "-O2"])
def test_templates_of_the_users_are_user_code(folder: Path, level: str) -> None:
    """What -g tells and what is seen without it are the same functions."""
    told, seen = (
        {name for name, start, _ in functions(binary) if not binary.is_library_code(start)}
        for binary in (
            build(folder, "-static", level, "-g", compiler="g++"),
            build(folder, "-static", level, compiler="g++"),
        )
    )
    assert seen == told
    assert "main" in seen


def test_a_stripped_program_is_user_code(folder: Path) -> None:
    binary = build(folder, "-static", "-O2")
    stripped = Path(binary.path + "_stripped")
    subprocess.run(["strip", "-o", stripped, binary.path], check=True)
    bare = Binary(str(stripped))
    assert not any(bare.is_library_code(start) for _, start, _ in functions(binary))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("/lib/x86_64-linux-gnu/libc.so.6", True),
        ("/lib64/ld-linux-x86-64.so.2", True),
        ("libstdc++.so.6.0.30", True),
        ("libpthread-2.31.so", True),
        ("libgcc_s.so.1", True),
        ("libmine.so.1", False),
        ("libcrypto.so.3", False),
        ("program", False),
    ],
)
def test_library_files_are_known_by_name(name: str, expected: bool) -> None:
    assert is_library_file(name) is expected


def running(folder: Path) -> tuple[Sources, int, Binary]:
    """A position-independent program as it would be mapped at some address."""
    binary = build(folder, "-pie", "-O0", "-g")
    base = 0x555555554000
    mappings = []
    for offset, vaddr, in_file, _ in binary.segments:
        start, end = (base + vaddr) & ~4095, (base + vaddr + in_file + 4095) & ~4095
        mappings.append(Mapping(start, end, offset & ~4095, binary.path))
    mappings.append(Mapping(0x555555600000, 0x555555621000, 0, "[heap]"))
    return Sources(mappings), base, binary


def test_an_instruction_is_named_with_its_source_line(folder: Path) -> None:
    sources, base, binary = running(folder)
    start = next(start for name, start, _ in functions(binary) if name == "worker")
    place = sources.place(base + start + 1)
    assert (place.function, place.offset, place.where) == ("worker", 1, "main.c:27")
    assert place.text == "{"
    assert sources.excerpt(place.file, 27, 1) == [
        (26, "void *worker(void *arg)"),
        (27, "{"),
        (28, "    static int calls;"),
    ]
    assert sources.place(0x10).where == "0x10"


def test_memory_is_named(folder: Path) -> None:
    sources, base, binary = running(folder)
    where = {s.name.split(".")[0]: base + s.start for s in binary.symbols if s.kind == 1}
    assert sources.address(where["counter"]) == "counter"
    assert sources.address(where["counter"] + 2) == "counter+2"
    assert sources.address(where["table"] + 16) == "table+16"
    assert sources.address(where["calls"]) == "calls"
    assert sources.address(0x5555556002A0) == "heap+0x2a0"
    assert sources.address(0x7F0000001000) == "0x7f0000001000"
    sources.name_region(0x7F0000000000, 0x7F0000800000, "stack of thread 2")
    assert sources.address(0x7F0000001000) == "stack of thread 2+0x1000"


def test_sources_are_found_in_other_folders(folder: Path, tmp_path: Path) -> None:
    _, base, binary = running(folder)
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "other.c").write_text("\n/* here */\n")
    mapping = Mapping(base, base + 0x10000, 0, binary.path)
    sources = Sources([mapping], search=[str(tmp_path / "src")])
    assert sources.excerpt("/build/away/src/other.c", 2, 0) == [(2, "/* here */")]


def test_straight_code_is_told_from_code_that_calls(folder: Path) -> None:
    binary = build(folder, "-no-pie", "-O0", "-g")
    spans = {name: (start, start + size) for name, start, size in functions(binary)}
    start, _ = spans["bump"]
    by_line: dict[int, int] = {}
    for addr in range(*spans["bump"]):
        by_line.setdefault(binary.line_at(addr)[1], addr)
    assert binary.runs_straight(start, by_line[14])
    assert not binary.runs_straight(by_line[14], start)
    for addr in range(*spans["worker"]):
        by_line.setdefault(binary.line_at(addr)[1], addr)
    assert not binary.runs_straight(by_line[29], by_line[33])


def test_files_that_are_no_programs_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"\x7fELF, not really")
    path = str(tmp_path / "data")
    sources = Sources([Mapping(0x1000, 0x2000, 0, path), Mapping(0x3000, 0x4000, 0, "/gone")])
    assert sources.place(0x1500).where == "data:0x1500"
    assert sources.address(0x3010) == "gone+0x10"
    assert not sources.is_library(0x1500)


def test_names_of_cplusplus_are_spelled_out() -> None:
    assert demangle("_ZN4Pool4pushEi") in ("Pool::push(int)", "_ZN4Pool4pushEi")
    assert demangle("main") == "main"
