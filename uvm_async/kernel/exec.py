"""execve: a new program in an old task.

Linux: fs/exec.c, fs/binfmt_elf.c, fs/binfmt_script.c, execve(2), getauxval(3).

The new address space is built beside the old one and takes its place at the end.
What Linux finds out before its point of no return goes to the caller; what it finds
out after it, a file that cannot be mapped as its headers say, kills (SIGSEGV).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from uvm_async._host import lib
from uvm_async.arch.physmem import TASK_SIZE
from uvm_async.arch.regs import blank_frame, set_pgd, set_prefill
from uvm_async.errors import Errno
from uvm_async.fs.file import deny_write_access
from uvm_async.fs.lifetime import fput
from uvm_async.fs.namei import open_path
from uvm_async.kernel.exit import group_exit, vfork_done
from uvm_async.kernel.futex import exit_robust_list, futex_wake_cleared
from uvm_async.kernel.signal import SIGSEGV
from uvm_async.mm.iov import KernelIter
from uvm_async.mm.mm import STACK_TOP, Mm, page_align
from uvm_async.mm.mmap import do_mmap
from uvm_async.mm.vma import MAP_FIXED, MAP_GROWSDOWN, MAP_PRIVATE, Vma
from uvm_async.sched.wait import wait_for

if TYPE_CHECKING:
    from uvm_async.fs.inode import File
    from uvm_async.kernel.task import Task

__all__ = ["do_execve"]

AT_FDCWD: Final = -100
BINPRM_BUF_BYTES: Final = 256
MAX_INTERPRETERS: Final = 5
MAX_ARG_STRLEN: Final = 131072
ELF_HEADER: Final = struct.Struct("<16sHHIQQQIHHHHHH")
PROGRAM_HEADER: Final = struct.Struct("<IIQQQQQQ")
PT_LOAD, PT_INTERP = 1, 3
ET_EXEC, ET_DYN = 2, 3
EM_X86_64: Final = 62
PIE_BASE: Final = 0x555555554000
RLIMIT_CORE: Final = 4
CORE_DUMPED: Final = 0x80
PLATFORM: Final = b"x86_64"

(AT_NULL, _, _, AT_PHDR, AT_PHENT, AT_PHNUM, AT_PAGESZ, AT_BASE, AT_FLAGS, AT_ENTRY) = range(10)
AT_UID, AT_EUID, AT_GID, AT_EGID = 11, 12, 13, 14
AT_PLATFORM, AT_HWCAP, AT_CLKTCK, AT_SECURE = 15, 16, 17, 23
AT_RANDOM, AT_HWCAP2, AT_EXECFN, AT_MINSIGSTKSZ = 25, 26, 31, 51


@dataclass(slots=True)
class Segment:
    """One program header."""

    type: int
    flags: int
    offset: int
    vaddr: int
    filesz: int
    memsz: int
    align: int


@dataclass(slots=True)
class Image:
    """An ELF file, read but not mapped."""

    type: int
    entry: int
    phoff: int
    phnum: int
    segments: list[Segment]
    interpreter: bytes | None


@dataclass(slots=True)
class Loaded:
    """Where an image was mapped."""

    bias: int
    entry: int
    phdr: int
    start: int
    end: int
    brk: int


async def read_file(task: Task, file: File, offset: int, length: int) -> bytes:
    """Up to `length` bytes of a file."""
    it = KernelIter(room=length)
    while it.count:
        if not await file.read_iter(task, it, offset + len(it.data)):
            break
    return bytes(it.data)


async def read_image(task: Task, file: File, head: bytes, *, interpreter: bool = False) -> Image:
    """Parse an ELF file. Raises ENOEXEC; of an interpreter EIO (too short) or ELIBBAD."""
    bad = Errno.ELIBBAD if interpreter else Errno.ENOEXEC
    if len(head) < ELF_HEADER.size:
        raise Errno.EIO if interpreter else bad
    if head[:4] != b"\x7fELF":
        raise bad
    (_, kind, machine, _, entry, phoff, _, _, _, phentsize, phnum, _, _, _) = (
        ELF_HEADER.unpack_from(head)
    )
    if machine != EM_X86_64 or kind not in (ET_EXEC, ET_DYN):
        raise bad
    if phentsize != PROGRAM_HEADER.size or not 1 <= phnum <= 65536 // PROGRAM_HEADER.size:
        raise bad
    size = phnum * PROGRAM_HEADER.size
    table = head[phoff : phoff + size]
    if len(table) < size:
        table = await read_file(task, file, phoff, size)
    if len(table) < size:
        raise Errno.EIO if interpreter else bad
    segments = []
    for i in range(phnum):
        fields = PROGRAM_HEADER.unpack_from(table, i * PROGRAM_HEADER.size)
        kind_, flags, offset, vaddr, _, filesz, memsz, align = fields
        segments.append(Segment(kind_, flags, offset, vaddr, filesz, memsz, align))
    path: bytes | None = None
    for segment in segments:
        if segment.type == PT_INTERP and path is None and not interpreter:
            if not 2 <= segment.filesz <= 4096:
                raise Errno.ENOEXEC
            raw = await read_file(task, file, segment.offset, segment.filesz)
            if len(raw) < segment.filesz:
                raise Errno.EIO
            if raw[-1] != 0:
                raise Errno.ENOEXEC
            path = raw.split(b"\0")[0]
    return Image(kind, entry, phoff, phnum, segments, path)


async def map_image(task: Task, mm: Mm, file: File, image: Image, base: int) -> Loaded:
    """Map an image's segments. Raises ENOMEM, EINVAL, ENOEXEC."""
    mapping = file.mapping
    if mapping is None:
        raise Errno.ENODEV
    loads = [s for s in image.segments if s.type == PT_LOAD]
    if not loads:
        raise Errno.ENOEXEC
    low = min(s.vaddr for s in loads) & ~4095
    high = page_align(max(s.vaddr + s.memsz for s in loads))
    if image.type == ET_DYN:
        align = max(
            [s.align for s in loads if s.align and not s.align & (s.align - 1)], default=4096
        )
        if base:
            bias = (base & -max(align, 4096)) - low
        else:
            bias = (mm.unmapped_area(high - low + align) + align - 1 & -max(align, 4096)) - low
    else:
        bias = 0
    if high + bias > TASK_SIZE or low + bias < lib.UVM_MMAP_MIN_ADDR:
        raise Errno.ENOMEM
    brk = phdr = 0
    for s in loads:
        if s.filesz > s.memsz:
            raise Errno.EINVAL
        prot = (1 if s.flags & 4 else 0) | (2 if s.flags & 2 else 0) | (4 if s.flags & 1 else 0)
        start = s.vaddr + bias
        skew = start & 4095
        if s.filesz and s.offset & 4095 != skew:
            raise Errno.EINVAL
        file_end = page_align(start + s.filesz)
        memory_end = page_align(start + s.memsz)
        if s.filesz:
            file.refs += 1
            await do_mmap(
                mm, start - skew, s.filesz + skew, prot, MAP_PRIVATE | MAP_FIXED,
                file=file, mapping=mapping, pgoff=(s.offset - skew) >> 12,
            )  # fmt: skip
        bss = start - skew if not s.filesz else file_end
        if memory_end > bss:
            await do_mmap(mm, bss, memory_end - bss, prot, MAP_PRIVATE | MAP_FIXED)
        if s.memsz > s.filesz and prot & 2 and s.filesz:
            tail = start + s.filesz
            await mm.clear_user(tail, page_align(tail) - tail)
        brk = max(brk, start + s.memsz)
        if s.offset <= image.phoff < s.offset + s.filesz:
            phdr = image.phoff - s.offset + start
    return Loaded(bias, image.entry + bias, phdr, low + bias, high + bias, brk)


def parse_shebang(head: bytes) -> tuple[bytes, list[bytes]]:
    """The interpreter and its optional argument from a `#!` line. Raises ENOEXEC."""
    line, newline, _ = head[2 : BINPRM_BUF_BYTES - 1].partition(b"\n")
    if not newline and len(head) >= BINPRM_BUF_BYTES and not line.strip(b" \t").count(b" "):
        raise Errno.ENOEXEC
    words = line.split(b"\0")[0].strip(b" \t").replace(b"\t", b" ").split(b" ", 1)
    if not words[0]:
        # An empty name: of a line it is no format, of a file that ends there it is "".
        raise Errno.ENOEXEC if newline else Errno.EACCES
    return words[0], [words[1].strip(b" \t")] if len(words) > 1 else []


async def do_execve(
    task: Task,
    path: bytes,
    argv: list[bytes],
    envp: list[bytes],
    *,
    dirfd: int = AT_FDCWD,
    flags: int = 0,
) -> None:
    """Replace the program of `task`. `dirfd` and `flags` (O_NOFOLLOW) are execveat(2)'s; an empty
    path is `dirfd` itself. Raises what execve(2) lists; if the process exits (SIGSEGV) when this
    has raised, there was no going back."""
    by_fd = dirfd != AT_FDCWD and not path.startswith(b"/")
    name = path
    if by_fd:  # what a script's interpreter is told to open
        name = b"/dev/fd/%d" % dirfd + (b"/" + path if path else b"")
        path = path or name
    argv = list(argv) or [b""]
    for depth in range(MAX_INTERPRETERS + 1):
        file = await open_path(
            task, dirfd if depth == 0 else AT_FDCWD, path, flags if depth == 0 else 0, for_exec=True
        )
        try:
            head = await read_file(task, file, 0, BINPRM_BUF_BYTES)
            if head[:2] == b"#!":
                if depth == MAX_INTERPRETERS:
                    raise Errno.ELOOP
                interpreter, extra = parse_shebang(head)
                if by_fd and depth == 0 and task.files.is_cloexec(dirfd):
                    raise Errno.ENOENT  # gone by the time the interpreter looks
                argv = [interpreter, *extra, path if depth else name, *argv[1:]]
                path = interpreter
                await fput(file)
                file = None  # type: ignore[assignment]
                continue
            image = await read_image(task, file, head)
            await _exec_elf(task, file, image, path, name, argv, envp)
            return
        finally:
            if file is not None:
                await fput(file)


async def _exec_elf(
    task: Task, file: File, image: Image, path: bytes, name: bytes,
    argv: list[bytes], envp: list[bytes],
) -> None:  # fmt: skip
    kernel = task.kernel
    loader: File | None = None
    mm = Mm(kernel.frames, kernel.tlb)
    try:
        if image.interpreter is not None:
            loader = await open_path(task, AT_FDCWD, image.interpreter, 0, for_exec=True)
            loader_head = await read_file(task, loader, 0, BINPRM_BUF_BYTES)
            loader_image = await read_image(task, loader, loader_head, interpreter=True)
        _set_limits(task, mm)
        _check_size(mm, argv, envp)
        sp = await _build_stack_area(mm)
        try:
            loaded = await map_image(task, mm, file, image, PIE_BASE if image.type == ET_DYN else 0)
            entry, base = loaded.entry, 0
            if loader is not None:
                where = await map_image(task, mm, loader, loader_image, 0)
                entry, base = where.entry, where.bias
        except Errno:
            dumped = CORE_DUMPED if task.process.rlimits.get(RLIMIT_CORE, (0, 0))[0] else 0
            group_exit(task, SIGSEGV | dumped)
            raise
        mm.start_brk = mm.brk = page_align(loaded.brk)
        mm.start_code, mm.end_code = loaded.start, loaded.end
        deny_write_access(file.inode)
        mm.exe_file = file
        file.refs += 1
        sp = await _build_stack(task, mm, sp, image, loaded, base, name, argv, envp)
    except BaseException:
        await mm.destroy()
        raise
    finally:
        if loader is not None:
            await fput(loader)
    await _replace(task, mm, path, entry, sp)


def _set_limits(task: Task, mm: Mm) -> None:
    limits = task.process.rlimits
    mm.stack_limit_bytes = min(limits.get(3, (8 << 20, 0))[0], 1 << 35)
    mm.as_limit_bytes = limits.get(9, ((1 << 64) - 1, 0))[0]
    mm.data_limit_bytes = limits.get(2, ((1 << 64) - 1, 0))[0]


def _check_size(mm: Mm, argv: list[bytes], envp: list[bytes]) -> None:
    """Raises E2BIG."""
    total = sum(len(s) + 1 for s in argv) + sum(len(s) + 1 for s in envp)
    limit = max(min(mm.stack_limit_bytes // 4, 6 << 20), 128 << 10)
    if total + 8 * (len(argv) + len(envp)) > limit:
        raise Errno.E2BIG
    if any(len(s) + 1 > MAX_ARG_STRLEN for s in (*argv, *envp)):
        raise Errno.E2BIG


async def _build_stack_area(mm: Mm) -> int:
    size = 132 << 10
    mm.start_stack = STACK_TOP
    mm.insert(Vma(mm, STACK_TOP - size, STACK_TOP, 3, MAP_PRIVATE | MAP_GROWSDOWN, name=b"[stack]"))
    return STACK_TOP - 8


async def _build_stack(
    task: Task, mm: Mm, sp: int, image: Image, loaded: Loaded, base: int,
    name: bytes, argv: list[bytes], envp: list[bytes],
) -> int:  # fmt: skip
    """Strings, vectors and auxiliary vector, as the ABI's process entry wants them."""
    strings = b"".join(s + b"\0" for s in (*argv, *envp)) + name + b"\0"
    strings_at = sp - len(strings)
    random_at = (strings_at - 16) & ~15
    platform_at = random_at - 16
    await mm.copy_to_user(strings_at, strings)
    await mm.copy_to_user(random_at, task.kernel.entropy.bytes(16))
    await mm.copy_to_user(platform_at, PLATFORM + b"\0")
    pointers: list[int] = []
    at = strings_at
    for s in (*argv, *envp):
        pointers.append(at)
        at += len(s) + 1
    mm.arg_start = strings_at
    mm.arg_end = mm.env_start = strings_at + sum(len(s) + 1 for s in argv)
    mm.env_end = at
    cred = task.cred
    auxv = [
        (AT_HWCAP, task.kernel.hwcap), (AT_PAGESZ, 4096), (AT_CLKTCK, 100), (AT_PHDR, loaded.phdr),
        (AT_PHENT, PROGRAM_HEADER.size), (AT_PHNUM, image.phnum), (AT_BASE, base), (AT_FLAGS, 0),
        (AT_ENTRY, loaded.entry), (AT_UID, cred.uid), (AT_EUID, cred.euid), (AT_GID, cred.gid),
        (AT_EGID, cred.egid), (AT_SECURE, 0), (AT_RANDOM, random_at),
        (AT_HWCAP2, task.kernel.hwcap2),
        (AT_MINSIGSTKSZ, task.kernel.min_signal_stack), (AT_EXECFN, at), (AT_PLATFORM, platform_at),
        (AT_NULL, 0),
    ]  # fmt: skip
    mm.auxv = b"".join(struct.pack("<QQ", *pair) for pair in auxv)
    words = [len(argv), *pointers[: len(argv)], 0, *pointers[len(argv) :], 0]
    vector = struct.pack(f"<{len(words)}Q", *words) + mm.auxv
    sp = (platform_at - len(vector)) & ~15
    await mm.copy_to_user(sp, vector)
    return sp


async def _replace(task: Task, mm: Mm, path: bytes, entry: int, sp: int) -> None:
    """The point of no return."""
    kernel = task.kernel
    process = task.process
    for other in process.tasks:
        if other is not task:
            other.exiting = True
            other.notify_resume = True
            kernel.sched.signal_wake(other)
    while len(process.tasks) > 1:
        await wait_for(process.wait_exit)
    _become_leader(task)
    await exit_robust_list(task)
    old = task.mm
    if task.clear_child_tid and len(old.tasks) > 1:
        await futex_wake_cleared(task)
    stub = task.stub
    assert stub is not None
    task.mm = mm
    mm.tasks.append(task)
    mm.users += 1
    lib.uvm_stub_shootdown_all(stub.mailbox)
    set_pgd(kernel.physmem, stub, mm.pgd)
    await old.put(task)
    vfork_done(process)
    if task.sighand.users > 1:
        task.sighand.users -= 1
        task.sighand = task.sighand.copy()
    task.sighand.flush_for_exec()
    task.altstack = (0, 0, 2)
    task.clear_child_tid = 0
    task.robust_list = 0
    task.pdeath_signal = 0
    for timer in process.posix_timers.values():
        timer.cancel()
    process.posix_timers.clear()
    process.did_exec = True
    if task.files.users > 1:
        shared, task.files = task.files, task.files.copy()
        await shared.put(task)
    await task.files.close_on_exec(task)
    task.comm = path.rsplit(b"/", 1)[-1][:15]
    blank_frame(kernel.physmem, stub, entry, sp, kernel.wake_mask)
    set_prefill(kernel.physmem, stub, [(sp & ~4095) | lib.UVM_PF_WRITE])


def _become_leader(task: Task) -> None:
    """exec by a thread other than the leader: it takes over the group's pid."""
    process = task.process
    kernel = task.kernel
    old = process.leader
    if old is task:
        return
    kernel.tasks.pop(task.pid, None)
    task.pid = process.pid
    kernel.tasks[process.pid] = task
    process.leader = task
