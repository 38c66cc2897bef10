"""Traces written by hand on programs that are really compiled: what reports are tested with."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from uvm_async.race.binary import Binary
from uvm_async.race.model import Event, Kind
from uvm_async.race.sources import Mapping
from uvm_async.race.trace import Blocked, Step, Thread, Trace, synchronisation

BANK = """\
#include <assert.h>
#include <pthread.h>

int balance = 100;
int ready;
pthread_mutex_t lock_a = PTHREAD_MUTEX_INITIALIZER;
pthread_mutex_t lock_b = PTHREAD_MUTEX_INITIALIZER;
long table[200];

void *deposit(void *arg)
{
    int seen = balance;
    seen += (int)(long)arg;
    balance = seen;
    return 0;
}

void *forwards(void *arg)
{
    pthread_mutex_lock(&lock_a);
    pthread_mutex_lock(&lock_b);
    return arg;
}

void *backwards(void *arg)
{
    pthread_mutex_lock(&lock_b);
    pthread_mutex_lock(&lock_a);
    return arg;
}

void *fill(void *arg)
{
    for (long i = 0; i < 200; i++)
        table[i] += (long)arg;
    ready = 1;
    return 0;
}

int main(void)
{
    pthread_t one, two;
    pthread_create(&one, 0, deposit, (void *)10);
    pthread_create(&two, 0, deposit, (void *)20);
    pthread_join(one, 0);
    pthread_join(two, 0);
    assert(balance == 130);
    return 0;
}
"""


@dataclass
class Program:
    """A compiled program: its addresses by line and name."""

    path: Path
    binary: Binary = field(init=False)

    def __post_init__(self) -> None:
        self.binary = Binary(str(self.path))

    def symbol(self, name: str) -> int:
        return next(s.start for s in self.binary.symbols if s.name == name)

    def line(self, text: str, nth: int = 0) -> int:
        """The first instruction of the n-th line that contains this text."""
        lines = [n for n, line in enumerate(BANK.splitlines(), 1) if text in line]
        wanted = lines[nth]
        for symbol in self.binary.symbols:
            for addr in range(symbol.start, symbol.start + symbol.size * (symbol.kind == 2)):
                if self.binary.line_at(addr)[1] == wanted:
                    return addr
        raise LookupError(text)

    def maps(self) -> list[Mapping]:
        return [
            Mapping(vaddr & ~4095, (vaddr + size + 4095) & ~4095, offset & ~4095, str(self.path))
            for offset, vaddr, size, _ in self.binary.segments
        ]


def compile_bank(folder: Path) -> Program:
    (folder / "bank.c").write_text(BANK)
    subprocess.run(
        ["gcc", "-g", "-O0", "-no-pie", "-pthread", "bank.c", "-o", "bank"], cwd=folder, check=True
    )
    return Program(folder / "bank")


class Writer:
    """Adds steps to a trace, keeping memory."""

    def __init__(self, program: Program, memory: dict[int, int] | None = None) -> None:
        self.program = program
        self.trace = Trace(maps=program.maps())
        self.memory = memory or {}

    def access(self, task: int, kind: Kind, addr: int, ip: int, after: int | None = None) -> None:
        value = self.memory.get(addr, 0)
        left = value if after is None else after
        self.memory[addr] = left
        locked = kind == Kind.UPDATE
        event = Event(task, kind, addr, 4, ip, locked=locked, value=value)
        self.trace.steps.append(Step(event, left))

    def call(self, task: int, name: str, addr: int = 0, ip: int = 0) -> None:
        self.trace.steps.append(Step(Event(task, Kind.CALL, addr, ip=ip, call=name)))

    def back(self, task: int, name: str, result: int = 0) -> None:
        self.trace.steps.append(Step(Event(task, Kind.RETURN, call=name), result=result))

    def born(self, parent: int, task: int, function: str, pid: int) -> None:
        ip = self.program.line("pthread_create", min(task, 2) - 1)
        self.call(parent, "clone3", ip=ip)
        self.back(parent, "clone3", pid)
        entry = self.program.symbol(function)
        self.trace.threads.append(Thread(task, "bank", entry, "exited", parent))

    def start(self, task: int) -> None:
        self.trace.steps.append(Step(Event(task, Kind.START)))

    def finish(self, failure: str) -> Trace:
        trace = self.trace
        trace.failure = failure
        trace.edges = synchronisation(trace.steps)
        trace.argv = [str(self.program.path)]
        trace.replay = "uvm replay uvm-failure-1.json"
        trace.notes = {"strategy": "pct, seed 7, schedule 12 of 1,000"}
        return trace


def lost_update(program: Program) -> Trace:
    """Two deposits, of which one is lost; an assertion fails."""
    balance = program.symbol("balance")
    read, write = program.line("int seen = balance"), program.line("balance = seen")
    writer = Writer(program, {balance: 100})
    writer.trace.threads.append(Thread(0, "bank"))
    writer.born(0, 1, "deposit", 11)
    writer.born(0, 2, "deposit", 12)
    writer.start(1)
    writer.access(1, Kind.READ, balance, read)
    writer.start(2)
    writer.access(2, Kind.READ, balance, read)
    writer.access(2, Kind.WRITE, balance, write, 120)
    writer.call(2, "exit")
    writer.access(1, Kind.WRITE, balance, write, 110)
    writer.call(1, "exit")
    writer.access(0, Kind.READ, balance, program.line("assert(balance"))
    writer.call(0, "tgkill")
    writer.trace.preemptions = 2
    writer.trace.stderr = b"bank: bank.c:48: main: Assertion `balance == 130' failed.\n"
    return writer.finish("SIGABRT")


def deadlock(program: Program) -> Trace:
    """Two locks taken in two orders."""
    locks = program.symbol("lock_a"), program.symbol("lock_b")
    writer = Writer(program)
    writer.trace.threads.append(Thread(0, "bank"))
    for task, function in ((1, "forwards"), (2, "backwards")):
        writer.born(0, task, function, 10 + task)
    for task in (1, 2):
        writer.start(task)
        ip = program.line("lock(&lock_a)" if task == 1 else "lock(&lock_b)", task - 1)
        writer.access(task, Kind.UPDATE, locks[task - 1], ip, 1)
    waits = {1: program.line("lock(&lock_b)"), 2: program.line("lock(&lock_a)", 1)}
    for task, ip in waits.items():
        writer.access(task, Kind.UPDATE, locks[2 - task], ip, 2)
        writer.call(task, "futex", locks[2 - task], ip)
    writer.trace.blocked = [
        Blocked(1, locks[1], 2, "futex", waits[1]),
        Blocked(2, locks[0], 1, "futex", waits[2]),
        Blocked(0, 0x7F1234567910, None, "futex", program.line("pthread_join(one")),
    ]
    for thread in writer.trace.threads:
        thread.end = "waits for ever"
    writer.trace.stdout = b"\xff not text"
    return writer.finish("deadlock")


def crowd(program: Program, threads: int = 100, rounds: int = 48) -> Trace:
    """Many threads, of which two matter, and thousands of steps."""
    balance, table = program.symbol("balance"), program.symbol("table")
    add = program.line("table[i] +=")
    read, write = program.line("int seen = balance"), program.line("balance = seen")
    writer = Writer(program, {balance: 100})
    writer.trace.threads.append(Thread(0, "bank"))
    for task in range(1, threads):
        matters = task in (17, 42)
        writer.born(0, task, "deposit" if matters else "fill", 100 + task)
    for task in range(1, threads):
        writer.start(task)
        for at in range(rounds):
            cell = table + 8 * task
            writer.access(task, Kind.READ, cell, add)
            if at % 4 == 0:
                writer.access(task, Kind.WRITE, cell, add, at)
        if task == 17:
            writer.access(17, Kind.READ, balance, read)
        elif task == 42:
            writer.access(42, Kind.READ, balance, read)
            writer.access(42, Kind.WRITE, balance, write, 120)
    writer.access(17, Kind.WRITE, balance, write, 110)
    for task in range(1, threads):
        writer.call(task, "exit")
    writer.access(0, Kind.READ, balance, program.line("assert(balance"))
    writer.call(0, "tgkill")
    return writer.finish("SIGABRT")
