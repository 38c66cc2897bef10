"""Disks: the backing file is read, written, flushed, locked, and found again."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from support.ext2rig import RigKernel, drive
from uvm_async.block import disk as disk_module
from uvm_async.block.bio import read_bio, write_bio
from uvm_async.block.disk import Disk
from uvm_async.errors import Errno, UsageError
from uvm_async.state import dump_graph, load_graph


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    path.write_bytes(bytes(range(256)) * 256)
    return path


@pytest.fixture
def kernel() -> RigKernel:
    return RigKernel(threads=True)


async def test_what_is_written_is_read_and_is_in_the_file(kernel: RigKernel, image: Path) -> None:
    disk = await Disk.open(kernel, image)
    await drive(disk.write(512, b"w" * 1024))
    assert await drive(disk.read(0, 2048)) == image.read_bytes()[:2048]
    assert image.read_bytes()[512:1536] == b"w" * 1024
    await disk.close()


async def test_cached_reads_never_reach_a_worker(
    kernel: RigKernel, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = await Disk.open(kernel, image)
    image.read_bytes()
    monkeypatch.setattr(disk_module, "_transfer", None)
    assert await drive(disk.read(0, 65536)) == bytes(range(256)) * 256
    await disk.close()


async def test_reads_the_host_must_wait_for_go_to_a_worker(
    kernel: RigKernel, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def would_block(*_: object) -> int:
        raise BlockingIOError(errno.EAGAIN, "would block")

    disk = await Disk.open(kernel, image)
    real = os.preadv
    monkeypatch.setattr(
        disk_module.os,
        "preadv",
        lambda fd, views, at, *flags: would_block() if flags else real(fd, views, at),
    )
    assert await drive(disk.read(512, 512)) == (bytes(range(256)) * 2)
    await disk.close()


async def test_a_partial_sector_at_the_end_is_invisible(kernel: RigKernel, tmp_path: Path) -> None:
    path = tmp_path / "odd"
    path.write_bytes(b"x" * 1300)
    disk = await Disk.open(kernel, path)
    assert disk.size == 1024
    await drive(disk.write(512, b"y" * 512))
    with pytest.raises(Errno.EIO):
        await drive(disk.read(1024, 512))
    await disk.close()
    assert path.read_bytes() == b"x" * 512 + b"y" * 512 + b"x" * 276


@pytest.mark.parametrize(
    ("offset", "length"), [(65536, 512), (65024, 1024), (100, 512), (0, 100), (-512, 512)]
)
async def test_transfers_outside_or_not_aligned_are_eio(
    kernel: RigKernel, image: Path, offset: int, length: int
) -> None:
    disk = await Disk.open(kernel, image)
    with pytest.raises(Errno.EIO):
        await drive(disk.submit([read_bio(offset, length)]))
    await disk.close()


async def test_a_read_only_disk_refuses_writes(kernel: RigKernel, image: Path) -> None:
    disk = await Disk.open(kernel, image, read_only=True)
    with pytest.raises(Errno.EROFS):
        await drive(disk.write(0, bytes(512)))
    with pytest.raises(Errno.EROFS):
        await drive(disk.discard(0, 512))
    await drive(disk.flush())
    await disk.close()


async def test_flush_reaches_the_file_and_only_when_something_was_written(
    kernel: RigKernel, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    monkeypatch.setattr(disk_module.os, "fdatasync", calls.append)
    disk = await Disk.open(kernel, image)
    await drive(disk.flush())
    assert calls == []
    await drive(disk.write(0, bytes(512)))
    await drive(disk.flush())
    await drive(disk.flush())
    assert len(calls) == 1
    await drive(disk.write(0, bytes(512), fua=True))
    assert len(calls) == 2
    await disk.close()


async def test_discarded_bytes_are_zeros_and_free_on_the_host(
    kernel: RigKernel, tmp_path: Path
) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"x" * (1 << 20))
    disk = await Disk.open(kernel, path)
    before = path.stat().st_blocks
    await drive(disk.discard(65536, 1 << 19))
    assert path.stat().st_blocks <= before - 1024 + 16
    assert await drive(disk.read(65536, 1 << 19)) == bytes(1 << 19)
    assert path.stat().st_size == 1 << 20
    await disk.close()


async def test_discard_writes_zeros_where_the_host_cannot_punch(
    kernel: RigKernel, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = await Disk.open(kernel, image)
    monkeypatch.setattr(disk_module, "_fallocate", lambda *_: errno.EOPNOTSUPP)
    await drive(disk.discard(512, 512))
    assert image.read_bytes()[512:1024] == bytes(512)
    await disk.close()


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
async def test_whatever_the_host_answers_the_guest_sees_eio_and_the_log_the_reason(
    kernel: RigKernel, image: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    disk = await Disk.open(kernel, image)
    monkeypatch.setattr(disk_module, "_write_all", fail)
    with pytest.raises(Errno.EIO):
        await drive(disk.write(0, bytes(512)))
    assert os.strerror(code) in kernel.messages[0]
    await disk.close()


async def test_a_file_that_became_shorter_is_eio(kernel: RigKernel, image: Path) -> None:
    disk = await Disk.open(kernel, image)
    os.truncate(image, 4096)
    assert len(await drive(disk.read(0, 4096))) == 4096
    with pytest.raises(Errno.EIO):
        await drive(disk.read(4096, 4096))
    await disk.close()


async def test_a_write_in_one_batch_with_a_read_is_ordered(kernel: RigKernel, image: Path) -> None:
    disk = await Disk.open(kernel, image)
    write, read = write_bio(0, b"z" * 512), read_bio(0, 512)
    await drive(disk.submit([write, read]))
    assert bytes(read.data) == b"z" * 512
    await disk.close()


async def test_two_machines_cannot_write_one_image(kernel: RigKernel, image: Path) -> None:
    first = await Disk.open(kernel, image)
    with pytest.raises(UsageError, match="in use by another machine"):
        await Disk.open(RigKernel(), image)
    with pytest.raises(UsageError, match="in use by another machine"):
        await Disk.open(RigKernel(), image, read_only=True)
    await first.close()
    readers = [await Disk.open(RigKernel(), image, read_only=True) for _ in range(2)]
    with pytest.raises(UsageError):
        await Disk.open(RigKernel(), image)
    for disk in readers:
        await disk.close()
    await (await Disk.open(kernel, image)).close()


@pytest.mark.parametrize(
    ("name", "message"),
    [("absent", "No such file"), (".", "directory"), ("fifo", "not a regular file")],
)
async def test_what_cannot_be_a_disk_is_the_users_mistake(
    kernel: RigKernel, tmp_path: Path, name: str, message: str
) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(UsageError, match=message):
        await Disk.open(kernel, tmp_path / name)


async def test_a_thawed_disk_opens_the_same_file_again(kernel: RigKernel, image: Path) -> None:
    disk = await Disk.open(kernel, image)
    await drive(disk.write(0, b"before" + bytes(506)))
    frozen = dump_graph(disk)
    await disk.close()
    thawed = load_graph(frozen)
    assert isinstance(thawed, Disk)
    assert (await drive(thawed.read(0, 512)))[:6] == b"before"
    await drive(thawed.write(0, b"after!" + bytes(506)))
    assert image.read_bytes()[:6] == b"after!"
    await thawed.close()


async def test_a_thawed_disk_refuses_another_file_in_its_place(
    kernel: RigKernel, image: Path
) -> None:
    disk = await Disk.open(kernel, image)
    frozen = dump_graph(disk)
    await disk.close()
    image.rename(image.with_suffix(".old"))
    image.write_bytes(bytes(65536))
    thawed = load_graph(frozen)
    assert isinstance(thawed, Disk)
    with pytest.raises(UsageError, match="not the file it was"):
        await thawed.reopen()
    with pytest.raises(Errno.EIO):
        await drive(thawed.read(0, 512))
    await thawed.close()


async def test_statistics_count_operations_and_sectors(kernel: RigKernel, image: Path) -> None:
    disk = await Disk.open(kernel, image)
    await drive(disk.write(0, bytes(1024)))
    await drive(disk.read(0, 4096))
    await drive(disk.flush())
    stat = disk.stat
    assert (stat.writes, stat.write_sectors) == (1, 2)
    assert (stat.reads, stat.read_sectors) == (1, 8)
    assert stat.flushes == 1
    await disk.close()
