"""Whenever the power fails, after `e2fsck -fy` what was fsynced is whole.

The log of a run says what reached the backing file and when it was flushed.  A cut
takes all writes up to some flush, and any of those after it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from support.ext2rig import Log, Rig, fsck, make_image, physical_memory, repair
from uvm_async.errors import Errno
from uvm_async.mm.frames import Frames

STEPS = 120
CUTS = 30
NAMES = [f"/{directory}{name}" for directory in ("", "x/", "y/", "y/z/") for name in "abcd"]
PADDING = "n" * 200
"""Long names fill many directory blocks, so that names move between blocks."""


@pytest.fixture
def frames() -> Iterator[Frames]:
    with physical_memory() as found:
        yield found


@dataclass
class File:
    """One inode of the workload, as it was when all of it was last stable."""

    contents: bytes = b""
    """In memory."""
    stable: bytes | None = None
    """None: never fsynced, or changed since."""
    names: set[str] = field(default_factory=set)


@dataclass
class Stable:
    """What a cut after a moment of the log must find."""

    position: int
    files: list[tuple[bytes, set[str]]] = field(default_factory=list)
    """Contents, and all the names it has, or has had since."""
    changed: set[int] = field(default_factory=set)
    """Indices of files that were written or truncated since."""
    deleted: set[int] = field(default_factory=set)
    """Indices of files that have lost their last name since."""
    loose: set[str] = field(default_factory=set)
    """Names that files of which nothing is promised have, or have had since."""


class Workload:
    """Random operations on few names, and what is promised at each moment."""

    def __init__(self, rig: Rig, rng: random.Random) -> None:
        self.rig = rig
        self.rng = rng
        self.files: dict[str, File] = {}
        self.moments = [Stable(0)]
        self.index: dict[int, int] = {}
        """Where in the latest moment a file is, by its id; `born` keeps ids from being reused."""
        self.born: list[File] = []

    @property
    def now(self) -> Stable:
        """The latest moment, extended by what has happened since."""
        return self.moments[-1]

    def became_stable(self) -> None:
        """An fsync has returned: all metadata is stable, and contents of files not changed."""
        moment = Stable(len(self.rig.log.events))
        self.index = {}
        for file in {id(f): f for f in self.files.values()}.values():
            if file.stable is not None:
                self.index[id(file)] = len(moment.files)
                moment.files.append((file.stable, set(file.names)))
            else:
                moment.loose |= file.names
        self.moments.append(moment)

    def will_have(self, file: File, name: str) -> None:
        """It is about to get a name."""
        if id(file) in self.index:
            self.now.files[self.index[id(file)]][1].add(name)
        else:
            self.now.loose.add(name)

    def will_change(self, file: File) -> None:
        """Its contents are about to change."""
        file.stable = None
        if id(file) in self.index:
            self.now.changed.add(self.index[id(file)])

    def will_lose(self, name: str) -> None:
        old = self.files[name]
        if len(old.names) == 1 and id(old) in self.index:
            self.now.deleted.add(self.index[id(old)])

    async def step(self) -> None:
        rng = self.rng
        kind = rng.choices(
            ["write", "truncate", "rename", "link", "unlink", "fsync", "replace"],
            [20, 4, 16, 6, 6, 10, 6],
        )[0]
        name = rng.choice(NAMES) + PADDING
        known = sorted(self.files)
        if kind == "write" or not known:
            await self._write(
                name, rng.randrange(3) * 3000, rng.randbytes(rng.choice([10, 5000, 30_000]))
            )
            return
        old = rng.choice(known)
        if kind == "truncate":
            await self._truncate(old, rng.choice([0, 700, 9000]))
        elif kind == "rename":
            await self._rename(old, name)
        elif kind == "link" and name not in self.files:
            file = self.files[old]
            self.will_have(file, name)
            await self.rig.link(old, name)
            file.names.add(name)
            self.files[name] = file
        elif kind == "unlink":
            self.will_lose(old)
            self.files.pop(old).names.discard(old)
            await self.rig.unlink(old)
        elif kind == "fsync":
            await self._fsync(old)
        elif kind == "replace":
            # What careful programs do: write beside, fsync, rename over.
            beside = "/tmp" + PADDING
            await self._write(beside, 0, rng.randbytes(6000))
            await self._fsync(beside)
            await self._rename(beside, old)

    async def _write(self, name: str, pos: int, data: bytes) -> None:
        if name not in self.files:
            self.files[name] = File(names={name})
            self.born.append(self.files[name])
            self.will_have(self.files[name], name)
            await self.rig.create(name)
        file = self.files[name]
        self.will_change(file)
        await self.rig.write(name, pos, data)
        old = file.contents.ljust(pos, b"\0")
        file.contents = old[:pos] + data + old[pos + len(data) :]

    async def _truncate(self, name: str, size: int) -> None:
        file = self.files[name]
        self.will_change(file)
        await self.rig.truncate(name, size)
        file.contents = file.contents[:size].ljust(size, b"\0")

    async def _rename(self, old: str, new: str) -> None:
        file = self.files[old]
        if self.files.get(new) is file:
            return
        if new in self.files:
            self.will_lose(new)
            self.files[new].names.discard(new)
        self.will_have(file, new)
        await self.rig.rename(old, new)
        del self.files[old]
        file.names.discard(old)
        file.names.add(new)
        self.files[new] = file

    async def _fsync(self, name: str) -> None:
        await self.rig.fsync(name)
        file = self.files[name]
        file.stable = file.contents
        self.became_stable()


def cut_image(before: bytes, log: Log, position: int, rng: random.Random) -> bytes:
    """The disk if the power fails after `position` events: what was flushed, some of the rest."""
    disk = bytearray(before)
    events = log.events[:position]
    flushed = max((at for at, event in enumerate(events) if event is None), default=-1)
    keep = rng.choice([0.0, 0.3, 0.7, 1.0])
    for at, event in enumerate(events):
        if event is not None and (at < flushed or rng.random() < keep):
            offset, data = event
            disk[offset : offset + len(data)] = data
    return bytes(disk)


async def check(image: Path, moment: Stable, frames: Frames) -> None:
    """Everything promised is there, in a file system that is clean after the repair."""
    repair(image)
    assert fsck(image) == ""
    rig = await Rig.mount(image, read_only=True, frames=frames)
    tree = await rig.tree()
    await rig.umount()
    allowed: dict[str, list[bytes]] = {}
    loose = set(moment.loose)
    for index, (contents, names) in enumerate(moment.files):
        for name in names:
            allowed.setdefault(name, []).append(contents)
        if index in moment.changed:
            loose |= names
        elif index not in moment.deleted:
            found = [name for name in names if tree.get(name) == contents]
            assert found, f"a file of {len(contents)} bytes has none of its names {sorted(names)}"
    for name in allowed.keys() - loose:
        assert tree.get(name) in (None, *allowed[name]), f"{name} has somebody else's contents"


async def run_and_cut(tmp_path: Path, seed: int, block_size: int, frames: Frames) -> None:
    image = make_image(tmp_path / "disk", size="8M", block_size=block_size)
    before = image.read_bytes()
    rng = random.Random(seed)
    rig = await Rig.mount(image, frames=frames)
    work = Workload(rig, rng)
    for directory in ("/x", "/y", "/y/z"):
        await rig.mkdir(directory)
    await rig.sync()
    work.became_stable()
    for _ in range(STEPS):
        await work.step()
    await rig.umount()
    assert fsck(image) == ""
    length = len(rig.log.events)
    flushes = [at + 1 for at, event in enumerate(rig.log.events) if event is None]
    cuts = rng.sample(flushes, min(CUTS // 2, len(flushes)))
    cuts += [rng.randrange(1, length) for _ in range(CUTS // 2)]
    cut = tmp_path / "cut"
    for position in cuts:
        cut.write_bytes(cut_image(before, rig.log, position, rng))
        moment = [m for m in work.moments if m.position <= position][-1]
        await check(cut, moment, frames)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("block_size", [1024, 4096])
async def test_a_power_cut_at_any_moment_leaves_every_fsynced_file_whole(
    tmp_path: Path, frames: Frames, block_size: int, seed: int
) -> None:
    await run_and_cut(tmp_path, seed, block_size, frames)


async def test_an_image_is_clean_at_the_end_of_each_fsync(tmp_path: Path, frames: Frames) -> None:
    image = make_image(tmp_path / "disk", size="8M", block_size=1024)
    rig = await Rig.mount(image, frames=frames)
    rng = random.Random(1)
    work = Workload(rig, rng)
    for directory in ("/x", "/y", "/y/z"):
        await rig.mkdir(directory)
    for _ in range(40):
        await work.step()
        if work.files:
            await work._fsync(sorted(work.files)[0])
            assert fsck(image) == ""
    await rig.umount()


async def test_an_unlinked_open_file_is_cleaned_up_after_a_crash(
    tmp_path: Path, frames: Frames
) -> None:
    image = make_image(tmp_path / "disk", size="8M", block_size=1024)
    rig = await Rig.mount(image, frames=frames)
    for number in range(3):
        await rig.create(f"/f{number}")
        await rig.write(f"/f{number}", 0, bytes(100_000))
        await rig.open(f"/f{number}", f"@{number}")
        await rig.unlink(f"/f{number}")
    await rig.create("/kept")
    await rig.write("/kept", 0, b"kept")
    await rig.fsync("/kept")
    crashed = tmp_path / "crashed"
    crashed.write_bytes(image.read_bytes())
    said = repair(crashed)
    assert said.count("Clearing orphaned inode") == 3
    assert fsck(crashed) == ""
    for number in range(3):
        assert await rig.read(f"@{number}") == bytes(100_000)
        await rig.close(f"@{number}")
    await rig.umount()
    assert fsck(image) == ""


async def test_a_failing_disk_is_eio_and_what_was_fsynced_stays(
    tmp_path: Path, frames: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = make_image(tmp_path / "disk", size="8M", block_size=1024)
    rig = await Rig.mount(image, frames=frames)
    await rig.create("/safe")
    await rig.write("/safe", 0, b"safe" * 1000)
    await rig.fsync("/safe")
    from uvm_async.block import disk as disk_module

    real = disk_module._write_all

    def full(fd: int, request: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk_module, "_write_all", full)
    await rig.create("/lost")
    with pytest.raises(Errno.EIO):
        await rig.fsync("/lost")
    assert any("No space left" in message for message in rig.kernel.messages)
    assert fsck(image) == ""
    monkeypatch.setattr(disk_module, "_write_all", real)
    await rig.fsync("/lost")  # nothing was forgotten
    await rig.umount()
    assert fsck(image) == ""
    rig = await Rig.mount(image, read_only=True, frames=frames)
    assert await rig.read("/safe") == b"safe" * 1000
    assert await rig.read("/lost") == b""
    await rig.umount()
