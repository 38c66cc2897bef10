"""Seeded random file operations on ext2 leave what they leave on the host's tmpfs."""

from __future__ import annotations

import errno
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import pagecache
from support.ext2rig import Rig, fsck, make_image, physical_memory
from uvm_async.errors import Errno
from uvm_async.mm.frames import Frames

STEPS = 500
NAMES = ["a", "b", "c", "d", "e" * 60, "f" * 255, "g.txt"]
WEIGHTS = {
    "create": 10,
    "mkdir": 3,
    "symlink": 3,
    "link": 4,
    "unlink": 8,
    "rmdir": 2,
    "rename": 8,
    "write": 20,
    "sparse": 4,
    "truncate": 8,
    "open": 3,
    "close": 3,
}
DIRS = ["", "/p", "/q", "/p/r"]


@pytest.fixture
def mirror() -> Iterator[Path]:
    """A directory of the host's tmpfs."""
    directory = tempfile.mkdtemp(dir="/dev/shm")
    yield Path(directory)
    shutil.rmtree(directory)


class Mirror:
    """The same operations on the host."""

    def __init__(self, root: Path) -> None:
        self.root = os.fspath(root)
        self.files: dict[str, int] = {}

    def at(self, path: str) -> str:
        return self.root + path

    def create(self, path: str) -> None:
        os.close(os.open(self.at(path), os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644))

    def mkdir(self, path: str) -> None:
        os.mkdir(self.at(path), 0o755)

    def symlink(self, target: str, path: str) -> None:
        os.symlink(target, self.at(path))

    def link(self, old: str, new: str) -> None:
        os.link(self.at(old), self.at(new), follow_symlinks=False)

    def unlink(self, path: str) -> None:
        os.unlink(self.at(path))

    def rmdir(self, path: str) -> None:
        os.rmdir(self.at(path))

    def rename(self, old: str, new: str) -> None:
        os.rename(self.at(old), self.at(new))

    def fd(self, path: str) -> int:
        known = self.files.get(path)
        return os.dup(known) if known else os.open(self.at(path), os.O_RDWR | os.O_NOFOLLOW)

    def write(self, path: str, pos: int, data: bytes) -> int:
        fd = self.fd(path)
        try:
            return os.pwrite(fd, data, pos)
        finally:
            os.close(fd)

    def truncate(self, path: str, size: int) -> None:
        fd = self.fd(path)
        try:
            os.ftruncate(fd, size)
        finally:
            os.close(fd)

    def read(self, path: str) -> bytes:
        fd = self.fd(path)
        try:
            return os.pread(fd, os.fstat(fd).st_size, 0)
        finally:
            os.close(fd)

    def open(self, path: str, handle: str) -> None:
        self.files[handle] = self.fd(path)

    def close(self, handle: str) -> None:
        os.close(self.files.pop(handle))

    def tree(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for folder, directories, files in os.walk(self.root):
            for name in directories + files:
                path = os.path.join(folder, name)
                key = path[len(self.root) :]
                if os.path.islink(path):
                    found[key] = "-> " + os.readlink(path)
                elif os.path.isdir(path):
                    found[key] = None
                else:
                    found[key] = Path(path).read_bytes()
        return found


def choose(rng: random.Random, handles: list[str], *, big: int) -> tuple[Any, ...]:
    """One operation and its arguments."""

    def path() -> str:
        return f"{rng.choice(DIRS)}/{rng.choice(NAMES)}"

    def file() -> str:
        return rng.choice(handles) if handles and rng.random() < 0.3 else path()

    kind = rng.choices(
        [
            "create",
            "mkdir",
            "symlink",
            "link",
            "unlink",
            "rmdir",
            "rename",
            "write",
            "sparse",
            "truncate",
            "open",
            "close",
        ],
        [10, 3, 3, 4, 8, 2, 8, 20, 4, 8, 3, 3],
    )[0]
    if kind in ("create", "unlink"):
        return kind, path()
    if kind == "mkdir":
        return kind, rng.choice([*DIRS[1:], path()])
    if kind == "rmdir":
        return kind, rng.choice([*DIRS[1:], path()])
    if kind == "symlink":
        return kind, "t" * rng.choice([1, 59, 60, 61, 500]), path()
    if kind in ("link", "rename"):
        return kind, path(), path()
    if kind == "write":
        data = rng.randbytes(rng.choice([1, 100, 1024, 4096, 10_000, big]))
        return kind, file(), rng.randrange(0, 40_000), data
    if kind == "sparse":
        return "write", file(), rng.choice([300_000, 5_000_000, 80_000_000]), rng.randbytes(3000)
    if kind == "truncate":
        return kind, file(), rng.choice([0, 1, 1000, 1024, 5000, 12 * 1024, 40_000, 300_001])
    if kind == "open":
        return kind, path(), f"@{rng.randrange(3)}"
    return (kind, rng.choice(handles)) if handles else ("create", path())


def name_of(error: OSError) -> str:
    return errno.errorcode[error.errno or 0]


async def both(rig: Rig, mirror: Mirror, operation: tuple[Any, ...]) -> None:
    """Do it here and there: the same answer, or the same errno."""
    kind, *arguments = operation
    ours: Any = None
    try:
        ours = await getattr(rig, kind)(*arguments)
    except Errno as error:
        ours = type(error).__name__
    if ours == "ENOSPC":
        return
    if kind == "write" and isinstance(ours, int) and ours < len(arguments[2]):
        arguments[2] = arguments[2][:ours]  # the disk is full: the host's is not
    theirs: Any = None
    try:
        theirs = getattr(mirror, kind)(*arguments)
    except OSError as error:
        theirs = name_of(error)
        theirs = {"ELOOP": "EINVAL"}.get(theirs, theirs)  # the rig has no VFS to say ELOOP
    assert ours == theirs, operation


async def play(
    image: Path,
    mirror_root: Path,
    seed: int,
    *,
    limit_bytes: int = 1 << 20,
    big: int,
    frames: Frames | None,
) -> None:
    """Without `frames` (and with `support.pagecache`) it is frozen and thawed on the way."""
    rng = random.Random(seed)
    rig = await Rig.mount(image, limit_bytes=limit_bytes, frames=frames)
    mirror = Mirror(mirror_root)
    mirror_root.joinpath("lost+found").mkdir()
    for step in range(STEPS):
        operation = choose(rng, list(mirror.files), big=big)
        if operation[0] == "open" and operation[2] in mirror.files:
            continue
        await both(rig, mirror, operation)
        chance = rng.random()
        if chance < 0.02:
            await rig.sync()
            if not rig.sb.orphans:
                assert fsck(image) == "", f"after step {step}"
        elif chance < 0.05:
            await rig.reclaim()
        elif chance < 0.06 and frames is None:
            rig = await rig.refrozen()
    for handle in list(mirror.files):
        assert await rig.read(handle) == mirror.read(handle)
        await rig.close(handle)
        mirror.close(handle)
    await rig.sync()
    assert fsck(image) == ""
    await rig.reclaim()
    rig.device.cache.drop_clean()
    assert await rig.tree() == mirror.tree()
    assert rig.sb.reserved_blocks == rig.sb.frozen_blocks == rig.sb.frozen_inodes == 0
    await rig.umount()
    assert fsck(image) == ""
    assert rig.kernel.messages == []
    # And once more as somebody who comes later sees it.
    rig = await Rig.mount(image, read_only=True, frames=frames)
    assert await rig.tree() == mirror.tree()
    await rig.umount()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("block_size", [1024, 2048, 4096])
async def test_random_operations_leave_what_they_leave_on_tmpfs(
    tmp_path: Path, mirror: Path, block_size: int, seed: int
) -> None:
    image = make_image(tmp_path / "disk", size="64M", block_size=block_size)
    with physical_memory(256 << 20) as frames:
        await play(image, mirror, seed, big=70_000, frames=frames)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("block_size", [1024, 4096])
async def test_random_operations_on_a_disk_that_is_always_full(
    tmp_path: Path, mirror: Path, block_size: int, seed: int
) -> None:
    image = make_image(
        tmp_path / "disk", size="1M", block_size=block_size, options=("-N", "32", "-m", "0")
    )
    with physical_memory(256 << 20) as frames:
        await play(image, mirror, 100 + seed, big=200_000, frames=frames)


@pytest.mark.parametrize("inode_size", ["128", "256"])
@pytest.mark.parametrize("block_size", [1024, 4096])
async def test_random_operations_with_hardly_any_buffers_and_many_freezes(
    tmp_path: Path,
    mirror: Path,
    block_size: int,
    inode_size: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pagecache.install(monkeypatch)
    image = make_image(
        tmp_path / "disk", size="32M", block_size=block_size, options=("-I", inode_size)
    )
    await play(image, mirror, 7, limit_bytes=8 * block_size, big=70_000, frames=None)
