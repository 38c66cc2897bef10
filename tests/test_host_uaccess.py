"""Copies to and from guest memory against a bytearray with page permissions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from host_physmem import PAGE, Physmem
from uvm_async._host import ffi, lib

P: int = lib.UVM_PTE_P
W: int = lib.UVM_PTE_W
U: int = lib.UVM_PTE_U
A: int = lib.UVM_PTE_A
D: int = lib.UVM_PTE_D
PROTNONE: int = lib.UVM_PTE_PROTNONE
TASK_SIZE: int = lib.UVM_TASK_SIZE

PAGES = 4
BASE = 0x200000 - 2 * PAGE  # crosses from one leaf table to the next
SIZE = PAGES * PAGE
EFAULT = -14

READABLE, WRITABLE = U | P, U | P | W
page_bits = st.sampled_from([0, P, P | W, U | PROTNONE, READABLE, WRITABLE, WRITABLE, WRITABLE])


@dataclass
class Guest:
    """PAGES pages of guest memory from BASE, with the entries given."""

    physmem: Physmem
    pgd: int
    bits: list[int]
    pfns: list[int]

    @classmethod
    def make(cls, bits: list[int], content: bytes = b"") -> Guest:
        physmem = Physmem(64 * PAGE)
        pgd = lib.uvm_pgd_new(physmem.pm)
        # Backwards, so that neighbours in guest memory are none in physmem.
        pfns = [physmem.alloc() for _ in bits][::-1]
        for i, (pfn, page) in enumerate(zip(pfns, bits, strict=True)):
            physmem.write_frame(pfn, content[i * PAGE : (i + 1) * PAGE])
            if page:
                assert lib.uvm_pte_set(physmem.pm, pgd, BASE + i * PAGE, pfn * PAGE | page) == 0
        return cls(physmem, pgd, bits, pfns)

    def content(self) -> bytes:
        return b"".join(self.physmem.frame(pfn) for pfn in self.pfns)

    def reach(self, offset: int, n: int, need: int) -> int:
        """How many of n bytes from offset an access reaches."""
        done = 0
        while done < n and offset + done < SIZE:
            if self.bits[(offset + done) // PAGE] & need != need:
                break
            done = min(n, (offset + done) // PAGE * PAGE + PAGE - offset)
        return done

    def check_marks(self, offset: int, reached: int, mark: int) -> None:
        """Exactly the pages reached carry the mark."""
        for i, bits in enumerate(self.bits):
            touched = reached and offset // PAGE <= i <= (offset + reached - 1) // PAGE
            expected = self.pfns[i] * PAGE | bits | (mark if touched else 0)
            got = lib.uvm_pte_get(self.physmem.pm, self.pgd, BASE + i * PAGE)
            assert got == (expected if bits else 0)


@pytest.fixture
def guest() -> Iterator[Guest]:
    made = Guest.make([WRITABLE, READABLE, 0, WRITABLE])
    yield made
    made.physmem.close()


layouts = st.lists(page_bits, min_size=PAGES, max_size=PAGES)
near_edges = st.builds(
    lambda page, delta: max(0, page * PAGE + delta), st.integers(0, PAGES - 1), st.integers(-9, 9)
)
offsets = st.one_of(st.integers(0, SIZE - 1), near_edges)
lengths = st.one_of(st.integers(0, 20), st.integers(0, SIZE + PAGE))
relaxed = settings(max_examples=150, deadline=None)


def pattern(seed: int, n: int = SIZE) -> bytes:
    return bytes((i * 7 + seed) % 255 + 1 for i in range(n))


@relaxed
@given(bits=layouts, offset=offsets, n=lengths)
def test_copy_from_user_stops_where_the_guest_may_not_read(
    bits: list[int], offset: int, n: int
) -> None:
    guest = Guest.make(bits, pattern(1))
    reached = guest.reach(offset, n, READABLE)
    buffer = ffi.new("char[]", n + 1)
    got = lib.uvm_copy_from_user(guest.physmem.pm, guest.pgd, buffer, BASE + offset, n)
    assert got == reached
    assert ffi.buffer(buffer)[:] == pattern(1)[offset : offset + reached] + bytes(n + 1 - reached)
    guest.check_marks(offset, reached, A)
    guest.physmem.close()


@relaxed
@given(bits=layouts, offset=offsets, n=lengths, clear=st.booleans())
def test_writes_stop_where_the_guest_may_not_write(
    bits: list[int], offset: int, n: int, clear: bool
) -> None:
    guest = Guest.make(bits, pattern(1))
    reached = guest.reach(offset, n, WRITABLE)
    source = bytes(n) if clear else pattern(9, n)
    pm, pgd, addr = guest.physmem.pm, guest.pgd, BASE + offset
    if clear:
        assert lib.uvm_clear_user(pm, pgd, addr, n) == reached
    else:
        assert lib.uvm_copy_to_user(pm, pgd, addr, source, n) == reached
    expected = bytearray(pattern(1))
    expected[offset : offset + reached] = source[:reached]
    assert guest.content() == expected
    guest.check_marks(offset, reached, A | D)
    guest.physmem.close()


@relaxed
@given(
    bits=layouts,
    offset=offsets,
    room=lengths,
    nuls=st.lists(st.one_of(st.integers(0, SIZE - 1), near_edges), max_size=4),
)
def test_string_ends_at_nul_or_room_or_fault(
    bits: list[int], offset: int, room: int, nuls: list[int]
) -> None:
    content = bytearray(pattern(1))
    for at in nuls:
        content[at] = 0
    guest = Guest.make(bits, bytes(content))
    visible = bytes(content[offset : offset + guest.reach(offset, room, READABLE)])
    expected = visible[: visible.index(0) + 1] if 0 in visible else visible
    buffer, found = ffi.new("char[]", room + 1), ffi.new("int *")
    got = lib.uvm_strncpy_from_user(guest.physmem.pm, guest.pgd, buffer, BASE + offset, room, found)
    assert (got, found[0]) == (len(expected), int(0 in visible))
    assert ffi.buffer(buffer)[:got] == expected
    assert ffi.buffer(buffer)[room:] == b"\0"
    guest.physmem.close()


@relaxed
@given(bits=layouts, offset=offsets, desired=st.integers(0, 2**32 - 1), hit=st.booleans())
def test_futex_words_are_read_and_exchanged_whole(
    bits: list[int], offset: int, desired: int, hit: bool
) -> None:
    guest = Guest.make(bits, pattern(1))
    pm, pgd, addr = guest.physmem.pm, guest.pgd, BASE + offset
    was = int.from_bytes(pattern(1)[offset : offset + 4], "little")
    aligned = offset % 4 == 0
    readable = aligned and guest.reach(offset, 4, READABLE) == 4
    writable = aligned and guest.reach(offset, 4, WRITABLE) == 4
    word = ffi.new("uint32_t *")
    assert lib.uvm_user_load32(pm, pgd, addr, word) == (0 if readable else EFAULT)
    assert word[0] == (was if readable else 0)
    word[0] = guess = was if hit else was ^ 1
    result = lib.uvm_user_cmpxchg32(pm, pgd, addr, word, desired)
    assert result == (0 if writable else EFAULT)
    assert word[0] == (was if writable else guess)
    expected = bytearray(pattern(1))
    if writable and hit:
        expected[offset : offset + 4] = desired.to_bytes(4, "little")
    assert guest.content() == expected
    assert lib.uvm_user_store32(pm, pgd, addr, 77) == (0 if writable else EFAULT)
    if writable:
        expected[offset : offset + 4] = (77).to_bytes(4, "little")
    assert guest.content() == expected
    guest.physmem.close()


def test_phys_is_the_offset_of_the_byte(guest: Guest) -> None:
    pm, pgd = guest.physmem.pm, guest.pgd
    assert lib.uvm_user_phys(pm, pgd, BASE + 5, 1) == guest.pfns[0] * PAGE + 5
    assert lib.uvm_user_phys(pm, pgd, BASE + PAGE, 0) == guest.pfns[1] * PAGE
    assert lib.uvm_user_phys(pm, pgd, BASE + PAGE, 1) == 0
    assert lib.uvm_user_phys(pm, pgd, BASE + 2 * PAGE, 0) == 0


@pytest.mark.parametrize("addr", [0, TASK_SIZE, TASK_SIZE + 8, 2**47, 2**48 + BASE, 2**64 - 8])
def test_addresses_that_are_no_guest_memory_fault(guest: Guest, addr: int) -> None:
    pm, pgd, buffer = guest.physmem.pm, guest.pgd, ffi.new("char[64]")
    assert lib.uvm_copy_from_user(pm, pgd, buffer, addr, 64) == 0
    assert lib.uvm_copy_to_user(pm, pgd, addr, buffer, 64) == 0
    assert lib.uvm_clear_user(pm, pgd, addr, 64) == 0
    assert lib.uvm_user_phys(pm, pgd, addr, 0) == 0


def test_copy_ends_with_guest_memory(guest: Guest) -> None:
    pm, pgd, last = guest.physmem.pm, guest.pgd, TASK_SIZE - PAGE
    lib.uvm_pte_map_run(pm, pgd, last, 1, guest.physmem.alloc(), WRITABLE, 1)
    assert lib.uvm_copy_to_user(pm, pgd, TASK_SIZE - 10, b"x" * 64, 64) == 10
