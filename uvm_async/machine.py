"""The machine: built from parts here, started, and taken down.

`Machine` is the heart of the public API.  It owns what is not state (the memory
file, the nursery and its stubs, worker threads, links to the outside); everything
else is the kernel's graph.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import re
import resource
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from uvm_async._host import lib
from uvm_async.arch.physmem import Physmem
from uvm_async.arch.stub import StubFamily, StubOptions
from uvm_async.block.blkdev import attach_disk
from uvm_async.block.disk import Disk
from uvm_async.errors import Errno, MachineError, UsageError
from uvm_async.fs.dcache import d_add
from uvm_async.fs.devfs.super import devfs, register_device
from uvm_async.fs.ext2 import mount as _ext2  # noqa: F401 (registers the file system)
from uvm_async.fs.hostfs.super import Sight, mount_hostfs
from uvm_async.fs.inode import Path, SuperBlock
from uvm_async.fs.mount import MS_RDONLY
from uvm_async.fs.namei import lookup
from uvm_async.fs.overlay.super import mount_overlay
from uvm_async.fs.procfs.super import proc_super_block
from uvm_async.fs.walk import lookup_child
from uvm_async.kernel.cred import Cred
from uvm_async.kernel.entropy import Entropy
from uvm_async.kernel.kernel import Kernel
from uvm_async.kernel.observer import Observer, Observers
from uvm_async.kernel.spawn import NOFILE, Program, give_init_a_task, make_init, run_outside, spawn
from uvm_async.kernel.task import Process, Task
from uvm_async.log import log
from uvm_async.process import CompletedProcess, GuestProcess
from uvm_async.sched.clock import RealClock, VirtualClock
from uvm_async.sched.policies import make_policy
from uvm_async.snapshot import bind_tasks, freeze, tasks_to_bind, thaw_kernel
from uvm_async.stdio import DEVNULL, PIPE, Streams
from uvm_async.syscalls.dispatch import load_all
from uvm_async.tty.console import Console, register_ttys

if TYPE_CHECKING:
    from typing import Self

__all__ = ["MIN_DESCRIPTORS", "Machine", "check_limits"]

TRANSPORTS: Final = {"signal": lib.UVM_TRANSPORT_SIGNAL, "futex": lib.UVM_TRANSPORT_FUTEX}
TRAPS: Final = {"sud": lib.UVM_DOOR_SUD, "seccomp": lib.UVM_DOOR_SECCOMP}
SIZE_UNITS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
MIN_MEMORY_BYTES: Final = 16 << 20
MIN_DESCRIPTORS: Final = 64
"""What a machine and its loop need of this process's RLIMIT_NOFILE, with some to spare."""
DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
FIRST_STUBS: Final = 6
FRESH_INTERPRETER_EVERY: Final = 64
AT_HWCAP, AT_HWCAP2, AT_MINSIGSTKSZ = 16, 26, 51


def parse_size(size: int | str) -> int:
    """Bytes of "256M" and its like. Raises UsageError."""
    if isinstance(size, int):
        return size
    match = re.fullmatch(r"(\d+)\s*([KMG]?)i?B?", size.strip(), re.IGNORECASE)
    if match is None:
        raise UsageError(f"not a size: {size!r} (write 256M or 1G)")
    return int(match[1]) * SIZE_UNITS[match[2].upper()]


def check_limits() -> None:
    """Whether this process may open what a machine needs. Raises MachineError."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < MIN_DESCRIPTORS:
        raise MachineError(
            f"this process may have {soft} descriptors, a machine needs {MIN_DESCRIPTORS}: "
            f"raise ulimit -n"
        )


class Workers:
    """Threads for host calls that may block; made at first use."""

    def __init__(self) -> None:
        self._executor: ThreadPoolExecutor | None = None
        self._cpus = os.sched_getaffinity(0)
        """Where workers may run, wherever the loop's thread is kept later."""

    async def run(self, fn: Any, *args: Any) -> Any:
        """`fn(*args)` in a worker thread."""
        if self._executor is None:
            self._executor = ThreadPoolExecutor(
                4,
                thread_name_prefix="uvm-worker",
                initializer=os.sched_setaffinity,
                initargs=(0, self._cpus),
            )
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
        freeze_every: int = 0,
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
        if seed is not None and not isinstance(seed, int):
            raise UsageError(f"seed must be a whole number, not {seed!r}")
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
        if freeze_every and clock != "virtual":
            raise UsageError("freeze_every needs clock='virtual'")
        self.freeze_every = freeze_every
        self.freezes = 0
        self._thawing: asyncio.Task[None] | None = None
        self._observers = Observers(observers) if observers else None
        self.kernel: Kernel
        self._family: StubFamily | None = None
        self._physmem: Physmem | None = None
        self._workers = Workers()
        self._processes: dict[Process, GuestProcess] = {}
        self._streams: list[Streams] = []
        self._disks: list[Disk] = []
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
        check_limits()
        try:
            await self._start()
        except BaseException:
            await self._take_down()
            raise

    async def _start(self) -> None:
        self._physmem = Physmem.create(self.memory_bytes, self.max_tasks)
        self._prepare_memory()
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
        kernel.freeze_every = self.freeze_every
        await self._attach_hardware(FIRST_STUBS)
        if self._observers is not None:
            kernel.observer = self._observers
            self._observers.attach(kernel)
        kernel.roots["console"] = Console(kernel)
        make_init(kernel)
        for path in self.disks:
            writable = os.access(path, os.W_OK)
            self._disks.append(await Disk.open(kernel, path, read_only=not writable))
        await run_outside(self._mount_all())

    async def _attach_hardware(self, stubs: int) -> None:
        kernel = self.kernel
        assert self._physmem is not None
        kernel.workers = self._workers
        kernel.wake_mask = 1 << (lib.UVM_SIG_WAKE - 1) if self.transport == "signal" else 0
        kernel.on_exit = self._on_exit
        kernel.on_fatal = self._fail
        kernel.on_freeze = self._on_freeze
        sched = kernel.sched
        family = self._family = StubFamily(
            self._physmem,
            self._stub_options(),
            on_trap=sched.on_trap,
            on_ack=sched.on_ack,
            on_timer=sched.on_timer,
            on_death=self._guarded(kernel.stub_died),
            on_lost=self._on_lost,
            on_error=self._fail,
            done=sched.schedule,
        )
        kernel.attach_hardware(family, asyncio.get_running_loop())
        await family.start(stubs)

    def _prepare_memory(self) -> None:
        """Memory is laid out, and nothing has been allocated yet (for subclasses)."""

    def _stub_options(self) -> StubOptions:
        return StubOptions(
            transport=TRANSPORTS[self.transport],
            door=TRAPS[self.trap],
            trap_tsc=self.kernel.clock.virtual,
        )

    async def _mount_all(self) -> None:
        kernel = self.kernel
        deterministic = self.clock_name == "virtual"
        lower = await mount_hostfs(
            kernel, os.fsencode(self.root), sight=Sight.SNAPSHOT, deterministic=deterministic
        )
        await kernel.mounts.attach(await mount_overlay(kernel, lower))
        give_init_a_task(kernel)
        await register_ttys(kernel, self.console)
        await self._mount_at(await devfs(kernel), b"dev")
        for disk in self._disks:
            device = attach_disk(kernel, disk)
            await register_device(kernel, device.name, device.MODE, device.rdev, device, gid=6)
        await self._mount_at(proc_super_block(kernel), b"proc")
        for host, guest, writable in self.binds:
            sb = await mount_hostfs(
                kernel, os.fsencode(host), deterministic=deterministic, writable=writable
            )
            try:
                await self._mount_at(sb, os.fsencode(guest), 0 if writable else MS_RDONLY)
            except Errno as error:
                raise UsageError(f"cannot bind {host} to {guest}: {error}") from None

    async def _mount_at(self, sb: SuperBlock, path: bytes, flags: int = 0) -> None:
        """Mount on a directory, made if there is none; symlinks are not followed."""
        mounts = self.kernel.mounts
        place = mounts.root_path()
        for name in filter(None, path.split(b"/")):
            parent = place.dentry
            async with place.inode.lock:
                dentry = await lookup_child(parent, name)
                if dentry.inode is None:
                    made = await place.inode.mkdir(name, 0o40755, 0, 0)
                    dentry = d_add(parent, name, made)
            place = mounts.descend(Path(place.mount, dentry))
        await mounts.attach(sb, place, flags)

    async def close(self) -> None:
        """End every guest process, write back, and leave nothing behind. Idempotent."""
        if self._closed or not self._started:
            return
        if self._family is not None and self._failure is None:
            self.kernel.sched.stopped = True
            await run_outside(self._unmount_all())
        await self._take_down()

    async def _unmount_all(self) -> None:
        """Write everything back; file systems on disks are left clean."""
        for sb in reversed(self.kernel.mounts.super_blocks()):
            try:
                await sb.sync()
                if sb.fs_type in (b"ext2",):
                    await sb.umount()
            except Errno as error:
                log.error("could not write back", source=os.fsdecode(sb.source), error=str(error))

    async def _take_down(self) -> None:
        if self._closed:
            return
        self._closed = True
        family, self._family = self._family, None
        kernel: Kernel | None = getattr(self, "kernel", None)
        if kernel is not None:
            self._quiesce(kernel)
        thawing, self._thawing = self._thawing, None
        if thawing is not None and not thawing.done():
            await asyncio.wait([thawing])
            family, self._family = self._family or family, None
            kernel = self.kernel  # the one that was just thawed, perhaps
            self._quiesce(kernel)
        for streams in self._streams:
            streams.close()
        for process in list(self._processes.values()):
            process.machine_closed(self._failure)
        self._processes.clear()
        try:
            if family is not None:
                await family.close()
        finally:
            for disk in self._disks:
                with contextlib.suppress(OSError):
                    await disk.close()
            self._workers.close()
            if self._observers is not None:
                self._observers.close()
            if kernel is not None:
                for tree in kernel.host_trees:
                    tree.let_go()
            if self._physmem is not None:
                self._physmem.close()

    @staticmethod
    def _quiesce(kernel: Kernel) -> None:
        """Nothing is run any more, and no job of the host is waited for."""
        kernel.sched.stopped = True
        for task in kernel.tasks.values():
            if task.coroutine is not None:
                coroutine, task.coroutine = task.coroutine, None
                coroutine.close()
        for job in list(kernel.sched.jobs.values()):
            job.cancel()
        kernel.sched.jobs.clear()

    # -- freezing

    @property
    def trace_hash(self) -> str:
        """Hash over every trap so far (virtual clock): equal for runs that were the same."""
        return self.kernel.trace_hash().hex()

    @property
    def deterministic(self) -> bool:
        """False if something happened that a seed does not determine."""
        return self.clock_name == "virtual" and self.kernel.deterministic

    def _on_freeze(self) -> None:
        self._thawing = asyncio.get_running_loop().create_task(self._freeze_and_thaw())

    async def _freeze_and_thaw(self) -> None:
        """Replace the whole machine by its own snapshot: new memory, new stubs, new objects."""
        try:
            for streams in self._streams:
                await streams.suspend()
            if self._closed:
                return
            snapshot = freeze(self.kernel)
            family, self._family = self._family, None
            old = self._physmem
            assert family is not None and old is not None
            self._retire(self.kernel)
            await family.close()
            for disk in self._disks:
                await disk.close()
            old.close()
            self._physmem = Physmem(snapshot.memory_fd)
            graph = snapshot.graph
            self.freezes += 1
            if self.freezes % FRESH_INTERPRETER_EVERY == 0:
                graph = await _through_fresh_interpreter(graph)
            kernel = self.kernel = thaw_kernel(graph)
            kernel.attach(self._physmem, load_all())
            if self._observers is not None:
                kernel.observer = self._observers
                self._observers.attach(kernel)
            wanted = tasks_to_bind(kernel)
            await self._attach_hardware(wanted + 2)
            assert self._family is not None
            while len(self._family.pool) < wanted:
                await asyncio.sleep(0.0005)
            bind_tasks(kernel, self._family)
            self._disks = [d.disk for d in kernel.mounts.devices.block_devices()]
            for disk in self._disks:
                await disk.reopen()
            processes = {p.pid: p for p in kernel.processes.values()}
            guests, self._processes = self._processes, {}
            for process, guest in guests.items():
                guest.reattach(kernel, processes[process.pid])
                self._processes[processes[process.pid]] = guest
            for streams in self._streams:
                streams.reattach(kernel)
            if not self._closed:
                self._guarded(kernel.sched.thawed_run)()
        except Exception as error:
            self._fail(error)

    @staticmethod
    def _retire(kernel: Kernel) -> None:
        """Nothing of the old graph may act any more."""
        for tree in kernel.host_trees:
            tree.let_go()
        for task in kernel.tasks.values():
            if task.stub is not None:
                task.stub.task = None
                task.stub = None

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
        self._failure = error
        self.kernel.sched.stopped = True
        if isinstance(error, MachineError):
            failure = error
        else:
            log.error("the machine has failed", exc_info=error)
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
        umask: int = -1,
        limit: int = 65536,
    ) -> GuestProcess:
        """Start a program, as asyncio.create_subprocess_exec does on the host.

        Streams are PIPE, DEVNULL, STDOUT (stderr only), CONSOLE (the machine's) or None: the
        embedding process's own. Environment, working directory and umask (-1) are the embedding
        process's too unless they are given.
        Raises FileNotFoundError, PermissionError and other OSErrors as execve(2) gives them (of a
        working directory that cannot be entered, with its name), ValueError for a NUL anywhere
        and for a variable whose name is empty or holds `=`.
        """
        self._check_alive()
        environment = dict(os.environ if env is None else env)
        argv = [_text(argument) for argument in (program, *args)]
        envp = _environment_block(environment)
        directory = _text(cwd) if cwd is not None else _working_directory()
        streams = Streams(self.kernel, self._workers, stdin, stdout, stderr, limit)
        self._streams.append(streams)
        culprit = argv[0]
        loop = asyncio.get_running_loop()
        failed: asyncio.Future[Errno] = loop.create_future()

        def refused(error: Errno) -> None:
            if not failed.done():
                failed.set_result(error)

        async def prepare(task: Task) -> None:
            nonlocal culprit
            for fd in streams.on_console:
                file = await self.console.open_for(task.process)
                task.files.install(file, NOFILE, start=fd)
            try:
                await task.fs.set_cwd(await lookup(task, -100, directory, directory=True))
            except Errno:
                culprit = directory
                raise

        program_ = Program(
            path=_candidates(argv[0], environment),
            argv=argv,
            envp=envp,
            files=streams.files,
            cred=Cred(),
            prepare=prepare,
            umask=_own_umask() if umask < 0 else umask & 0o777,
        )
        process, task = await run_outside(spawn(self.kernel, program_, refused))
        guest = GuestProcess(self.kernel, process, streams)
        self._processes[process] = guest
        if process.zombie:
            self._on_exit(process, process.exit_code or 0)
        await guest.started(task, failed)
        if failed.done():
            error = failed.result()
            streams.close()
            raise OSError(error.errno, os.strerror(error.errno), os.fsdecode(culprit))
        return guest

    async def run(
        self,
        args: Sequence[str | bytes],
        *,
        input: bytes | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        umask: int = -1,
        timeout: float | None = None,
    ) -> CompletedProcess:
        """Run a program to its end; answers returncode, stdout and stderr.

        On timeout (seconds) the program is killed and TimeoutError raised. Raises what
        create_subprocess_exec does, and TypeError for a command line in one string.
        """
        if isinstance(args, (str, bytes)):
            raise TypeError(f'args must be a list: ["sh", "-c", {args!r}] has a shell read it')
        if not args:
            raise ValueError("args is empty: its first item is the program")
        process = await self.create_subprocess_exec(
            *args, stdin=PIPE if input is not None else DEVNULL, stdout=PIPE, stderr=PIPE,
            env=env, cwd=cwd, umask=umask,
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


def _text(value: str | bytes | os.PathLike[str]) -> bytes:
    """As the guest gets it. Raises ValueError."""
    data = os.fsencode(value)
    if b"\0" in data:
        raise ValueError("embedded null byte")
    return data


def _environment_block(environment: Mapping[str, str]) -> list[bytes]:
    """Raises ValueError."""
    block = []
    for name, value in environment.items():
        encoded = _text(name)
        if not encoded or b"=" in encoded:
            raise ValueError(f"illegal environment variable name: {name!r}")
        block.append(encoded + b"=" + _text(value))
    return block


def _working_directory() -> bytes:
    """This process's; / where that has been deleted."""
    try:
        return os.getcwdb()
    except FileNotFoundError:
        return b"/"


def _own_umask() -> int:
    """This process's, read without changing it: other threads may be making files."""
    with open("/proc/self/status", "rb") as file:
        for line in file:
            if line.startswith(b"Umask:"):
                return int(line.split()[1], 8)
    return 0o022


def _candidates(name: bytes, environment: Mapping[str, str]) -> list[bytes]:
    """Where execvp(3) would look."""
    if b"/" in name or not name:
        return [name]
    path = os.fsencode(environment.get("PATH", DEFAULT_PATH))
    return [(directory or b".") + b"/" + name for directory in path.split(b":")]


_RELOAD: Final = """
import sys
from uvm_async.state import dump_graph, load_graph
sys.stdout.buffer.write(dump_graph(load_graph(sys.stdin.buffer.read())))
"""


async def _through_fresh_interpreter(graph: bytes) -> bytes:
    """The same graph, loaded and dumped by an interpreter that has seen nothing of ours."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-c", _RELOAD, stdin=PIPE, stdout=PIPE
    )
    out, _ = await process.communicate(graph)
    if process.returncode:
        raise MachineError("a fresh interpreter could not load the machine's state")
    return out


def _auxv(key: int) -> int:
    """The host's getauxval(3)."""
    getauxval = ctypes.CDLL(None).getauxval
    getauxval.restype = ctypes.c_ulong
    return int(getauxval(ctypes.c_ulong(key)))
