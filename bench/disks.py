"""Blocks of a disk, beside the same on its backing file.

The guest's memory is smaller than the disk, so that its buffer cache cannot hold
it; the host's page cache holds all of it on both sides.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator

from uvm_async.bench.contest import Result
from uvm_async.bench.figures import Plan

GUEST_MEMORY = "64M"
DISK_BYTES = 192 << 20
DEVICE = "/dev/vda"
CHUNK = 1 << 20
MODES = {
    0: "disk: read in order, 64 KiB",
    1: "disk: write in order, 64 KiB, fdatasync every 32",
    2: "disk: read at random, 4 KiB",
    3: "disk: write at random, 4 KiB, fdatasync every 32",
}
BATCHES = 60


@contextlib.contextmanager
def backing_file() -> Iterator[str]:
    """A file of random bytes, whole in the host's page cache."""
    fd, path = tempfile.mkstemp(prefix="uvm-bench-disk-")
    try:
        with open(fd, "wb") as stream:
            for _ in range(DISK_BYTES // CHUNK):
                stream.write(os.urandom(CHUNK))
        yield path
    finally:
        os.unlink(path)


async def measure(plan: Plan) -> list[Result]:
    """Reads and writes, in order and at random; a sample is one operation."""
    path = plan.machine.disks[0]
    results = []
    for mode, what in MODES.items():
        count = plan.count(BATCHES)
        contestants = [
            plan.guest("blocks", count, mode, DEVICE),
            plan.host("blocks", count, mode, path),
        ]
        results.append(await plan.compete(what, what, contestants))
    return results
