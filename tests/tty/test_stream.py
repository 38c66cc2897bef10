"""Standard streams that the embedder feeds and drains."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import Any

import pytest

from fs.driver import FakeTask, Sim
from uvm_async.errors import Errno
from uvm_async.mm.iov import KernelIter
from uvm_async.state import dump_graph, load_graph
from uvm_async.tty.stream import StreamFile, StreamIn, StreamOut, open_stream


@pytest.fixture
def sim() -> Iterator[Sim]:
    sim = Sim.boot(4 << 20)
    yield sim
    sim.close()


def reader(sim: Sim, stream: StreamIn, count: int, task: FakeTask | None = None) -> Any:
    """Begin a read; answers (call, what it has read)."""
    file = open_stream(sim.kernel, stream)
    it: list[KernelIter] = []

    async def read() -> bytes:
        it[:] = [KernelIter(room=count)]
        await file.read_iter(task, it[0])  # type: ignore[arg-type]
        return bytes(it[0].data)

    task = task or sim.task()
    return sim.start(task, read)


def writer(sim: Sim, file: StreamFile, data: bytes) -> Any:
    task = sim.task()

    async def write() -> int:
        return await file.write_iter(task, KernelIter(data))  # type: ignore[arg-type]

    return sim.start(task, write)


def test_reader_waits_for_bytes_and_gets_what_has_come(sim: Sim) -> None:
    stream = StreamIn()
    asked: list[int] = []
    stream.wanted = lambda: asked.append(stream.room)
    call = reader(sim, stream, 100)
    assert call.blocked and asked == [65536]
    stream.feed(b"abc")
    sim.settle()
    assert call.answer() == b"abc"
    assert reader(sim, stream, 100).blocked
    stream.feed_eof()
    sim.settle()
    assert reader(sim, stream, 100).answer() == b""


def test_embedder_that_feeds_when_asked_is_read_at_once(sim: Sim) -> None:
    stream = StreamIn()
    stream.wanted = lambda: stream.feed(b"x") if not stream.buffer else None
    assert reader(sim, stream, 10).answer() == b"x"


def test_filling_read_answers_the_same_however_bytes_come(sim: Sim) -> None:
    stream = StreamIn(fill=True)
    call = reader(sim, stream, 4)
    for byte in b"abcde":
        assert call.done == (len(stream.buffer) >= 4 or call.done)
        stream.feed(bytes([byte]))
        sim.settle()
    assert call.answer() == b"abcd"
    call = reader(sim, stream, 4)
    stream.feed_eof()
    sim.settle()
    assert call.answer() == b"e"


def test_writer_waits_for_room_and_writes_all(sim: Sim) -> None:
    sink = StreamOut()
    file = open_stream(sim.kernel, sink)
    data = os.urandom(200_000)
    call = writer(sim, file, data)
    got = b""
    while call.blocked:
        assert len(sink.buffer) <= 65536
        got += sink.take()
        sim.settle()
    assert call.answer() == len(data)
    assert got + sink.take() == data


def test_small_writes_are_never_torn(sim: Sim) -> None:
    sink = StreamOut()
    file = open_stream(sim.kernel, sink)
    writer(sim, file, bytes(65536 - 10)).answer()
    call = writer(sim, file, b"x" * 20)
    assert call.blocked and len(sink.buffer) == 65536 - 10
    sink.drained(5000)
    sim.settle()
    assert call.answer() == 20


def test_nobody_reads_any_more(sim: Sim) -> None:
    sink = StreamOut()
    file = open_stream(sim.kernel, sink)
    sink.hang_up()
    call = writer(sim, file, b"x")
    with pytest.raises(Errno.EPIPE):
        call.answer()
    assert sim.kernel.signals[-1][1] == 13
    assert file.poll(call.task) & 8


def test_nonblocking_files_do_not_wait(sim: Sim) -> None:
    source, sink = open_stream(sim.kernel, StreamIn()), open_stream(sim.kernel, StreamOut())
    source.flags |= os.O_NONBLOCK
    sink.flags |= os.O_NONBLOCK
    with pytest.raises(Errno.EAGAIN):
        sim.run(sim.task(), lambda: source.read_iter(None, KernelIter(room=1)))  # type: ignore[arg-type]
    assert writer(sim, sink, bytes(70000)).answer() == 65536
    with pytest.raises(Errno.EAGAIN):
        writer(sim, sink, b"x").answer()


def test_looks_like_what_it_was_said_to_be(sim: Sim) -> None:
    assert stat.S_ISFIFO(open_stream(sim.kernel, StreamIn()).inode.mode)
    null = open_stream(sim.kernel, StreamIn(), mode=stat.S_IFCHR | 0o666, rdev=os.makedev(1, 3))
    assert null.inode.rdev == os.makedev(1, 3)


def test_opening_it_again_leads_to_the_same_stream(sim: Sim) -> None:
    sink = StreamOut()
    file = open_stream(sim.kernel, sink)
    assert file.path is not None
    path = file.path
    again = sim.run(sim.task(), lambda: file.inode.open(None, path, os.O_WRONLY))  # type: ignore[arg-type]
    writer(sim, file, b"one ").answer()
    writer(sim, again, b"two").answer()
    assert sink.take() == b"one two"


def test_links_to_the_embedder_are_not_state() -> None:
    sink = StreamOut()
    sink.on_data = lambda: None
    sink.put(b"pending")
    thawed = load_graph(dump_graph(sink))
    assert isinstance(thawed, StreamOut)
    assert thawed.on_data is None
    assert thawed.take() == b"pending"


def test_embedder_learns_how_much_a_read_wants_and_that_a_poll_wants_nothing(sim: Sim) -> None:
    stream = StreamIn()
    asked: list[int] = []

    def wanted() -> None:
        if stream.asking:
            asked.append(stream.needs)
            stream.feed(b"x" * stream.needs)
        elif stream.polled:
            stream.pending = 1

    stream.wanted = wanted
    file = open_stream(sim.kernel, stream)
    assert file.poll(sim.task()) == 0x41  # type: ignore[arg-type]
    assert asked == [] and not stream.buffer
    assert reader(sim, stream, 3).answer() == b"xxx"
    assert asked == [3] and not stream.buffer


def test_pollers_of_a_stream_that_is_to_be_filled_hear_of_every_byte(sim: Sim) -> None:
    stream = StreamIn(fill=True)
    call = reader(sim, stream, 4)
    stream.feed(b"a")
    sim.settle()
    assert call.blocked
    assert open_stream(sim.kernel, stream).poll(sim.task()) & 1  # type: ignore[arg-type]


def test_writer_gets_the_error_that_the_embedder_has_met(sim: Sim) -> None:
    sink = StreamOut()
    file = open_stream(sim.kernel, sink)
    sink.hang_up(Errno.EIO.errno)
    with pytest.raises(Errno.EIO):
        writer(sim, file, b"x").answer()
    assert not sim.kernel.signals
