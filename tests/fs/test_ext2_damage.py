"""Damaged images: a message, an errno, never anything else, and never a write on top of damage."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import struct
import subprocess
from pathlib import Path

import pytest

from support import pagecache
from support.ext2rig import Rig, make_image, tool
from uvm_async.errors import Errno

PER_SEED = 20


@pytest.fixture(autouse=True)
def plain_page_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    pagecache.install(monkeypatch)


@pytest.fixture(scope="module")
def rich_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Something of everything."""
    root = tmp_path_factory.mktemp("tree")
    rng = random.Random(0)
    (root / "big").write_bytes(rng.randbytes(400_000))
    (root / "small").write_bytes(b"small")
    os.link(root / "small", root / "hard")
    os.symlink("small", root / "fast")
    os.symlink("s" * 200, root / "slow")
    with open(root / "sparse", "wb") as sparse:
        sparse.seek(2_000_000)
        sparse.write(b"end")
    (root / "deep").mkdir()
    for number in range(150):
        (root / "deep" / f"{number}-{'x' * 40}").write_bytes(b"y" * number)
    (root / "deep" / "deeper").mkdir()
    return root


@pytest.fixture(scope="module", params=[1024, 4096])
def sound(
    request: pytest.FixtureRequest, rich_tree: Path, tmp_path_factory: pytest.TempPathFactory
) -> bytes:
    """An undamaged image."""
    path = tmp_path_factory.mktemp("sound") / "disk"
    make_image(path, size="4M", block_size=request.param, tree=rich_tree)
    return path.read_bytes()


def metadata_blocks(image: Path, block_size: int) -> list[int]:
    """Superblock, descriptors, bitmaps, inodes in use, directories, pointer blocks."""
    listing = subprocess.run([tool("dumpe2fs"), str(image)], capture_output=True, text=True).stdout
    blocks = [0, 1, 2]
    for line in listing.splitlines():
        words = line.replace(",", " ").split()
        if "bitmap at" in line or "Inode table at" in line:
            for before, word in itertools.pairwise(words):
                if before == "at":
                    first = int(word.split("-")[0])
                    blocks += range(first, first + (1 if "bitmap" in line else 12))
    for path in ("/", "/deep", "/big", "/sparse", "/slow"):
        said = subprocess.run(
            [tool("debugfs"), "-R", f"stat {path}", str(image)], capture_output=True, text=True
        ).stdout
        for part in said.split("BLOCKS:")[-1].replace("\n", " ").split():
            if part.startswith(("(IND):", "(DIND):")) or path in ("/", "/deep", "/slow"):
                number = part.rstrip(",").partition(":")[2].split("-")[0]
                if number.isdigit():
                    blocks.append(int(number))
    assert len(blocks) > 20
    return [block for block in blocks if (block + 1) * block_size <= image.stat().st_size]


async def use(rig: Rig, rng: random.Random) -> None:
    """Read everything; then change things. Errors are answers."""

    async def attempt(name: str, *arguments: object) -> None:
        with contextlib.suppress(Errno):
            await getattr(rig, name)(*arguments)

    await attempt("tree")
    for path in ("/big", "/small", "/hard", "/fast", "/slow", "/sparse", "/deep/deeper"):
        await attempt("read", path)
        await attempt("write", path, rng.randrange(300_000), rng.randbytes(5000))
        await attempt("truncate", path, rng.choice([0, 10_000, 300_000]))
        await attempt("fsync", path)
    for number in range(0, 150, 7):
        await attempt("unlink", f"/deep/{number}-{'x' * 40}")
    await attempt("create", "/new")
    await attempt("write", "/new", 0, rng.randbytes(50_000))
    await attempt("mkdir", "/deep/newer")
    await attempt("rename", "/deep/deeper", "/moved")
    await attempt("rename", "/small", "/big")
    await attempt("rmdir", "/moved")
    await attempt("unlink", "/sparse")
    await attempt("symlink", "z" * 300, "/z")
    await attempt("sync")


@pytest.mark.parametrize("seed", range(16))
async def test_flipped_bytes_in_metadata_are_never_more_than_an_errno(
    tmp_path: Path, sound: bytes, seed: int
) -> None:
    block_size = 1024 << struct.unpack_from("<I", sound, 1024 + 24)[0]
    image = tmp_path / "disk"
    image.write_bytes(sound)
    blocks = metadata_blocks(image, block_size)
    rng = random.Random(seed)
    for _ in range(PER_SEED):
        damaged = bytearray(sound)
        for _ in range(rng.choice([1, 1, 2, 4, 16])):
            block = rng.choice(blocks)
            at = block * block_size + rng.randrange(block_size)
            if rng.random() < 0.4:  # where the fields are that matter most
                at = rng.choice([1024 + rng.randrange(100), block * block_size + rng.randrange(64)])
            damaged[at] ^= rng.choice([1 << rng.randrange(8), 0xFF])
        image.write_bytes(damaged)
        read_only = rng.random() < 0.3
        try:
            rig = await Rig.mount(image, read_only=read_only)
        except Errno:
            assert image.read_bytes() == damaged
            continue
        could_write = not rig.sb.read_only
        rig.read_most = 3_000_000
        await use(rig, rng)
        if rig.sb.broken:
            assert any("damaged" in message for message in rig.kernel.messages)
            after = image.read_bytes()
            await use(rig, rng)
            assert image.read_bytes() == after
        await rig.umount()
        if not could_write:
            assert image.read_bytes() == damaged


async def refused(image: Path) -> str:
    """The message with which mounting `image` is refused; it is not touched."""
    before = image.read_bytes()
    from support.ext2rig import RigKernel, drive, open_device
    from uvm_async.fs.ext2.mount import mount_device

    kernel = RigKernel()
    device = await open_device(kernel, image)
    with pytest.raises(Errno.EINVAL):
        await drive(mount_device(kernel, device, read_only=False))  # type: ignore[arg-type]
    await device.disk.close()
    assert image.read_bytes() == before
    (message,) = kernel.messages
    return message


async def read_only_because(image: Path) -> str:
    """The message with which `image` is mounted, but read-only; it is not touched."""
    before = image.read_bytes()
    rig = await Rig.mount(image)
    with pytest.raises(Errno.EROFS):
        await rig.create("/new")
    assert await rig.walk("/lost+found") is not None
    await rig.sync()
    await rig.umount()
    assert image.read_bytes() == before
    (message,) = rig.kernel.messages
    return message


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("-O", "extent"), "extents"),
        (("-O", "64bit,extent"), "64bit"),
        (("-O", "meta_bg,^resize_inode"), "meta_bg"),
        (("-O", "mmp"), "mmp"),
        (("-O", "inline_data,extra_isize,ext_attr"), "inline_data"),
        (("-O", "encrypt"), "encrypt"),
        (("-O", "large_dir"), "large_dir"),
        (("-O", "ea_inode,ext_attr"), "ea_inode"),
        (("-O", "casefold"), "casefold"),
    ],
)
async def test_an_unsupported_feature_is_named_and_refused(
    tmp_path: Path, options: tuple[str, ...], word: str
) -> None:
    assert word in await refused(make_image(tmp_path / "disk", options=options))


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("-O", "metadata_csum"), "metadata_csum"),
        (("-O", "uninit_bg"), "uninit_bg"),
        (("-O", "huge_file"), "huge_file"),
        (("-O", "quota"), "quota"),
        (("-O", "project,quota"), "project"),
    ],
)
async def test_a_feature_that_only_readers_may_ignore_makes_it_read_only(
    tmp_path: Path, options: tuple[str, ...], word: str
) -> None:
    image = make_image(tmp_path / "disk", options=("-I", "256", *options))
    assert word in await read_only_because(image)


async def test_a_disk_without_ext2_is_refused(tmp_path: Path) -> None:
    image = tmp_path / "disk"
    image.write_bytes(bytes(1 << 20))
    assert "magic" in await refused(image)
    image.write_bytes(bytes(1024))
    assert "too small" in await refused(image)


async def test_a_journal_that_needs_recovery_is_refused(tmp_path: Path) -> None:
    image = make_image(tmp_path / "disk", size="16M", options=("-O", "has_journal"))
    patch(image, 1024 + 96, "<I", lambda incompat: incompat | 4)
    assert "journal needs recovery" in await refused(image)


async def test_a_clean_journal_is_no_obstacle(tmp_path: Path) -> None:
    image = make_image(tmp_path / "disk", size="16M", options=("-O", "has_journal"))
    rig = await Rig.mount(image)
    await rig.create("/new")
    await rig.umount()
    assert rig.kernel.messages == []


def patch(image: Path, offset: int, code: str, change: object) -> None:
    data = bytearray(image.read_bytes())
    (old,) = struct.unpack_from(code, data, offset)
    struct.pack_into(code, data, offset, change(old))  # type: ignore[operator]
    image.write_bytes(data)


@pytest.mark.parametrize(
    ("offset", "code", "value", "word"),
    [
        (0, "<I", 0, "inodes"),
        (4, "<I", 1 << 30, "blocks"),
        (4, "<I", 1, "blocks"),
        (20, "<I", 5, "first data block"),
        (24, "<I", 7, "block size"),
        (32, "<I", 0, "blocks in a group"),
        (40, "<I", 0, "inodes in a group"),
        (84, "<I", 0, "first inode"),
        (88, "<H", 100, "inode size"),
        (76, "<I", 9, "revision"),
        (12, "<I", 1 << 30, "free"),
    ],
)
async def test_a_damaged_superblock_is_refused_by_name(
    tmp_path: Path, offset: int, code: str, value: int, word: str
) -> None:
    image = make_image(tmp_path / "disk")
    patch(image, 1024 + offset, code, lambda _: value)
    assert word in await refused(image)


@pytest.mark.parametrize(
    ("offset", "code", "value", "word"),
    [
        (0, "<I", 0, "block bitmap"),
        (4, "<I", 1 << 30, "inode bitmap"),
        (8, "<I", 8190, "inode table"),
        (12, "<H", 60000, "free blocks"),
        (14, "<H", 60000, "free inodes"),
        (16, "<H", 60000, "directories"),
    ],
)
async def test_a_damaged_group_descriptor_is_refused_by_name(
    tmp_path: Path, offset: int, code: str, value: int, word: str
) -> None:
    image = make_image(tmp_path / "disk")
    patch(image, 2048 + offset, code, lambda _: value)
    assert word in await refused(image)


async def test_two_descriptors_that_claim_one_block_are_refused(tmp_path: Path) -> None:
    image = make_image(tmp_path / "disk")
    first = struct.unpack_from("<I", image.read_bytes(), 2048)[0]
    patch(image, 2048 + 4, "<I", lambda _: first)
    assert "two of them claim" in await refused(image)


async def test_an_image_that_was_not_unmounted_is_read_only(tmp_path: Path) -> None:
    image = make_image(tmp_path / "disk")
    patch(image, 1024 + 58, "<H", lambda state: state & ~1)
    assert "not cleanly unmounted" in await read_only_because(image)


async def test_an_image_with_errors_is_read_only(tmp_path: Path) -> None:
    image = make_image(tmp_path / "disk")
    patch(image, 1024 + 58, "<H", lambda state: state | 2)
    assert "has errors" in await read_only_because(image)


async def test_a_machine_that_dies_leaves_an_image_that_says_so(tmp_path: Path) -> None:
    image = make_image(tmp_path / "disk")
    rig = await Rig.mount(image)
    await rig.device.disk.close()
    assert "not cleanly unmounted" in await read_only_because(image)


async def test_damage_met_later_stops_all_writing(tmp_path: Path, rich_tree: Path) -> None:
    image = make_image(tmp_path / "disk", tree=rich_tree)
    # The bitmap of the first group says that everything is free.
    bitmap = struct.unpack_from("<I", image.read_bytes(), 2048)[0]
    patch(image, bitmap * 1024, "<Q", lambda _: 0)
    rig = await Rig.mount(image)
    await rig.create("/new")
    await rig.write("/new", 0, b"data")
    before = image.read_bytes()
    with pytest.raises(Errno.EIO):
        await rig.fsync("/new")
    with pytest.raises(Errno.EROFS):
        await rig.create("/newer")
    assert await rig.read("/small") == b"small"
    await rig.umount()
    assert image.read_bytes() == before
    assert "bitmap of group 0" in rig.kernel.messages[0]
