"""ext2: what the host's tools wrote is read, what we write the host's tools read."""

from __future__ import annotations

import asyncio
import os
import random
import re
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from support.ext2rig import (
    Rig,
    RigKernel,
    debugfs,
    drive,
    fsck,
    make_image,
    open_device,
    physical_memory,
    tool,
)
from uvm_async.block.blkdev import attach_disk
from uvm_async.block.disk import Disk
from uvm_async.errors import Errno
from uvm_async.fs.ext2 import namei
from uvm_async.fs.ext2.blockmap import map_blocks
from uvm_async.fs.ext2.mount import mount_ext2
from uvm_async.fs.mount import MS_RDONLY
from uvm_async.fs.registry import MountRequest, find_file_system
from uvm_async.mm.filemap import filemap_write
from uvm_async.mm.frames import Frames
from uvm_async.mm.iov import KernelIter

BLOCK_SIZES = [1024, 2048, 4096]


@pytest.fixture
def frames() -> Iterator[Frames]:
    with physical_memory(128 << 20) as found:
        yield found


def dump(image: Path, where: Path) -> Path:
    """The whole tree, as debugfs reads it."""
    where.mkdir()
    debugfs(image, f"rdump / {where}")
    return where


# -- reading


@pytest.mark.parametrize("block_size", BLOCK_SIZES)
async def test_what_mke2fs_wrote_is_read_as_it_is(
    tmp_path: Path, frames: Frames, block_size: int
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    rng = random.Random(5)
    (source / "double").write_bytes(rng.randbytes(3_000_000))
    (source / "empty").write_bytes(b"")
    with open(source / "sparse", "wb") as sparse:
        for at in (0, 5_000_000, 70_000_000):
            sparse.seek(at)
            sparse.write(b"island")
    os.symlink("x" * 59, source / "fast")
    os.symlink("x" * 60, source / "slow")
    (source / "many").mkdir()
    for number in range(700):
        (source / "many" / f"name-{number}").write_bytes(b"%d" % number)
    image = make_image(tmp_path / "disk", size="96M", block_size=block_size, tree=source)
    rig = await Rig.mount(image, read_only=True, frames=frames)
    tree = await rig.tree()
    assert tree.pop("/lost+found", "absent") is None
    expected: dict[str, Any] = {}
    for path in source.rglob("*"):
        key = "/" + str(path.relative_to(source))
        if path.is_symlink():
            expected[key] = "-> " + os.readlink(path)
        else:
            expected[key] = None if path.is_dir() else path.read_bytes()
    assert tree == expected
    await rig.umount()


async def test_holes_are_not_read_from_the_disk(tmp_path: Path, frames: Frames) -> None:
    image = make_image(tmp_path / "disk")
    rig = await Rig.mount(image, frames=frames)
    await rig.create("/f")
    await rig.truncate("/f", 4 << 20)
    reads = rig.device.disk.stat.reads
    assert await rig.read("/f") == bytes(4 << 20)
    assert rig.device.disk.stat.reads == reads
    assert (await rig.walk("/f")).blocks == 0
    await rig.umount()


# -- writing


@pytest.mark.parametrize("block_size", BLOCK_SIZES)
async def test_what_we_write_debugfs_reads(tmp_path: Path, frames: Frames, block_size: int) -> None:
    image = make_image(tmp_path / "disk", size="64M", block_size=block_size)
    rig = await Rig.mount(image, frames=frames)
    rng = random.Random(6)
    big = rng.randbytes(20_000_000)
    await rig.mkdir("/d")
    await rig.create("/d/big")
    await rig.write("/d/big", 0, big)
    await rig.create("/sparse")
    await rig.write("/sparse", 400_000_000, b"far")
    await rig.symlink("a/b", "/fast")
    await rig.symlink("z" * 300, "/slow")
    await rig.sync()
    assert fsck(image) == ""
    await rig.umount()
    assert fsck(image) == ""
    assert rig.kernel.messages == []
    assert debugfs(image, "cat /d/big") == big
    found = dump(image, tmp_path / "dump")
    assert (found / "sparse").stat().st_size == 400_000_003
    assert os.readlink(found / "fast") == "a/b"
    assert os.readlink(found / "slow") == "z" * 300
    assert not any(frames_in_use(frames))


def frames_in_use(frames: Frames) -> list[object]:
    return list(frames.caches)


async def test_a_64_mib_file_and_sync_leave_a_clean_image(tmp_path: Path) -> None:
    image = make_image(tmp_path / "disk", size="100M", block_size=4096)
    with physical_memory(32 << 20) as frames:
        rig = await Rig.mount(image, frames=frames)
        await rig.create("/f")
        for number in range(64):
            await rig.write("/f", number << 20, bytes(1 << 20))
        await rig.sync()
        assert fsck(image) == ""
        (run, *others) = await drive(map_blocks(await rig.walk("/f"), 20, 1000))
        assert run.count == 1000 and not others, "it is not in one piece"
        await rig.umount()


async def test_blocks_are_where_they_are_expected_to_be(tmp_path: Path, frames: Frames) -> None:
    """Two files written in turn do not lie in each other's way."""
    image = make_image(tmp_path / "disk", size="32M", block_size=1024)
    rig = await Rig.mount(image, frames=frames)
    for name in ("/a", "/b"):
        await rig.create(name)
    for number in range(64):
        for name in ("/a", "/b"):
            await rig.write(name, number * 8192, b"x" * 8192)
    await rig.sync()
    for name in ("/a", "/b"):
        runs = await drive(map_blocks(await rig.walk(name), 0, 500))
        assert len(runs) <= 4
    await rig.umount()


async def test_what_was_cut_off_reads_as_zeros_when_the_file_grows_again(
    tmp_path: Path, frames: Frames
) -> None:
    image = make_image(tmp_path / "disk", block_size=4096)
    rig = await Rig.mount(image, frames=frames)
    await rig.create("/f")
    await rig.write("/f", 0, b"x" * 10_000)
    await rig.sync()
    for size in (9_000, 5_000, 4_097, 100):
        await rig.reclaim()
        await rig.truncate("/f", size)
        await rig.truncate("/f", 10_000)
        assert await rig.read("/f") == b"x" * size + bytes(10_000 - size)
        await rig.sync()
        await rig.reclaim()
        assert await rig.read("/f") == b"x" * size + bytes(10_000 - size)
    await rig.umount()
    assert debugfs(image, "cat /f") == b"x" * 100 + bytes(9_900)
    assert fsck(image) == ""


@pytest.mark.parametrize("block_size", [1024, 4096])
async def test_a_full_disk_is_enospc_at_the_write_and_never_later(
    tmp_path: Path, frames: Frames, block_size: int
) -> None:
    image = make_image(tmp_path / "disk", size="2M", block_size=block_size, options=("-m", "0"))
    rig = await Rig.mount(image, frames=frames)
    await rig.create("/f")
    free = rig.sb.free_blocks
    done = 0
    while True:
        try:
            done += await rig.write("/f", done, bytes([done >> 12 & 0xFF]) * 5000)
        except Errno.ENOSPC:
            break
    nodes = -(-free // (block_size // 4)) + 2
    assert done // block_size >= free - nodes
    await rig.sync()
    assert (await drive(rig.sb.statfs())).bfree <= 3
    for operation in (
        rig.mkdir("/d"),
        rig.symlink("s" * 100, "/s"),
        rig.write("/f", done, b"x" * 5000),
    ):
        with pytest.raises(Errno.ENOSPC):
            await operation
    await rig.truncate("/f", done // 2)
    await rig.mkdir("/d")  # what was freed can be had at once
    await rig.sync()
    assert fsck(image) == ""
    await rig.umount()
    assert len(debugfs(image, "cat /f")) == done // 2


async def test_running_out_of_inodes_is_enospc(tmp_path: Path, frames: Frames) -> None:
    image = make_image(tmp_path / "disk", options=("-N", "24"))
    rig = await Rig.mount(image, frames=frames)
    free = rig.sb.free_inodes
    for number in range(free):
        await rig.create(f"/f{number}")
    with pytest.raises(Errno.ENOSPC):
        await rig.create("/more")
    await rig.unlink("/f0")
    await rig.create("/more")
    await rig.umount()
    assert fsck(image) == ""


# -- names


async def test_a_big_directory_grows_is_listed_and_shrinks_to_reusable_room(
    tmp_path: Path, frames: Frames
) -> None:
    image = make_image(tmp_path / "disk", size="32M", block_size=1024, options=("-N", "4000"))
    rig = await Rig.mount(image, frames=frames)
    await rig.mkdir("/d")
    names = [f"{number:04}-{'n' * (number % 100)}" for number in range(1500)]
    for name in names:
        await rig.create(f"/d/{name}")
    directory = await rig.walk("/d")
    size = directory.size
    assert sorted(await rig.tree("/d")) == [f"/d/{name}" for name in names]
    for name in names[::2]:
        await rig.unlink(f"/d/{name}")
    for name in names[::2]:
        await rig.create(f"/d/{name}")
    assert directory.size == size
    for name in names:
        await rig.unlink(f"/d/{name}")
    assert await rig.tree("/d") == {}
    await rig.rmdir("/d")
    await rig.umount()
    assert fsck(image) == ""


async def test_a_listing_shows_what_stays_exactly_once_while_others_come_and_go(
    tmp_path: Path, frames: Frames
) -> None:
    rig = await Rig.mount(make_image(tmp_path / "disk"), frames=frames)
    await rig.mkdir("/d")
    for number in range(200):
        await rig.create(f"/d/{number}")
    stays = {str(number) for number in range(200) if number % 3}
    directory = await rig.walk("/d")
    seen: list[str] = []
    pos = 0
    step = 0
    while entries := await drive(directory.readdir(pos, 5)):
        seen += [entry.name.decode() for entry in entries]
        pos = entries[-1].next_pos
        if step < 67:
            await rig.unlink(f"/d/{199 - step * 3 if (199 - step * 3) % 3 == 0 else step * 3}")
            await rig.create(f"/d/new-{step}-{'y' * (step * 3)}")
        step += 1
    assert [name for name in seen if name in stays] == [
        n for n in map(str, range(200)) if n in stays
    ]
    await rig.umount()


async def test_hashed_directories_are_read_and_lose_the_hash_when_changed(
    tmp_path: Path, frames: Frames
) -> None:
    source = tmp_path / "source"
    (source / "d").mkdir(parents=True)
    for number in range(600):
        (source / "d" / f"name-{number}-{'x' * 30}").touch()
    image = make_image(tmp_path / "disk", tree=source, options=("-N", "2000"))
    subprocess.run([tool("e2fsck"), "-fyD", str(image)], capture_output=True)
    assert "Flags: 0x1000" in debugfs(image, "stat /d").decode()
    rig = await Rig.mount(image, frames=frames)
    assert len(await rig.tree("/d")) == 600
    await rig.unlink(f"/d/name-7-{'x' * 30}")
    await rig.create("/d/new")
    assert len(await rig.tree("/d")) == 600
    await rig.umount()
    assert "Flags: 0x0" in debugfs(image, "stat /d").decode()
    assert fsck(image) == ""


async def test_directories_moved_between_parents_keep_links_and_dotdot(
    tmp_path: Path, frames: Frames
) -> None:
    image = make_image(tmp_path / "disk")
    rig = await Rig.mount(image, frames=frames)
    for path in ("/a", "/b", "/a/x", "/b/y", "/b/z"):
        await rig.mkdir(path)
    await rig.create("/a/x/f")
    await rig.rename("/a/x", "/b/x")
    await rig.rename("/b/x", "/b/y")  # over an empty directory
    await rig.sync()
    assert fsck(image) == ""
    assert [(await rig.walk(path)).nlink for path in ("/a", "/b", "/b/y")] == [2, 4, 2]
    with pytest.raises(Errno.ENOTEMPTY):
        await rig.rename("/b/z", "/b/y")
    with pytest.raises(Errno.ENOTEMPTY):
        await rig.rmdir("/b/y")
    await rig.umount()
    assert fsck(image) == ""


@pytest.mark.parametrize("kinds", ["ff", "dd", "fd"])
@pytest.mark.parametrize("where", ["/", "/d/"])
async def test_exchange_swaps_two_names(
    tmp_path: Path, frames: Frames, kinds: str, where: str
) -> None:
    image = make_image(tmp_path / "disk")
    rig = await Rig.mount(image, frames=frames)
    await rig.mkdir("/d")
    names = ("/one", f"{where}other")
    for kind, name in zip(kinds, names, strict=True):
        await (rig.create if kind == "f" else rig.mkdir)(name)
    before = [await rig.walk(name) for name in names]
    (parent, name), (new_parent, new_name) = [await rig.parent(name) for name in names]
    await drive(parent.rename(name, before[0], new_parent, new_name, before[1], exchange=True))
    assert [await rig.walk(name) for name in names] == before[::-1]
    await rig.umount()
    assert fsck(image) == ""


async def test_a_file_without_a_name_can_be_given_one(tmp_path: Path, frames: Frames) -> None:
    image = make_image(tmp_path / "disk")
    rig = await Rig.mount(image, frames=frames)
    root = rig.sb.root
    kept = await drive(root.tmpfile(0o600, 0, 0))
    lost = await drive(root.tmpfile(0o600, 0, 0))
    await drive(kept.fsync())
    await drive(root.link(b"kept", kept))
    await drive(lost.evict())
    await rig.umount()
    assert fsck(image) == ""
    assert "Links: 1" in debugfs(image, "stat /kept").decode()


async def test_too_many_links_are_emlink(
    tmp_path: Path, frames: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(namei, "LINK_MAX", 5)
    rig = await Rig.mount(make_image(tmp_path / "disk"), frames=frames)
    await rig.mkdir("/d")
    await rig.create("/f")
    for number in range(3):
        await rig.mkdir(f"/d/{number}")
    for number in range(4):
        await rig.link("/f", f"/f{number}")
    await rig.mkdir("/other")
    for operation in (
        rig.mkdir("/d/more"),
        rig.link("/f", "/more"),
        rig.rename("/other", "/d/other"),
    ):
        with pytest.raises(Errno.EMLINK):
            await operation
    await rig.umount()


async def test_a_symlink_longer_than_a_block_is_enametoolong(
    tmp_path: Path, frames: Frames
) -> None:
    rig = await Rig.mount(make_image(tmp_path / "disk"), frames=frames)
    await rig.symlink("x" * 1023, "/longest")
    with pytest.raises(Errno.ENAMETOOLONG):
        await rig.symlink("x" * 1024, "/longer")
    await rig.umount()


# -- inodes


@pytest.mark.parametrize(("inode_size", "gran"), [("128", 1_000_000_000), ("256", 1)])
async def test_attributes_come_back_as_they_were_set(
    tmp_path: Path, frames: Frames, inode_size: str, gran: int
) -> None:
    image = make_image(tmp_path / "disk", options=("-I", inode_size))
    rig = await Rig.mount(image, frames=frames)
    await rig.create("/f", 0o4751)
    inode = await rig.walk("/f")
    late = 5_000_000_000 if gran == 1 else 2_000_000_000
    times = (-1_500_000_000_123_456_789, 1_234_567_890_987_654_321, late * 10**9 + 7)
    await drive(
        inode.setattr(
            uid=70_000, gid=80_000, atime_ns=times[0], mtime_ns=times[1], ctime_ns=times[2]
        )
    )
    await rig.umount()
    assert fsck(image) == ""
    rig = await Rig.mount(image, read_only=True, frames=frames)
    inode = await rig.walk("/f")
    assert (inode.mode, inode.uid, inode.gid) == (stat.S_IFREG | 0o4751, 70_000, 80_000)
    assert (inode.atime_ns, inode.mtime_ns, inode.ctime_ns) == tuple(t - t % gran for t in times)
    await rig.umount()
    said = debugfs(image, "stat /f").decode()
    assert "User: 70000   Group: 80000" in said


@pytest.mark.parametrize("rdev", [os.makedev(5, 1), os.makedev(254, 70_000), os.makedev(300, 2)])
async def test_device_numbers_are_as_debugfs_reads_them(
    tmp_path: Path, frames: Frames, rdev: int
) -> None:
    image = make_image(tmp_path / "disk")
    rig = await Rig.mount(image, frames=frames)
    for kind in (stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK):
        await drive(rig.sb.root.create(b"%o" % kind, kind | 0o600, 0, 0, rdev))
    await rig.umount()
    assert fsck(image) == ""
    major, minor = os.major(rdev), os.minor(rdev)
    said = debugfs(image, f"stat /{stat.S_IFCHR:o}").decode()
    assert re.search(rf"major/minor number: 0*{major}:0*{minor} ", said)
    rig = await Rig.mount(image, read_only=True, frames=frames)
    assert (await rig.walk(f"/{stat.S_IFBLK:o}")).rdev == rdev
    assert (await rig.walk(f"/{stat.S_IFIFO:o}")).rdev == 0
    await rig.umount()


async def test_attribute_blocks_are_kept_shared_and_released(
    tmp_path: Path, frames: Frames
) -> None:
    image = make_image(tmp_path / "disk", options=("-I", "128"))
    for command in (
        "write /dev/null a",
        "write /dev/null b",
        "ea_set a user.word value",
        "ea_set b user.word other",
    ):
        subprocess.run(
            [tool("debugfs"), "-w", "-R", command, str(image)], capture_output=True, check=True
        )
    assert fsck(image) == ""
    rig = await Rig.mount(image, frames=frames)
    await rig.write("/a", 0, b"contents")
    await rig.unlink("/b")
    await rig.umount()
    assert fsck(image) == ""
    assert b"value" in debugfs(image, "ea_get /a user.word")


async def test_statfs_is_what_dumpe2fs_counts(tmp_path: Path, frames: Frames) -> None:
    image = make_image(tmp_path / "disk", size="16M", block_size=1024)
    rig = await Rig.mount(image, frames=frames)
    await rig.create("/f")
    await rig.write("/f", 0, bytes(100_000))
    found = await drive(rig.sb.statfs())
    await rig.sync()
    assert await drive(rig.sb.statfs()) == found, "reserved blocks count as used"
    await rig.umount()
    said = subprocess.run(
        [tool("dumpe2fs"), "-h", str(image)], capture_output=True, text=True
    ).stdout

    def count(what: str) -> int:
        match = re.search(rf"^{what}: +(\d+)", said, re.M)
        assert match
        return int(match[1])

    assert found.bfree == count("Free blocks")
    assert found.bavail == count("Free blocks") - count("Reserved block count")
    assert (found.files, found.ffree) == (count("Inode count"), count("Free inodes"))
    assert (found.type, found.bsize, found.namelen) == (0xEF53, 1024, 255)
    assert count("Overhead clusters") == count("Block count") - found.blocks


# -- mounting


async def test_mount_marks_the_disk_in_use_and_umount_clean(tmp_path: Path, frames: Frames) -> None:
    image = make_image(tmp_path / "disk")

    def state() -> str:
        said = subprocess.run(
            [tool("dumpe2fs"), "-h", str(image)], capture_output=True, text=True
        ).stdout
        return " ".join(re.findall(r"Filesystem state: +(.*)|Mount count: +(.*)", said)[0][:1])

    assert state() == "clean"
    rig = await Rig.mount(image, frames=frames)
    assert state() == "not clean"
    await drive(rig.sb.remount(read_only=True))
    assert state() == "clean"
    with pytest.raises(Errno.EROFS):
        await rig.create("/f")
    await drive(rig.sb.remount(read_only=False))
    assert state() == "not clean"
    await rig.create("/f")
    await rig.umount()
    assert state() == "clean"


async def test_deleted_files_that_are_open_keep_it_writable(tmp_path: Path, frames: Frames) -> None:
    image = make_image(tmp_path / "disk")
    rig = await Rig.mount(image, frames=frames)
    await rig.create("/f")
    await rig.open("/f", "@f")
    await rig.unlink("/f")
    with pytest.raises(Errno.EBUSY):
        await drive(rig.sb.remount(read_only=True))
    await rig.close("@f")
    await drive(rig.sb.remount(read_only=True))
    assert fsck(image) == ""
    await rig.umount()


async def test_mounting_by_type_finds_the_device_and_shares_the_super_block(
    tmp_path: Path,
) -> None:
    assert find_file_system(b"ext2").needs_device
    kernel: Any = RigKernel()
    device = await open_device(kernel, make_image(tmp_path / "disk"))
    kernel.mounts.devices.register(stat.S_IFBLK, device.rdev, device)
    node: Any = SimpleNamespace(rdev=device.rdev)
    with pytest.raises(Errno.EINVAL):
        await drive(mount_ext2(kernel, b"/dev/vda", {b"nonsense": b""}, MountRequest(0, node)))
    with pytest.raises(Errno.ENOTBLK):
        await drive(mount_ext2(kernel, b"/dev/vda", {}, MountRequest(0, None)))
    request = MountRequest(MS_RDONLY, node)
    sb = await drive(mount_ext2(kernel, b"/dev/vda", {b"errors": b"remount-ro"}, request))
    assert await drive(mount_ext2(kernel, b"/dev/vda", {}, request)) is sb
    with pytest.raises(Errno.EBUSY):
        await drive(mount_ext2(kernel, b"/dev/vda", {}, MountRequest(0, node)))
    with pytest.raises(Errno.EBUSY):
        await drive(device.open_node(None, None, os.O_RDONLY | 0o200))  # type: ignore[arg-type]
    await drive(sb.umount())
    sb = await drive(mount_ext2(kernel, b"/dev/vda", {}, MountRequest(0, node)))
    assert not sb.read_only
    await drive(sb.umount())
    await device.disk.close()


async def test_a_read_only_disk_must_be_mounted_read_only(tmp_path: Path) -> None:
    image = make_image(tmp_path / "disk")
    kernel: Any = RigKernel()
    device = await open_device(kernel, image, read_only=True)
    kernel.mounts.devices.register(stat.S_IFBLK, device.rdev, device)
    node: Any = SimpleNamespace(rdev=device.rdev)
    with pytest.raises(Errno.EACCES):
        await drive(mount_ext2(kernel, b"/dev/vda", {}, MountRequest(0, node)))
    sb = await drive(mount_ext2(kernel, b"/dev/vda", {}, MountRequest(MS_RDONLY, node)))
    await drive(sb.umount())
    await device.disk.close()


async def test_a_file_system_written_through_the_device_can_be_mounted(
    tmp_path: Path, frames: Frames
) -> None:
    """As a guest does it that runs mke2fs on /dev/vda."""
    other = make_image(tmp_path / "other", block_size=1024).read_bytes()
    image = tmp_path / "disk"
    image.write_bytes(bytes(len(other)))
    kernel: Any = RigKernel()
    kernel.frames = frames
    device = await open_device(kernel, image)
    kernel.mounts.devices.register(stat.S_IFBLK, device.rdev, device)
    task: Any = None
    file = await drive(device.open_node(task, None, os.O_RDWR))
    await drive(file.write_iter(task, KernelIter(other)))
    node: Any = SimpleNamespace(rdev=device.rdev)
    sb = await drive(mount_ext2(kernel, b"/dev/vda", {}, MountRequest(0, node)))
    await drive(sb.root.create(b"f", stat.S_IFREG | 0o644, 0, 0))
    # The device shows metadata as it is in memory.
    it = KernelIter(room=len(other))
    await drive(file.read_iter(task, it, 0))
    await drive(file.fsync())
    assert fsck(image) == ""
    await drive(file.release())
    await drive(sb.umount())
    await device.disk.close()
    assert fsck(image) == ""


async def test_discard_gives_freed_blocks_back_to_the_host(tmp_path: Path, frames: Frames) -> None:
    image = make_image(tmp_path / "disk", size="32M", block_size=4096)
    kernel: Any = RigKernel()
    kernel.frames = frames
    device = attach_disk(kernel, await Disk.open(kernel, image))
    node: Any = SimpleNamespace(rdev=device.rdev)
    sb: Any = await drive(mount_ext2(kernel, b"/dev/vda", {b"discard": b""}, MountRequest(0, node)))
    inode = await drive(sb.root.create(b"f", stat.S_IFREG | 0o644, 0, 0))
    await drive(filemap_write(inode.mapping, KernelIter(b"x" * (16 << 20)), 0))
    await drive(sb.sync())
    full = image.stat().st_blocks
    await drive(inode.setattr(size=5000))
    await drive(sb.sync())
    assert image.stat().st_blocks < full - 30_000
    await drive(sb.umount())
    await device.disk.close()
    assert fsck(image) == ""
    assert debugfs(image, "cat /f") == b"x" * 5000


# -- several tasks at once


@pytest.mark.parametrize("seed", range(4))
async def test_tasks_that_work_at_the_same_time_do_not_disturb_each_other(
    tmp_path: Path, seed: int
) -> None:
    image = make_image(tmp_path / "disk", size="16M", block_size=1024)
    with physical_memory(16 << 20) as frames:
        rig = await Rig.mount(image, frames=frames, limit_bytes=64 * 1024)
        rig.kernel.workers.threads = True
        rig.device.disk._nowait = False
        expected: dict[str, Any] = {}
        await asyncio.gather(*(worker(rig, number, seed, expected) for number in range(6)))
        await rig.sync()
        assert fsck(image) == ""
        await rig.reclaim()
        tree = await rig.tree()
        del tree["/lost+found"]
        assert tree == expected
        await rig.umount()
    assert fsck(image) == ""
    assert rig.kernel.messages == []


async def worker(rig: Rig, number: int, seed: int, expected: dict[str, Any]) -> None:
    """Works in a directory of its own."""
    rng = random.Random(seed * 100 + number)
    home = f"/w{number}"
    async with held(rig.sb.root.lock):
        await rig.mkdir(home)
    expected[home] = None
    model: dict[str, bytes] = {}
    for _ in range(60):
        name = f"{home}/{rng.choice('abcd')}{'n' * rng.choice([1, 100, 200])}"
        kind = rng.random()
        if kind < 0.5:
            if name not in model:
                await rig.create(name)
                model[name] = b""
            pos, data = rng.randrange(0, 50_000), rng.randbytes(rng.randrange(1, 30_000))
            await rig.write(name, pos, data)
            old = model[name].ljust(pos, b"\0")
            model[name] = old[:pos] + data + old[pos + len(data) :]
        elif kind < 0.6 and model:
            await rig.fsync(rng.choice(sorted(model)))
        elif kind < 0.7 and model:
            victim = rng.choice(sorted(model))
            size = rng.randrange(40_000)
            await rig.truncate(victim, size)
            model[victim] = model[victim][:size].ljust(size, b"\0")
        elif kind < 0.8 and model:
            old_name = rng.choice(sorted(model))
            await rig.rename(old_name, name)
            model[name] = model.pop(old_name)
        elif kind < 0.9 and model:
            victim = rng.choice(sorted(model))
            await rig.unlink(victim)
            del model[victim]
        else:
            await rig.sync()
    expected.update(model)


class held:
    """A kernel mutex, taken by a test."""

    def __init__(self, mutex: Any) -> None:
        self.mutex = mutex

    async def __aenter__(self) -> None:
        await drive(self.mutex.__aenter__())

    async def __aexit__(self, *_: object) -> None:
        await drive(self.mutex.__aexit__(None, None, None))
