"""/proc: what programs ask of it, in the forms that the host's has."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fs.driver import FakeMm
from fs.hostrig import Rig
from uvm_async.errors import Errno
from uvm_async.fs import dirops
from uvm_async.fs.devfs import devfs
from uvm_async.fs.fdtable import fd_install
from uvm_async.fs.mount import MS_NOSUID
from uvm_async.fs.namei import AT_FDCWD, lookup
from uvm_async.fs.pipe import create_pipe
from uvm_async.fs.procfs import proc_super_block
from uvm_async.kernel.cred import Cred
from uvm_async.kernel.signal import PendingSignals, SigAction, SigHand
from uvm_async.kernel.task import Process, Task, TaskState
from uvm_async.mm.vma import Vma
from uvm_async.state import Entity, dump_graph, load_graph


class Entropy(Entity):
    def __init__(self) -> None:
        self.count = 0

    def bytes(self, count: int) -> bytes:
        self.count += 1
        return bytes([self.count]) * count


class Memory(FakeMm):
    """What procfs asks of an mm."""

    def __init__(self, args: bytes, env: bytes) -> None:
        super().__init__()
        self.users = 1
        self.arg_start = self.alloc(args)
        self.arg_end = self.arg_start + len(args)
        self.env_start = self.alloc(env)
        self.env_end = self.env_start + len(env)
        self.start_code, self.end_code = 0x400000, 0x401000
        self.start_data = self.end_data = self.start_brk = self.brk = 0x500000
        self.start_stack = 0x7FFFF000
        self.auxv = bytes(16)
        self.exe_file: Any = None
        self.vmas: list[Vma] = []
        self.total_vm_pages = 10

    def rss_pages(self) -> int:
        return 5


def new_process(rig: Rig, pid: int, parent: Process | None, comm: bytes = b"prog") -> Any:
    """A process with one thread, as fork leaves it."""
    process = Process(pid, parent)
    process.pending = PendingSignals()
    process.rlimits = {7: (1024, 4096), 3: (8 << 20, (1 << 64) - 1)}
    task: Any = Task(rig.kernel, pid, process)
    give(rig, task, comm)
    process.leader = task
    if parent is not None:
        parent.children.append(process)
    rig.kernel.processes[pid] = process
    return task


def give(rig: Rig, task: Any, comm: bytes) -> None:
    like = rig.sim.task()
    task.comm, task.state = comm, TaskState.BLOCKED
    task.mm = Memory(comm + b"\0-x\0", b"A=1\0B=2\0")
    task.fs, task.files = like.fs, like.files
    task.cred, task.sighand, task.pending = Cred(), SigHand(), PendingSignals()
    task.process.tasks.append(task)
    rig.kernel.tasks[task.pid] = task
    for name in ("signal_pending", "standing", "deadline_ns", "woken"):
        setattr(task, name, getattr(like, name))


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig(8 << 20)
    kernel = rig.kernel
    kernel.entropy = Entropy()
    kernel.tasks, kernel.processes = {}, {}
    kernel.nr_cpus, kernel.forks, kernel.last_pid = 2, 3, 7
    kernel.boot_realtime_ns = 1_700_000_000_000_000_000
    kernel.hostname, kernel.domainname = b"uvm", b"(none)"
    rig.mkdir(b"/proc")
    rig.mkdir(b"/dev")

    async def mount() -> None:
        await kernel.mounts.attach(
            proc_super_block(kernel),
            await lookup(rig.task, AT_FDCWD, b"/proc"),
            MS_NOSUID,  # type: ignore[arg-type]
        )
        await kernel.mounts.attach(
            await devfs(kernel),
            await lookup(rig.task, AT_FDCWD, b"/dev"),  # type: ignore[arg-type]
        )

    rig.run(mount)
    init = new_process(rig, 1, None, b"init")
    rig.task = init
    rig.task = new_process(rig, 42, init.process, b"sh")
    yield rig
    rig.close()


def everything(rig: Rig, path: bytes) -> Iterator[tuple[bytes, Any]]:
    for name, _, _ in rig.entries(path):
        child = path + b"/" + name
        inode = rig.inode(child)
        yield child, inode
        if inode.is_dir:
            yield from everything(rig, child)


def test_everything_listed_can_be_looked_up_and_read(rig: Rig) -> None:
    count = 0
    for path, inode in everything(rig, b"/proc"):
        count += 1
        if inode.is_symlink:
            try:
                rig.run(lambda inode=inode: inode.get_link(rig.task))  # type: ignore[misc]
            except Errno.ENOENT:
                assert path.endswith(b"/exe")
        elif inode.is_reg and inode.mode & 0o400 and not path.endswith((b"smaps", b"rollup")):
            rig.read(path)
    assert count > 200


def test_numbers_in_listings_are_those_that_stat_gives(rig: Rig) -> None:
    numbers: dict[int, bytes] = {}
    for directory in (b"/proc", b"/proc/42", b"/proc/42/task", b"/proc/sys/kernel"):
        for name, number, kind in rig.entries(directory, at_once=7):
            path = directory + b"/" + name
            inode = rig.inode(path)
            assert (inode.ino, inode.mode >> 12) == (number, kind), path
            assert numbers.setdefault(number, path) == path


ASKED_FOR = """
self/stat self/statm self/status self/cmdline self/comm self/environ self/cwd self/root self/fd
self/fdinfo self/maps self/smaps self/limits self/mounts self/mountinfo self/io
self/oom_score_adj self/task self/cgroup self/loginuid self/auxv self/wchan thread-self cpuinfo
meminfo stat uptime loadavg version filesystems mounts cmdline partitions devices diskstats
swaps sys/kernel/ostype sys/kernel/osrelease sys/kernel/hostname sys/kernel/pid_max
sys/kernel/random/uuid sys/kernel/random/boot_id sys/vm/overcommit_memory sys/vm/max_map_count
sys/vm/mmap_min_addr sys/fs/file-max
"""


def test_names_of_the_hosts_proc_that_programs_ask_for(rig: Rig) -> None:
    for name in ASKED_FOR.split():
        ours, hosts = rig.inode(b"/proc/" + name.encode()), os.lstat("/proc/" + name)
        assert stat.S_IFMT(ours.mode) == stat.S_IFMT(hosts.st_mode), name


def test_self_is_whoever_looks(rig: Rig) -> None:
    assert rig.read(b"/proc/self/comm") == b"sh\n"
    assert rig.run(lambda: rig.inode(b"/proc/self").get_link(rig.task)) == b"42"
    assert rig.run(lambda: rig.inode(b"/proc/thread-self").get_link(rig.task)) == b"42/task/42"
    rig.task = rig.kernel.tasks[1]
    assert rig.read(b"/proc/self/comm") == b"init\n"


def fields(text: bytes) -> list[bytes]:
    return text[text.rindex(b")") + 2 :].split()


def test_stat_has_the_hosts_fields(rig: Rig) -> None:
    ours = rig.read(b"/proc/self/stat")
    assert len(fields(ours)) == len(fields(Path("/proc/self/stat").read_bytes()))
    assert ours.startswith(b"42 (sh) S 1 1 1 ")
    rig.task.comm = b"we ) ird"
    assert rig.read(b"/proc/42/stat").startswith(b"42 (we ) ird) S 1 ")


def labels(text: bytes) -> list[bytes]:
    return [line.split(b":")[0] for line in text.splitlines() if b":" in line]


@pytest.mark.parametrize("name", ["self/status", "meminfo", "self/io", "self/fdinfo/0"])
def test_labelled_lines_are_a_subset_of_the_hosts_in_its_order(rig: Rig, name: str) -> None:
    fd_install(rig.task, rig.open(b"/dev/null"))  # type: ignore[arg-type]
    ours = labels(rig.read(b"/proc/" + name.encode()))
    hosts = labels(Path("/proc/" + name).read_bytes())
    assert [label for label in hosts if label in ours] == ours
    assert len(ours) >= 3


def test_status_and_stat_agree_about_the_task(rig: Rig) -> None:
    rig.task.sighand.actions = {2: SigAction(1), 15: SigAction(0x1234)}  # type: ignore[attr-defined]
    rig.task.blocked = 1 << 9
    status = rig.read(b"/proc/42/status")
    assert b"SigIgn:\t0000000000000002\n" in status
    assert b"SigCgt:\t0000000000004000\n" in status
    assert b"SigBlk:\t0000000000000200\n" in status
    assert b"State:\tS (sleeping)\n" in status
    assert re.search(rb"VmRSS:\t +20 kB\n", status)


def test_limits_are_written_as_the_host_writes_them(rig: Rig) -> None:
    ours = rig.read(b"/proc/self/limits").splitlines()
    hosts = Path("/proc/self/limits").read_bytes().splitlines()
    assert ours[0] == hosts[0]
    assert [line[:26] for line in ours] == [line[:26] for line in hosts]
    assert [line[67:] for line in ours] == [line[67:] for line in hosts]
    assert (
        ours[8] == b"Max open files            1024                 4096                 files     "
    )


def test_arguments_and_environment_are_read_from_the_tasks_memory(rig: Rig) -> None:
    assert rig.read(b"/proc/1/cmdline") == b"init\0-x\0"
    assert rig.read(b"/proc/1/environ") == b"A=1\0B=2\0"
    mm: Any = rig.kernel.tasks[1].mm
    mm.memory[mm.arg_end - mm.BASE - 1] = ord("!")
    assert rig.read(b"/proc/1/cmdline") == b"init"
    mm.memory[mm.arg_start - mm.BASE : mm.arg_end - mm.BASE] = b"newname!"
    assert rig.read(b"/proc/1/cmdline") == b"newname!"
    mm.env_start = mm.arg_end
    mm.env_end = mm.env_start + 4
    mm.memory[mm.env_start - mm.BASE : mm.env_end - mm.BASE] = b"more"
    assert rig.read(b"/proc/1/cmdline") == b"newname!more"


def test_maps_have_the_hosts_columns(rig: Rig) -> None:
    file = rig.open(b"/dev/null")
    mm: Any = rig.task.mm
    mm.vmas = [
        Vma(mm, 0x400000, 0x401000, 5, 2, file=file, pgoff=3),
        Vma(mm, 0x500000, 0x521000, 3, 2, name=b"[heap]"),
        Vma(mm, 0x7FFFF7FF0000, 0x7FFFF7FF1000, 1, 1),
    ]
    lines = rig.read(b"/proc/self/maps").splitlines()
    shape = re.compile(rb"^[0-9a-f]{8,}-[0-9a-f]{8,} [r-][w-][x-][ps] [0-9a-f]{8} \S+ \d+ ")
    for line in lines + Path("/proc/self/maps").read_bytes().splitlines():
        assert shape.match(line)
        assert len(line) < 73 or line[72:73] == b" "
    assert lines[0].startswith(b"00400000-00401000 r-xp 00003000 00:")
    assert lines[0].endswith(b" /dev/null")
    assert lines[0].index(b"/dev/null") == 73
    assert lines[1].endswith(b"[heap]")
    assert lines[2].endswith(b" 0 ")


def test_descriptors_lead_to_the_very_files(rig: Rig) -> None:
    rig.write(b"/file", b"contents")
    task: Any = rig.task
    fd = fd_install(task, rig.open(b"/file", os.O_RDWR))
    read_end, write_end = rig.run(lambda: _pipe(task))
    first = fd_install(task, read_end)
    second = fd_install(task, write_end)
    assert rig.names(b"/proc/self/fd") == [b"0", b"1", b"2"]
    assert rig.readlink_text(b"/proc/self/fd/%d" % fd) == b"/file"
    assert re.match(rb"pipe:\[\d+\]$", rig.readlink_text(b"/proc/self/fd/%d" % first))
    assert rig.inode(b"/proc/self/fd/%d" % fd).mode == stat.S_IFLNK | 0o700
    assert rig.inode(b"/proc/self/fd/%d" % first).mode == stat.S_IFLNK | 0o500
    assert rig.inode(b"/proc/self/fd/%d" % second).mode == stat.S_IFLNK | 0o300
    rig.unlink(b"/file")
    assert rig.readlink_text(b"/proc/self/fd/%d" % fd) == b"/file (deleted)"
    assert rig.read(b"/proc/self/fd/%d" % fd) == b"contents"
    again = rig.open(b"/proc/self/fd/%d" % second, os.O_WRONLY)
    rig.write_at(again, b"through proc")
    assert rig.read_at(read_end, 100) == b"through proc"
    with pytest.raises(Errno.ENOENT):
        rig.inode(b"/proc/self/fd/99")
    info = rig.read(b"/proc/self/fdinfo/%d" % fd)
    assert info.startswith(b"pos:\t0\nflags:\t0100002\n")


async def _pipe(task: Any) -> Any:
    return create_pipe(task, 0)


def test_working_directory_and_root_are_places(rig: Rig) -> None:
    rig.mkdir(b"/there")
    rig.write(b"/there/file", b"x")
    task: Any = rig.kernel.tasks[1]
    rig.run(lambda: _chdir(rig, task, b"/there"))
    assert rig.readlink_text(b"/proc/1/cwd") == b"/there"
    assert rig.read(b"/proc/1/cwd/file") == b"x"
    assert rig.readlink_text(b"/proc/1/root") == b"/"


async def _chdir(rig: Rig, task: Any, path: bytes) -> None:
    await task.fs.set_cwd(await lookup(task, AT_FDCWD, path))


def test_directory_of_a_task_keeps_its_name_while_it_lives(rig: Rig) -> None:
    before = rig.inode(b"/proc/42/fd")
    rig.names(b"/proc")
    assert rig.inode(b"/proc/42/fd") is before


def test_process_that_is_gone_has_no_directory(rig: Rig) -> None:
    task = new_process(rig, 50, rig.kernel.processes[1])
    file = rig.open(b"/proc/50/stat")
    assert b"50" in rig.names(b"/proc")
    task.process.zombie = True
    task.process.tasks.clear()
    task.mm.users = 0
    assert rig.read(b"/proc/50/stat").startswith(b"50 (prog) Z ")
    assert rig.read(b"/proc/50/cmdline") == b""
    assert rig.names(b"/proc/50/fd") == []
    with pytest.raises(Errno.ENOENT):
        rig.readlink_text(b"/proc/50/cwd")
    del rig.kernel.processes[50], rig.kernel.tasks[50]
    with pytest.raises(Errno.ENOENT):
        rig.inode(b"/proc/50")
    with pytest.raises(Errno.ESRCH):
        rig.read_at(file, 100)
    assert b"50" not in rig.names(b"/proc")


def test_pid_that_is_used_again_is_another_directory(rig: Rig) -> None:
    new_process(rig, 50, rig.kernel.processes[1], b"first")
    old = rig.inode(b"/proc/50/comm")
    del rig.kernel.processes[50], rig.kernel.tasks[50]
    new_process(rig, 50, rig.kernel.processes[1], b"second")
    assert rig.inode(b"/proc/50/comm") is not old
    assert rig.read(b"/proc/50/comm") == b"second\n"


def test_directories_of_processes_long_gone_are_swept(rig: Rig) -> None:
    root = proc_super_block(rig.kernel).root
    for pid in range(100, 1100):
        new_process(rig, pid, None)
        rig.inode(b"/proc/%d/stat" % pid)
        del rig.kernel.processes[pid], rig.kernel.tasks[pid]
    assert len(root.children) < 400
    assert len(rig.kernel.mounts.root_dentry(root.sb).children) < 400


def test_threads_are_listed_under_task_only(rig: Rig) -> None:
    task: Any = Task(rig.kernel, 43, rig.task.process)  # type: ignore[arg-type]
    give(rig, task, b"worker")
    assert rig.names(b"/proc/42/task") == [b"42", b"43"]
    assert b"43" not in rig.names(b"/proc")
    assert rig.read(b"/proc/43/comm") == b"worker\n"
    assert rig.read(b"/proc/42/task/43/comm") == b"worker\n"
    assert rig.read(b"/proc/42/task/43/stat").startswith(b"43 (worker) S 1 ")
    assert b"Threads:\t2\n" in rig.read(b"/proc/42/status")


def test_long_files_are_consistent_over_many_small_reads(rig: Rig) -> None:
    file = rig.open(b"/proc/self/status")
    parts: list[bytes] = []
    while part := rig.read_at(file, 50):
        parts.append(part)
        rig.task.comm += b"!"
    assert b"".join(parts).startswith(b"Name:\tsh\n")
    assert rig.read_at(file, 10, 0) != b"Name:\tsh\n"


def test_owner_of_a_tasks_files_is_its_user(rig: Rig) -> None:
    rig.kernel.tasks[1].cred = Cred(uid=5, euid=6, gid=7, egid=8)
    inode = rig.inode(b"/proc/1/environ")
    assert (inode.uid, inode.gid) == (6, 8)
    assert stat.S_IMODE(inode.mode) == 0o400


def test_settings_can_be_written(rig: Rig) -> None:
    rig.write(b"/proc/sys/kernel/hostname", b"other\n", os.O_WRONLY | os.O_TRUNC)
    assert rig.kernel.hostname == b"other"
    rig.write(b"/proc/sys/vm/overcommit_memory", b"1\n", os.O_WRONLY)
    assert rig.read(b"/proc/sys/vm/overcommit_memory") == b"1\n"
    for bad in (b"9\n", b"x\n"):
        with pytest.raises(Errno.EINVAL):
            rig.write(b"/proc/sys/vm/overcommit_memory", bad, os.O_WRONLY)
    rig.write(b"/proc/self/comm", b"a name that is too long\n", os.O_WRONLY)
    assert rig.read(b"/proc/self/comm") == b"a name that is \n"
    rig.write(b"/proc/self/oom_score_adj", b"-500", os.O_WRONLY)
    assert rig.read(b"/proc/self/oom_score_adj") == b"-500\n"
    with pytest.raises(Errno.EPERM):
        rig.chmod(b"/proc/self/comm", 0o777)


def test_nothing_can_be_made_or_removed(rig: Rig) -> None:
    for call in (
        lambda: rig.mkdir(b"/proc/new"),
        lambda: rig.rmdir(b"/proc/42"),
        lambda: rig.unlink(b"/proc/uptime"),
        lambda: rig.run(lambda: dirops.symlink(rig.task, b"x", AT_FDCWD, b"/proc/sys/x")),  # type: ignore[arg-type]
    ):
        with pytest.raises((Errno.EPERM, Errno.ENOENT)):
            call()


def test_random_ids_have_the_form_of_uuids(rig: Rig) -> None:
    shape = re.compile(rb"^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\n$")
    first, second = (rig.read(b"/proc/sys/kernel/random/uuid") for _ in range(2))
    assert shape.match(first) and first != second
    boot = [rig.read(b"/proc/sys/kernel/random/boot_id") for _ in range(2)]
    assert shape.match(boot[0]) and boot[0] == boot[1]


def test_mounts_are_shown_as_findmnt_reads_them(rig: Rig, tmp_path: Path) -> None:
    rig.mkdir(b"/with space")
    table = rig.read(b"/proc/self/mountinfo")
    assert b" / /proc rw,nosuid - proc proc rw\n" in table
    (tmp_path / "mountinfo").write_bytes(table)
    result = subprocess.run(
        ["findmnt", "-n", "-r", "-o", "TARGET,FSTYPE", "-F", tmp_path / "mountinfo"],
        capture_output=True,
        check=True,
    )
    assert result.stdout.splitlines() == [b"/ tmpfs", b"/proc proc", b"/dev devtmpfs"]
    assert b"proc /proc proc rw,nosuid 0 0\n" in rig.read(b"/proc/mounts")


def test_instance_and_settings_survive_a_freeze(rig: Rig) -> None:
    rig.write(b"/proc/sys/vm/swappiness", b"10\n", os.O_WRONLY)
    list(everything(rig, b"/proc"))
    rig.kernel.frames = None
    sb = proc_super_block(rig.kernel)
    thawed: Any = load_graph(dump_graph(sb))
    assert thawed.settings == {"swappiness": b"10"}
    assert sorted(thawed.root.children) == sorted(sb.root.children)
