"""The frame allocator against a set of frames."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from host_physmem import PAGE, ZONE_DATA, ZONE_PT, Physmem
from uvm_async._host import ffi, lib

MAX_ORDER: int = lib.UVM_MAX_ORDER
NOT_LIVE = 2**32 - 1
SMALL_FRAMES = 83  # not a power of two, soon exhausted
SMALL = SMALL_FRAMES * PAGE


@pytest.fixture
def small() -> Iterator[Physmem]:
    physmem = Physmem(SMALL)
    yield physmem
    physmem.close()


class Allocator(RuleBasedStateMachine):
    """Frames of the data zone: who is live, with how many references."""

    def __init__(self) -> None:
        super().__init__()
        self.physmem = Physmem(SMALL)
        self.first: int = lib.uvm_data_offset(self.physmem.pm) // PAGE
        self.refs: dict[int, int] = {}

    def teardown(self) -> None:
        self.physmem.close()

    def room_for(self, order: int) -> bool:
        """Whether an aligned run of frames is free."""
        size = 1 << order
        starts = range(self.first, self.first + SMALL_FRAMES - size + 1, size)
        return any(self.refs.keys().isdisjoint(range(at, at + size)) for at in starts)

    @rule(order=st.integers(0, 7))
    def alloc(self, order: int) -> None:
        run = range(pfn := self.physmem.alloc(ZONE_DATA, order), pfn + (1 << order))
        if pfn == 0:
            assert not self.room_for(order)
            return
        assert pfn % (1 << order) == 0
        assert self.first <= pfn and run.stop <= self.first + SMALL_FRAMES
        assert self.refs.keys().isdisjoint(run)
        self.refs.update(dict.fromkeys(run, 1))

    @precondition(lambda self: self.refs)
    @rule(data=st.data())
    def get(self, data: st.DataObject) -> None:
        pfn = data.draw(st.sampled_from(sorted(self.refs)))
        lib.uvm_frame_get(self.physmem.pm, pfn)
        self.refs[pfn] += 1

    @precondition(lambda self: self.refs)
    @rule(data=st.data())
    def put(self, data: st.DataObject) -> None:
        pfn = data.draw(st.sampled_from(sorted(self.refs)))
        self.refs[pfn] -= 1
        assert lib.uvm_frame_put(self.physmem.pm, pfn) == self.refs[pfn]
        if self.refs[pfn] == 0:
            del self.refs[pfn]

    @precondition(lambda self: self.refs)
    @rule(data=st.data())
    def put_many(self, data: st.DataObject) -> None:
        pfns = data.draw(st.lists(st.sampled_from(sorted(self.refs)), unique=True))
        lib.uvm_frames_put(self.physmem.pm, pfns, len(pfns))
        for pfn in pfns:
            self.refs[pfn] -= 1
            if self.refs[pfn] == 0:
                del self.refs[pfn]

    @rule(pfn=st.one_of(st.integers(0, 2**32 - 1), st.integers(4000, 6000)))
    def put_of_a_frame_that_is_not_live_changes_nothing(self, pfn: int) -> None:
        if pfn not in self.refs:
            assert lib.uvm_frame_put(self.physmem.pm, pfn) == NOT_LIVE
            lib.uvm_frame_get(self.physmem.pm, pfn)
            lib.uvm_frames_release(self.physmem.pm, [pfn], 1)
            assert self.physmem.refs(pfn) == 0

    @rule()
    def release_of_a_live_frame_changes_nothing(self) -> None:
        pfns = sorted(self.refs)
        lib.uvm_frames_release(self.physmem.pm, pfns, len(pfns))

    @invariant()
    def counts_agree(self) -> None:
        assert self.physmem.free() == SMALL_FRAMES - len(self.refs)
        assert all(self.physmem.refs(pfn) == refs for pfn, refs in self.refs.items())
        assert self.physmem.consistent()


Allocator.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAllocator = Allocator.TestCase


def test_every_frame_can_be_handed_out_and_comes_back(small: Physmem) -> None:
    pfns = [small.alloc() for _ in range(SMALL_FRAMES)]
    first = lib.uvm_data_offset(small.pm) // PAGE
    assert pfns == list(range(first, first + SMALL_FRAMES))
    assert small.alloc() == 0
    lib.uvm_frames_put(small.pm, pfns, len(pfns))
    assert small.free() == small.total() == SMALL_FRAMES
    assert small.alloc(order=6) != 0


def test_freed_frames_are_reused_before_virgin_ones(small: Physmem) -> None:
    first, _second = small.alloc(), small.alloc()
    lib.uvm_frame_put(small.pm, first)
    assert small.alloc() == first


def test_zones_do_not_mix(small: Physmem) -> None:
    data_first = lib.uvm_data_offset(small.pm) // PAGE
    pt_frames = {small.alloc(ZONE_PT) for _ in range(100)}
    assert max(pt_frames) < data_first <= small.alloc(ZONE_DATA)
    assert small.free(ZONE_PT) == small.total(ZONE_PT) - 100


def test_unknown_zone_or_order_answers_no_frame(small: Physmem) -> None:
    assert small.alloc(2, 0) == 0
    assert small.alloc(ZONE_DATA, MAX_ORDER + 1) == 0


@pytest.mark.parametrize("nslots", [1, 64, 8192])
@pytest.mark.parametrize("data_bytes", [PAGE, 1 << 20, (1 << 30) + PAGE])
def test_layout_parts_are_aligned_and_in_order(data_bytes: int, nslots: int) -> None:
    physmem = Physmem(data_bytes, nslots)
    slots = lib.uvm_slot_offset(physmem.pm)
    data = lib.uvm_data_offset(physmem.pm)
    frames = physmem.size // PAGE
    assert slots % lib.UVM_SLOT_SIZE == 0
    assert slots >= PAGE + frames * 16  # header, then 16 bytes a frame
    assert data % (4 << 20) == 0
    assert slots + nslots * lib.UVM_SLOT_SIZE + physmem.total(ZONE_PT) * PAGE <= data
    assert physmem.size == data + data_bytes
    assert physmem.consistent()
    physmem.close()


def test_format_of_a_large_file_touches_one_page() -> None:
    physmem = Physmem(1 << 30, 1000)
    assert physmem.touched_bytes() == PAGE
    physmem.alloc(ZONE_DATA)
    assert physmem.touched_bytes() == 2 * PAGE  # one page of mem_map
    physmem.close()


def test_format_refuses_a_file_that_is_too_small(small: Physmem) -> None:
    view = ffi.new("struct uvm_physmem *", {"base": small.pm.base, "size": small.size - PAGE})
    assert lib.uvm_physmem_format(view, SMALL, 4) < 0
    assert lib.uvm_physmem_size(0, 4) == 0
    assert lib.uvm_physmem_size(2**63, 4) == 0


@settings(max_examples=20, deadline=None)
@given(
    before=st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=20),
    after=st.lists(st.integers(0, 4), max_size=20),
)
def test_a_copy_of_the_file_hands_out_the_same_frames(
    before: list[tuple[int, bool]], after: list[int]
) -> None:
    one, two = Physmem(SMALL), Physmem(SMALL)
    for order, keep in before:
        pfn = one.alloc(order=order)
        if pfn and not keep:
            lib.uvm_frame_put(one.pm, pfn)
    two.copy_from(one)
    assert [one.alloc(order=n) for n in after] == [two.alloc(order=n) for n in after]
    one.close()
    two.close()


def test_zero_and_copy_act_on_whole_frames_only(small: Physmem) -> None:
    src, dst, bystander = small.alloc(), small.alloc(), small.alloc()
    for pfn in (src, dst, bystander):
        small.write_frame(pfn, bytes([pfn % 251 + 1]) * PAGE)
    lib.uvm_frame_copy(small.pm, dst, src)
    assert small.frame(dst) == small.frame(src)
    lib.uvm_frame_zero(small.pm, src, 2)
    assert small.frame(src) == small.frame(dst) == bytes(PAGE)
    assert small.frame(bystander) == bytes([bystander % 251 + 1]) * PAGE
    lib.uvm_frame_zero(small.pm, small.size // PAGE, 1)
    lib.uvm_frame_copy(small.pm, 2**32 - 1, bystander)
    assert small.consistent()
