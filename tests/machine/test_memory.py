"""Memory shortage: page caches give way, greedy tasks die, the machine lives."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from support.guests import Builder
from uvm_async import Machine

pytestmark = [pytest.mark.machine, pytest.mark.fixed_machine]

FILE_BYTES = 512 << 20


@pytest.fixture(scope="module")
def big_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """512 MiB that no two pages of are alike."""
    path = tmp_path_factory.mktemp("big") / "file"
    path.parent.chmod(0o755)
    with path.open("wb") as out:
        for block in range(FILE_BYTES >> 20):
            out.write(bytes((block * 7 + i) & 0xFF for i in range(4096)) * 256)
    return path


def on_host(program: Path, *arguments: str) -> bytes:
    return subprocess.run([program, *arguments], check=True, capture_output=True).stdout


@pytest.mark.timeout(300)
async def test_file_larger_than_memory_is_mapped_and_summed_twice(
    big_file: Path, guests: Builder
) -> None:
    program = guests.build("sum_mapped")
    async with Machine(memory="128M") as m:
        result = await m.run([str(program), "read", str(big_file)])
    assert (result.returncode, result.stdout) == (0, on_host(program, "read", str(big_file)))


@pytest.mark.timeout(600)
async def test_dirty_shared_mapping_larger_than_memory_reaches_the_disk(
    big_file: Path, guests: Builder, tmp_path: Path
) -> None:
    program, image = guests.build("sum_mapped"), tmp_path / "disk"
    size = f"{(FILE_BYTES >> 10) + 65536}k"
    subprocess.run(["mke2fs", "-q", "-t", "ext2", "-d", big_file.parent, image, size], check=True)
    script = f"mount -t ext2 /dev/vda /mnt && {program} write /mnt/file && umount /mnt"
    async with Machine(memory="128M", disks=[image]) as m:
        result = await m.run(["/bin/sh", "-c", script])
    assert (result.returncode, result.stderr) == (0, b"")
    assert subprocess.run(["e2fsck", "-fn", image], capture_output=True).returncode == 0
    copy = tmp_path / "copy"
    subprocess.run(["debugfs", "-R", f"dump /file {copy}", image], check=True, capture_output=True)
    expected = on_host(program, "write", str(big_file))
    assert result.stdout == expected
    assert copy.read_bytes() == big_file.read_bytes()


async def test_greedy_task_is_killed_and_the_machine_lives(guests: Builder) -> None:
    async with Machine(memory="64M") as m:
        free = m.kernel.frames.free()
        script = f"{guests.build('memory_hog')}; echo $?; echo alive"
        result = await m.run(["/bin/sh", "-c", script])
        assert result.stdout == b"137\nalive\n"
        assert (await m.run(["/bin/true"])).returncode == 0
        assert m.kernel.frames.free() > free - 2048
