"""The buffer cache: ranks, copies, failure, bounds; and /dev/vda on top of it."""

from __future__ import annotations

import asyncio
import os
import random
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from support.ext2rig import Log, RecordedDisk, RigKernel, drive
from uvm_async.block import blkdev
from uvm_async.block import disk as disk_module
from uvm_async.block.blkdev import BlockDevice, BlockFile, disk_name
from uvm_async.errors import Errno
from uvm_async.mm.iov import KernelIter
from uvm_async.state import dump_graph, load_graph

BLOCKS = 64
SIZE = BLOCKS * 4096


@pytest.fixture
async def device(tmp_path: Path) -> AsyncIterator[BlockDevice]:
    """A device whose cache holds 16 buffers."""
    image = tmp_path / "disk"
    image.write_bytes(bytes([number for number in range(BLOCKS) for _ in range(4096)]))
    disk = RecordedDisk(RigKernel(threads=True), str(image))  # type: ignore[arg-type]
    disk.log = Log()
    await disk.reopen()
    yield BlockDevice(disk, 0, limit_bytes=16 * 4096)
    await disk.close()


def contents(device: BlockDevice) -> bytes:
    return Path(device.disk.path).read_bytes()


def log_of(device: BlockDevice) -> list[Any]:
    """Blocks written, and None for flushes."""
    disk = device.disk
    assert isinstance(disk, RecordedDisk)
    return [event and event[0] // 4096 for event in disk.log.events]


def change(device: BlockDevice, block: int, fill: int, rank: int = 0) -> None:
    cache = device.cache
    buffer = cache.getblk(block)
    buffer.data[:] = bytes([fill]) * len(buffer.data)
    cache.mark_dirty(buffer, rank)


async def test_dirty_buffers_reach_the_file_at_sync(device: BlockDevice) -> None:
    change(device, 3, 200)
    assert contents(device)[3 * 4096] == 3
    await drive(device.cache.sync())
    assert contents(device)[3 * 4096] == 200
    assert not device.cache.dirty


async def test_a_lower_rank_is_stable_before_a_higher_is_written(device: BlockDevice) -> None:
    change(device, 1, 100, rank=2)
    change(device, 2, 100, rank=0)
    change(device, 9, 100, rank=1)
    change(device, 5, 100, rank=0)
    await drive(device.cache.sync())
    log = log_of(device)
    assert [sorted(part) for part in (log[:2], log[3:4], log[5:6])] == [[2, 5], [9], [1]]
    assert [log[2], log[4], log[6]] == [None, None, None]


async def test_a_buffer_keeps_its_highest_rank(device: BlockDevice) -> None:
    change(device, 1, 100, rank=2)
    change(device, 1, 101, rank=0)
    change(device, 2, 100, rank=1)
    await drive(device.cache.sync())
    assert log_of(device) == [2, None, 1, None]


async def test_what_changes_during_a_write_out_is_written_next_time(device: BlockDevice) -> None:
    change(device, 1, 100)
    taken = device.cache.take_dirty()
    change(device, 1, 101)
    await drive(device.cache.write_out(taken))
    assert contents(device)[4096] == 100
    assert list(device.cache.dirty) == [1]
    await drive(device.cache.sync())
    assert contents(device)[4096] == 101


async def test_after_a_failed_write_all_is_dirty_again(
    device: BlockDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "full")

    change(device, 1, 100, rank=1)
    change(device, 2, 100)
    with monkeypatch.context() as patch:
        patch.setattr(disk_module, "_write_all", fail)
        with pytest.raises(Errno.EIO):
            await drive(device.cache.sync())
    assert {block: buffer.rank for block, buffer in device.cache.dirty.items()} == {1: 1, 2: 0}
    await drive(device.cache.sync())
    assert contents(device)[4096] == contents(device)[8192] == 100


async def test_the_cache_is_bounded_and_never_drops_what_is_dirty(device: BlockDevice) -> None:
    for block in range(5):
        change(device, block, 100 + block)
    for block in range(BLOCKS):
        buffer = await drive(device.cache.bread(block))
        assert buffer.data[0] == (100 + block if block < 5 else block)
    assert len(device.cache.buffers) <= 17
    assert len(device.cache.dirty) == 5


async def test_two_readers_of_one_block_get_one_buffer(device: BlockDevice) -> None:
    device.disk._nowait = False
    one, other = await asyncio.gather(*(drive(device.cache.bread(7)) for _ in range(2)))
    assert one is other
    assert device.disk.stat.reads == 1


async def test_a_forgotten_buffer_is_never_written(device: BlockDevice) -> None:
    change(device, 3, 200)
    device.cache.forget(3)
    await drive(device.cache.sync())
    assert contents(device)[3 * 4096] == 3


async def test_dirty_buffers_survive_a_freeze_and_clean_ones_are_read_again(
    device: BlockDevice,
) -> None:
    await drive(device.cache.bread(4))
    change(device, 3, 200)
    frozen = dump_graph(device)
    await device.disk.close()
    thawed = load_graph(frozen)
    assert isinstance(thawed, BlockDevice)
    assert list(thawed.cache.buffers) == [3]
    assert (await drive(thawed.cache.bread(4))).data[0] == 4
    await drive(thawed.cache.sync())
    assert contents(thawed)[3 * 4096] == 200
    await thawed.disk.close()


def test_disks_are_named_as_linux_names_them() -> None:
    names = [disk_name(index) for index in (0, 1, 25, 26, 27, 701, 702)]
    assert names == [b"vda", b"vdb", b"vdz", b"vdaa", b"vdab", b"vdzz", b"vdaaa"]


# -- the device's file


class Memory:
    """Guest memory of one word, for ioctl."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = data

    async def copy_to_user(self, addr: int, data: bytes) -> None:
        if addr == 0:
            raise Errno.EFAULT
        self.data = data

    async def copy_from_user(self, addr: int, length: int) -> bytes:
        if addr == 0:
            raise Errno.EFAULT
        return self.data[:length]


def task(data: bytes = b"", *, root: bool = True) -> Any:
    capabilities = (1 << 40) - 1 if root else 0
    return SimpleNamespace(mm=Memory(data), cred=SimpleNamespace(capabilities=capabilities))


async def open_file(device: BlockDevice, flags: int = os.O_RDWR) -> BlockFile:
    return await drive(device.open_node(task(), None, flags))


async def pread(file: BlockFile, pos: int, length: int) -> bytes:
    it = KernelIter(room=length)
    await drive(file.read_iter(task(), it, pos))
    return bytes(it.data)


async def pwrite(file: BlockFile, pos: int, data: bytes) -> int:
    return await drive(file.write_iter(task(), KernelIter(data), pos))


async def test_random_reads_and_writes_of_the_device_are_those_of_a_byte_array(
    device: BlockDevice,
) -> None:
    rng = random.Random(3)
    model = bytearray(contents(device))
    file = await open_file(device)
    for _ in range(300):
        pos = rng.randrange(SIZE)
        length = rng.choice([1, 511, 512, 4096, 20_000, 100_000])
        if rng.random() < 0.5:
            data = rng.randbytes(length)
            done = await pwrite(file, pos, data)
            assert done == min(length, SIZE - pos)
            model[pos : pos + done] = data[:done]
        else:
            assert await pread(file, pos, length) == model[pos : pos + length]
        if rng.random() < 0.05:
            await drive(file.fsync())
            assert contents(device) == model
    await drive(file.release())
    assert contents(device) == model


async def test_positions_and_the_end_are_linuxs(device: BlockDevice) -> None:
    file = await open_file(device)
    assert await drive(file.llseek(0, os.SEEK_END)) == SIZE
    assert await pread(file, SIZE, 10) == b""
    with pytest.raises(Errno.ENOSPC):
        await pwrite(file, SIZE, b"x")
    assert await pwrite(file, SIZE - 100, b"x" * 1000) == 100
    for offset, whence in ((SIZE + 1, 0), (-1, 0), (0, 3), (0, 4)):
        with pytest.raises(Errno.EINVAL):
            await drive(file.llseek(offset, whence))
    assert await drive(file.llseek(512, os.SEEK_SET)) == 512
    assert await drive(file.write_iter(task(), KernelIter(b"abc"))) == 3
    assert file.pos == 515


@pytest.mark.parametrize(
    ("cmd", "code", "value"),
    [
        (blkdev.BLKGETSIZE64, "<Q", SIZE),
        (blkdev.BLKGETSIZE, "<Q", SIZE // 512),
        (blkdev.BLKSSZGET, "<i", 512),
        (blkdev.BLKBSZGET, "<i", 4096),
        (blkdev.BLKPBSZGET, "<I", 512),
        (blkdev.BLKROGET, "<i", 0),
        (blkdev.BLKROTATIONAL, "<H", 0),
    ],
)
async def test_ioctls_that_ask(device: BlockDevice, cmd: int, code: str, value: int) -> None:
    file = await open_file(device, os.O_RDONLY)
    caller = task()
    assert await drive(file.ioctl(caller, cmd, 64)) == 0
    assert struct.unpack(code, caller.mm.data) == (value,)
    with pytest.raises(Errno.EFAULT):
        await drive(file.ioctl(caller, cmd, 0))


async def test_unknown_ioctls_are_enotty(device: BlockDevice) -> None:
    with pytest.raises(Errno.ENOTTY):
        await drive((await open_file(device)).ioctl(task(), 0x1299, 0))


@pytest.mark.parametrize(
    ("start", "length"), [(0, 100), (512, 0), (SIZE, 512), (SIZE - 512, 1024), (100, 512)]
)
async def test_bad_ranges_to_discard_are_einval(
    device: BlockDevice, start: int, length: int
) -> None:
    file = await open_file(device)
    with pytest.raises(Errno.EINVAL):
        await drive(file.ioctl(task(struct.pack("<QQ", start, length)), blkdev.BLKDISCARD, 64))


async def test_discarding_clears_exactly_its_range(device: BlockDevice) -> None:
    file = await open_file(device)
    await pwrite(file, 4096, b"a" * 8192)
    argument = struct.pack("<QQ", 4096 + 512, 4096)
    assert await drive(file.ioctl(task(argument), blkdev.BLKDISCARD, 64)) == 0
    expected = b"a" * 512 + bytes(4096) + b"a" * 3584
    assert await pread(file, 4096, 8192) == expected
    assert contents(device)[4096:12288] == expected


async def test_discarding_needs_a_file_open_for_writing(device: BlockDevice) -> None:
    file = await open_file(device, os.O_RDONLY)
    with pytest.raises(Errno.EBADF):
        await drive(file.ioctl(task(struct.pack("<QQ", 0, 512)), blkdev.BLKDISCARD, 64))


async def test_a_read_only_disk_may_be_opened_but_not_written(tmp_path: Path) -> None:
    image = tmp_path / "disk"
    image.write_bytes(bytes(8192))
    disk = RecordedDisk(RigKernel(), str(image), read_only=True)  # type: ignore[arg-type]
    disk.log = Log()
    await disk.reopen()
    file = await open_file(BlockDevice(disk, 0))
    with pytest.raises(Errno.EPERM):
        await pwrite(file, 0, b"x")
    caller = task()
    await drive(file.ioctl(caller, blkdev.BLKROGET, 64))
    assert caller.mm.data == struct.pack("<i", 1)
    await disk.close()


async def test_a_disk_of_odd_size_is_readable_to_its_last_sector(tmp_path: Path) -> None:
    image = tmp_path / "disk"
    image.write_bytes(bytes(range(250)) * 4000)  # 1,000,000 bytes
    disk = RecordedDisk(RigKernel(), str(image))  # type: ignore[arg-type]
    disk.log = Log()
    await disk.reopen()
    device = BlockDevice(disk, 0)
    file = await open_file(device)
    assert await drive(file.llseek(0, os.SEEK_END)) == 999_936
    assert await pread(file, 999_000, 5000) == image.read_bytes()[999_000:999_936]
    assert await pwrite(file, 999_900, b"y" * 100) == 36
    await drive(file.release())
    assert image.read_bytes()[999_900:999_936] == b"y" * 36
    assert image.stat().st_size == 1_000_000
    await disk.close()


async def test_flushing_buffers_and_rereading_partitions_need_root(device: BlockDevice) -> None:
    file = await open_file(device)
    for cmd in (blkdev.BLKFLSBUF, blkdev.BLKRRPART):
        with pytest.raises(Errno.EACCES):
            await drive(file.ioctl(task(root=False), cmd, 0))
        assert await drive(file.ioctl(task(), cmd, 0)) == 0
