"""The machine: built from parts here, started, and taken down.

`Machine` is the heart of the public API.  It owns what is not state (the memory
file, the nursery and its stubs, worker threads, links to the outside); everything
else is the kernel's graph.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from uvm_async._host import lib
from uvm_async.arch.physmem import Physmem
from uvm_async.arch.stub import StubFamily, StubOptions
from uvm_async.errors import Errno, MachineError, UsageError
from uvm_async.fs.dcache import d_add
from uvm_async.fs.devfs.super import devfs
from uvm_async.fs.hostfs.super import Sight, mount_hostfs
from uvm_async.fs.inode import Path
from uvm_async.fs.namei import lookup
from uvm_async.fs.overlay.super import mount_overlay
from uvm_async.fs.procfs.super import proc_super_block
from uvm_async.kernel.cred import Cred
from uvm_async.kernel.entropy import Entropy
from uvm_async.kernel.kernel import Kernel
from uvm_async.kernel.observer import Observer, Observers
from uvm_async.kernel.spawn import NOFILE, Program, make_init, run_outside, spawn
from uvm_async.kernel.task import Process, Task
from uvm_async.log import log
from uvm_async.process import (
    DEVNULL,
    PIPE,
    CompletedProcess,
    GuestProcess,
    Streams,
)
from uvm_async.sched.clock import RealClock, VirtualClock
from uvm_async.sched.policies import make_policy
from uvm_async.syscalls.dispatch import load_all
from uvm_async.tty.console import Console, register_ttys

if TYPE_CHECKING:
    from typing import Self

__all__ = ["Machine"]

TRANSPORTS: Final = {"signal": lib.UVM_TRANSPORT_SIGNAL, "futex": lib.UVM_TRANSPORT_FUTEX}
TRAPS: Final = {"sud": lib.UVM_DOOR_SUD, "seccomp": lib.UVM_DOOR_SECCOMP}
SIZE_UNITS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
MIN_MEMORY_BYTES: Final = 16 << 20
DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
FIRST_STUBS: Final = 6
AT_HWCAP, AT_HWCAP2, AT_MINSIGSTKSZ = 16, 26, 51


def parse_size(size: int | str) -> int:
    """Bytes of "256M" and its like. Raises UsageError."""
    if isinstance(size, int):
        return size
    match = re.fullmatch(r"(\d+)\s*([KMG]?)i?B?", size.strip(), re.IGNORECASE)
    if match is None:
        raise UsageError(f"not a size: {size!r} (write 256M or 1G)")
    return int(match[1]) * SIZE_UNITS[match[2].upper()]


class Workers:
    """Threads for host calls that may block; made at first use."""

    def __init__(self) -> None:
        self._executor: ThreadPoolExecutor | None = None

    async def run(self, fn: Any, *args: Any) -> Any:
        """`fn(*args)` in a worker thread."""
        if self._executor is None:
            self._executor = ThreadPoolExecutor(4, thread_name_prefix="uvm-worker")
        return await asyncio.get_running_loop().run_in_executor(self._executor, fn, *args)

    def close(self) -> None:
        """Wait for what is under way, and end the threads."""
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)
            self._executor = None


class Machine:
    """A virtual machine in the running event loop.

        async with Machine() as m:
            result = await m.run(["sh", "-c", "echo hello"])

    root: host directory that the guest sees as `/`, read-only below a tmpfs overlay;
    disks: backing files, /dev/vda, /dev/vdb ...; cpus: virtual CPUs; memory: bytes or
    "256M"; clock: "real" or "virtual"; seed: makes choices repeatable (implies nothing
    else); policy: see uvm_async.sched.policies; transport: "futex" or "signal"; trap:
    "sud" or "seccomp"; binds: (host directory, guest directory, writable); observers: see
    uvm_async.trace.

    Raises UsageError for wrong arguments, MachineError if the host cannot do it.
    """

    def __init__(
        self,
        root: str | os.PathLike[str] = "/",
        *,
        disks: Sequence[str | os.PathLike[str]] = (),
        cpus: int = 1,
        memory: int | str = "256M",
        clock: str = "real",
        seed: int | None = None,
        policy: str | None = None,
        transport: str = "futex",
        trap: str | None = None,
        binds: Sequence[tuple[str, str, bool]] = (),
        max_tasks: int = 4096,
        observers: Sequence[Observer] = (),
    ) -> None:
        if clock not in ("real", "virtual"):
            raise UsageError(f"unknown clock {clock!r}: choose real or virtual")
        if transport not in TRANSPORTS:
            raise UsageError(f"unknown transport {transport!r}: choose {' or '.join(TRANSPORTS)}")
        if trap is None:
            trap = "sud" if lib.uvm_sud_available() else "seccomp"
        if trap not in TRAPS:
            raise UsageError(f"unknown trap {trap!r}: choose {' or '.join(TRAPS)}")
        if trap == "sud" and not lib.uvm_sud_available():
            raise UsageError("this host has no Syscall User Dispatch: use --trap seccomp")
        if not 1 <= cpus <= 64:
            raise UsageError(f"cpus must be 1 to 64, not {cpus}")
        self.memory_bytes = parse_size(memory)
        if self.memory_bytes < MIN_MEMORY_BYTES:
            raise UsageError(f"memory must be at least 16M, not {memory}")
        self.root = os.fspath(root)
        self.disks = [os.fspath(d) for d in disks]
        self.binds = list(binds)
        self.cpus = cpus
        self.clock_name = clock
        self.seed = seed if seed is not None or clock == "real" else 0
        self.policy_name = policy or ("random" if clock == "virtual" else "fair")
        self.policy = make_policy(self.policy_name, self.seed or 0)
        self.transport = transport
        self.trap = trap
        self.max_tasks = max_tasks
        self._observers = Observers(observers) if observers else None
        self.kernel: Kernel
        self._family: StubFamily | None = None
        self._physmem: Physmem | None = None
        self._workers = Workers()
        self._processes: dict[Process, GuestProcess] = {}
        self._streams: list[Streams] = []
        self._failure: BaseException | None = None
        self._started = False
        self._closed = False

    # -- life

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Boot. Raises UsageError, MachineError."""
        if self._started:
            raise MachineError("a machine starts once")
        self._started = True
        try:
            await self._start()
        except BaseException:
            await self._take_down()
            raise

    async def _start(self) -> None:
        self._physmem = Physmem.create(self.memory_bytes, self.max_tasks)
        kernel = self.kernel = Kernel(
            self._physmem,
            clock=VirtualClock() if self.clock_name == "virtual" else RealClock(),
            cpus=self.cpus,
            policy=self.policy,
            entropy=Entropy(self.seed),
            calls=load_all(),
        )
        kernel.hwcap = _auxv(AT_HWCAP)
        kernel.hwcap2 = _auxv(AT_HWCAP2)
        kernel.min_signal_stack = max(2048, _auxv(AT_MINSIGSTKSZ))
        await self._attach_hardware()
        if self._observers is not None:
            kernel.observer = self._observers
            self._observers.attach(kernel)
        kernel.roots["console"] = Console(kernel)
        make_init(kernel)
        await run_outside(self._mount_all())

    async def _attach_hardware(self) -> None:
        kernel = self.kernel
        assert self._physmem is not None
        kernel.workers = self._workers
        kernel.wake_mask = 1 << (lib.UVM_SIG_WAKE - 1) if self.transport == "signal" else 0
        kernel.on_exit = self._on_exit
        sched = kernel.sched
        family = self._family = StubFamily(
            self._physmem,
            StubOptions(transport=TRANSPORTS[self.transport], door=TRAPS[self.trap]),
            on_trap=self._guarded(sched.on_trap),
            on_ack=self._guarded(sched.on_ack),
            on_timer=self._guarded(sched.on_timer),
            on_death=self._guarded(kernel.stub_died),
            on_lost=self._on_lost,
            done=self._guarded(sched.schedule),
        )
        kernel.attach_hardware(family, asyncio.get_running_loop())
        await family.start(FIRST_STUBS)

    async def _mount_all(self) -> None:
        kernel = self.kernel
        deterministic = self.clock_name == "virtual"
        lower = await mount_hostfs(
            kernel, os.fsencode(self.root), sight=Sight.SNAPSHOT, deterministic=deterministic
        )
        await kernel.mounts.attach(await mount_overlay(kernel, lower))
        await register_ttys(kernel, self.console)
        await self._mount_at(await devfs(kernel), b"dev")
        await self._mount_at(proc_super_block(kernel), b"proc")

    async def _mount_at(self, sb: Any, name: bytes) -> None:
        root = self.kernel.mounts.root_path()
        inode = root.inode
        try:
            place = await inode.lookup(name)
        except Errno.ENOENT:
            place = await inode.mkdir(name, 0o40755, 0, 0)
        dentry = d_add(root.dentry, name, place)
        await self.kernel.mounts.attach(sb, Path(root.mount, dentry))

    async def close(self) -> None:
        """End every guest process, write back, and leave nothing behind. Idempotent."""
        if self._closed or not self._started:
            return
        if self._family is not None and self._failure is None:
            self.kernel.sched.stopped = True
            for sb in self.kernel.mounts.super_blocks():
                await run_outside(sb.sync())
        await self._take_down()

    async def _take_down(self) -> None:
        if self._closed:
            return
        self._closed = True
        family, self._family = self._family, None
        kernel = getattr(self, "kernel", None)
        if kernel is not None:
            kernel.sched.stopped = True
            for task in kernel.tasks.values():
                if task.coroutine is not None:
                    coroutine, task.coroutine = task.coroutine, None
                    coroutine.close()
            for job in list(kernel.sched.jobs.values()):
                job.cancel()
            kernel.sched.jobs.clear()
        for streams in self._streams:
            streams.close()
        for process in list(self._processes.values()):
            process.machine_closed(self._failure)
        self._processes.clear()
        try:
            if family is not None:
                await family.close()
        finally:
            self._workers.close()
            if self._observers is not None:
                self._observers.close()
            if kernel is not None:
                for sb in kernel.mounts.super_blocks():
                    detach = getattr(sb, "detach_host", None)
                    if detach is not None:
                        detach()
            if self._physmem is not None:
                self._physmem.close()

    # -- failure

    def _guarded(self, function: Any) -> Any:
        """A bug of ours ends the machine, with a traceback in the log."""

        def call(*args: Any) -> None:
            try:
                function(*args)
            except Exception as error:
                self._fail(error)

        return call

    def _fail(self, error: BaseException) -> None:
        if self._failure is not None or self._closed:
            return
        log.error("the machine has failed", exc_info=error)
        self._failure = error
        self.kernel.sched.stopped = True
        failure = MachineError(f"the machine has failed: {error!r}")
        for process in list(self._processes.values()):
            process.machine_closed(failure)

    def _on_lost(self, message: str) -> None:
        self._fail(MachineError(message))

    def _on_exit(self, process: Process, status: int) -> None:
        guest = self._processes.pop(process, None)
        if guest is not None:
            guest.exited(status)

    # -- programs

    @property
    def console(self) -> Console:
        """The machine's terminal: feed it what is typed, take what it shows."""
        console: Console = self.kernel.roots["console"]
        return console

    async def create_subprocess_exec(
        self,
        program: str | bytes,
        *args: str | bytes,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        limit: int = 65536,
    ) -> GuestProcess:
        """Start a program, as asyncio.create_subprocess_exec does on the host.

        Streams are PIPE, DEVNULL, STDOUT (stderr only), CONSOLE (the machine's) or None: the
        embedding process's own.
        Raises FileNotFoundError, PermissionError and other OSErrors as execve(2) gives them.
        """
        self._check_alive()
        environment = dict(os.environ if env is None else env)
        streams = Streams(self.kernel, self._workers, stdin, stdout, stderr, limit)
        self._streams.append(streams)
        name = os.fsencode(program)
        loop = asyncio.get_running_loop()
        failed: asyncio.Future[Errno] = loop.create_future()
        directory = os.fsencode(cwd) if cwd is not None else os.fsencode(os.getcwd())

        async def prepare(task: Task) -> None:
            for fd in streams.on_console:
                file = await self.console.open_for(task.process)
                task.files.install(file, NOFILE, start=fd)
            await task.fs.set_cwd(await lookup(task, -100, directory, directory=True))

        program_ = Program(
            path=_candidates(name, environment),
            argv=[os.fsencode(a) for a in (program, *args)],
            envp=[os.fsencode(k) + b"=" + os.fsencode(v) for k, v in environment.items()],
            files=streams.files,
            cred=Cred(),
            prepare=prepare,
        )
        process, task = await run_outside(
            spawn(self.kernel, program_, lambda e: failed.done() or failed.set_result(e))
        )
        guest = GuestProcess(self.kernel, process, streams)
        self._processes[process] = guest
        if process.zombie:
            self._on_exit(process, process.exit_code or 0)
        await guest.started(task, failed)
        if failed.done():
            error = failed.result()
            streams.close()
            raise OSError(error.errno, os.strerror(error.errno), os.fsdecode(name))
        return guest

    async def run(
        self,
        args: Sequence[str | bytes],
        *,
        input: bytes | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        timeout: float | None = None,
    ) -> CompletedProcess:
        """Run a program to its end; answers returncode, stdout and stderr.

        On timeout (seconds) the program is killed and TimeoutError raised.
        """
        process = await self.create_subprocess_exec(
            *args, stdin=PIPE if input is not None else DEVNULL, stdout=PIPE, stderr=PIPE,
            env=env, cwd=cwd,
        )  # fmt: skip
        try:
            async with asyncio.timeout(timeout):
                stdout, stderr = await process.communicate(input)
        except BaseException:
            process.kill()
            raise
        assert process.returncode is not None
        return CompletedProcess(list(args), process.returncode, stdout or b"", stderr or b"")

    def _check_alive(self) -> None:
        if self._failure is not None:
            raise MachineError(f"the machine has failed: {self._failure!r}")
        if self._closed or not self._started:
            raise MachineError("the machine is not running")


def _candidates(name: bytes, environment: Mapping[str, str]) -> list[bytes]:
    """Where execvp(3) would look."""
    if b"/" in name or not name:
        return [name]
    path = os.fsencode(environment.get("PATH", DEFAULT_PATH))
    return [(directory or b".") + b"/" + name for directory in path.split(b":")]


def _auxv(key: int) -> int:
    """The host's getauxval(3)."""
    getauxval = ctypes.CDLL(None).getauxval
    getauxval.restype = ctypes.c_ulong
    return int(getauxval(ctypes.c_ulong(key)))


