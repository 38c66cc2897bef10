"""The request queue: merging, order of service, barriers, conflicts, bounds."""

from __future__ import annotations

import asyncio
import random

import pytest

from uvm_async.block.bio import Bio, Op, discard_bio, flush_bio, read_bio, write_bio
from uvm_async.block.queue import MERGE_BYTES, Request, RequestQueue
from uvm_async.errors import Errno

SECTOR = 512


class Performer:
    """Records requests; each is finished when the test says so, or after some turns."""

    def __init__(self, *, turns: int = 3, rng: random.Random | None = None) -> None:
        self.started: list[Request] = []
        self.finished: list[Request] = []
        self.turns = turns
        self.rng = rng
        self.running = 0
        self.most_running = 0
        self.disk = bytearray(1 << 16)
        self.fail = False

    async def __call__(self, request: Request) -> None:
        self.started.append(request)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        for _ in range(self.rng.randrange(6) if self.rng else self.turns):
            await asyncio.sleep(0)
        self.running -= 1
        if self.fail:
            raise OSError(5, "broken")
        for bio in request.bios:
            if bio.op is Op.WRITE:
                self.disk[bio.offset : bio.end] = bio.data
            elif bio.op is Op.READ:
                bio.data = bytes(self.disk[bio.offset : bio.end])
            elif bio.op is Op.DISCARD:
                self.disk[bio.offset : bio.end] = bytes(bio.length)
        self.finished.append(request)


def sector(number: int, fill: int = 1) -> Bio:
    return write_bio(number * SECTOR, bytes([fill]) * SECTOR)


async def test_neighbours_become_one_request() -> None:
    perform = Performer()
    queue = RequestQueue(perform)
    await queue.run([sector(3), sector(1), sector(2), sector(9)])
    assert [(r.start, r.end) for r in perform.started] == [(512, 2048), (4608, 5120)]
    assert queue.merged == 2
    assert queue.idle


async def test_bios_of_different_submitters_merge() -> None:
    perform = Performer()
    queue = RequestQueue(perform)
    await asyncio.gather(*(queue.run([sector(number)]) for number in (4, 2, 3)))
    assert [(r.start, r.end) for r in perform.started] == [(1024, 2560)]


async def test_merging_is_bounded() -> None:
    perform = Performer()
    queue = RequestQueue(perform)
    piece = MERGE_BYTES // 4
    perform.disk = bytearray(8 * piece)
    await queue.run([write_bio(number * piece, bytes(piece)) for number in range(8)])
    assert max(r.end - r.start for r in perform.started) == MERGE_BYTES


async def test_reads_and_writes_do_not_merge() -> None:
    perform = Performer()
    await RequestQueue(perform).run([sector(0), read_bio(SECTOR, SECTOR), sector(2)])
    assert len(perform.started) == 3


async def test_requests_are_served_in_one_direction() -> None:
    perform = Performer()
    queue = RequestQueue(perform, depth=1)
    await queue.run([sector(20)])
    order = [40, 10, 30, 5, 50]
    await queue.run([sector(number) for number in order])
    assert [r.start // SECTOR for r in perform.started[1:]] == [30, 40, 50, 5, 10]


async def test_what_overlaps_keeps_its_order() -> None:
    perform = Performer()
    queue = RequestQueue(perform)
    read = read_bio(0, 2 * SECTOR)
    await queue.run([sector(0, 1), sector(1, 1), read, sector(0, 2)])
    assert read.data == b"\1" * 1024
    assert perform.disk[:512] == b"\2" * 512


async def test_a_flush_waits_for_all_before_it_and_holds_up_all_after() -> None:
    perform = Performer()
    await RequestQueue(perform).run([sector(5), sector(9), flush_bio(), sector(1)])
    kinds = [(r.op, r.start // SECTOR) for r in perform.finished]
    assert kinds[2][0] is Op.FLUSH
    assert set(kinds[:2]) == {(Op.WRITE, 5), (Op.WRITE, 9)}
    assert kinds[3] == (Op.WRITE, 1)


async def test_fua_and_preflush_become_flushes_around_the_write() -> None:
    perform = Performer()
    await RequestQueue(perform).run([write_bio(0, bytes(512), preflush=True, fua=True)])
    assert [r.op for r in perform.finished] == [Op.FLUSH, Op.WRITE, Op.FLUSH]


async def test_depth_bounds_what_runs() -> None:
    perform = Performer()
    queue = RequestQueue(perform, depth=4)
    await queue.run([sector(number * 2) for number in range(50)])
    assert perform.most_running == 4


async def test_submitters_wait_when_the_queue_is_full() -> None:
    perform = Performer()
    queue = RequestQueue(perform, depth=1, limit=3)
    await asyncio.gather(*(queue.run([sector(n * 2), sector(n * 2 + 50)]) for n in range(20)))
    assert len(perform.finished) == 40
    assert queue.idle


async def test_a_failure_is_eio_for_its_bios_and_no_others() -> None:
    perform = Performer()
    queue = RequestQueue(perform)
    bad = [sector(1), sector(2)]
    perform.fail = True
    await queue.run(bad)
    perform.fail = False
    good = sector(3)
    await queue.run([good])
    assert [bio.error for bio in (*bad, good)] == [Errno.EIO, Errno.EIO, None]


async def test_a_flush_that_fails_fails_the_fua_write() -> None:
    perform = Performer()
    write = write_bio(0, bytes(512), fua=True)
    queue = RequestQueue(perform)

    async def only_flushes_fail(request: Request) -> None:
        if request.op is Op.FLUSH:
            raise OSError(5, "broken")

    queue._perform = only_flushes_fail
    await queue.run([write])
    assert write.error is Errno.EIO


@pytest.mark.parametrize("seed", range(20))
async def test_many_submitters_see_what_a_disk_without_a_queue_shows(seed: int) -> None:
    """Each submitter has its own region, and one is shared by writers in turn."""
    rng = random.Random(seed)
    perform = Performer(rng=rng)
    queue = RequestQueue(perform, depth=rng.choice([1, 3, 32]), limit=rng.choice([4, 64]))

    async def submitter(region: int) -> None:
        model = bytearray(8192)
        base = region * 8192
        for _ in range(40):
            start = rng.randrange(16) * SECTOR
            length = rng.randrange(1, 17 - start // SECTOR) * SECTOR
            kind = rng.random()
            if kind < 0.4:
                data = rng.randbytes(length)
                model[start : start + length] = data
                bio = write_bio(base + start, data, fua=rng.random() < 0.1)
                read = read_bio(base, 8192)
                await queue.run([bio, read])  # ordered, though submitted together
                assert read.data == model
            elif kind < 0.5:
                model[start : start + length] = bytes(length)
                await queue.run([discard_bio(base + start, length)])
            elif kind < 0.6:
                await queue.run([flush_bio()])
            else:
                read = read_bio(base + start, length)
                await queue.run([read])
                assert read.data == model[start : start + length]

    await asyncio.gather(*(submitter(region) for region in range(8)))
    assert queue.idle
