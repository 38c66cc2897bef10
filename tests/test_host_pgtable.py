"""Page tables against a dict from address to entry."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from host_physmem import PAGE, ZONE_DATA, ZONE_PT, Physmem
from uvm_async._host import ffi, lib

P: int = lib.UVM_PTE_P
W: int = lib.UVM_PTE_W
U: int = lib.UVM_PTE_U
A: int = lib.UVM_PTE_A
D: int = lib.UVM_PTE_D
PROTNONE: int = lib.UVM_PTE_PROTNONE
COW: int = lib.UVM_PTE_COW
CACHE: int = lib.UVM_PTE_CACHE
NX: int = lib.UVM_PTE_NX
HELD = P | PROTNONE
ADDR: int = lib.UVM_PTE_ADDR
TASK_SIZE: int = lib.UVM_TASK_SIZE

DATA_FRAMES = 200
REGION_PAGES = 20
# Each region crosses a boundary of one level of tables; the last ends guest memory.
REGIONS = [
    0x200000 - 8 * PAGE,
    0x40000000 - 5 * PAGE,
    0x8000000000 - 12 * PAGE,
    TASK_SIZE - REGION_PAGES * PAGE,
]
PAGES = [base + page * PAGE for base in REGIONS for page in range(REGION_PAGES)]

mms = st.integers(0, 1)
page_bits = st.sampled_from([U, U | A, U | W, U | W | A | D, U | CACHE | A | NX, U | W | CACHE])


def rights(pte: int) -> set[str]:
    if not pte & P:
        return set()
    return {"r"} | ({"w"} if pte & W else set()) | (set() if pte & NX else {"x"})


def protected(pte: int, prot: int, may_write: bool, shared: bool) -> int:
    """What uvm_pte_protect promises to make of a held entry."""
    if prot == 0:
        return pte & ~(P | W) | PROTNONE
    pte = pte & ~(PROTNONE | W | NX) | P | (0 if prot & 4 else NX)
    writable = prot & 2 and may_write and not pte & COW and (shared or not pte & CACHE)
    return pte | W if writable else pte


def forked(pte: int) -> int:
    """What a copy-on-write fork leaves of an entry on both sides."""
    marked = pte & W or not pte & CACHE
    return pte & ~W | (COW if marked else 0)


class Range:
    """Pages inside one region: [start, end)."""

    def __init__(self, region: int, first: int, count: int) -> None:
        self.start = REGIONS[region] + first * PAGE
        self.end = REGIONS[region] + min(first + count, REGION_PAGES) * PAGE
        self.pages = (self.end - self.start) // PAGE

    def __repr__(self) -> str:
        return f"Range({self.start:#x}, {self.end:#x})"


ranges = st.builds(
    Range,
    st.integers(0, len(REGIONS) - 1),
    st.integers(0, REGION_PAGES - 1),
    st.integers(1, REGION_PAGES),
)
any_range = st.one_of(ranges, st.just((0, TASK_SIZE)), st.just((0, 2**64 - PAGE))).map(
    lambda r: (r.start, r.end) if isinstance(r, Range) else r
)


class AddressSpaces(RuleBasedStateMachine):
    """Two address spaces over one small memory."""

    def __init__(self) -> None:
        super().__init__()
        self.physmem = Physmem(DATA_FRAMES * PAGE)
        self.pm = self.physmem.pm
        self.pgd: list[int] = [lib.uvm_pgd_new(self.pm) for _ in range(2)]
        self.ptes: list[dict[int, int]] = [{}, {}]
        self.limbo: list[int] = []

    def teardown(self) -> None:
        for mm, pgd in enumerate(self.pgd):
            self.zap_all(mm, 0, TASK_SIZE)
            lib.uvm_pgd_free(self.pm, pgd)
        self.release()
        assert self.physmem.free(ZONE_DATA) == self.physmem.total(ZONE_DATA)
        assert self.physmem.free(ZONE_PT) == self.physmem.total(ZONE_PT)
        assert self.physmem.consistent()
        self.physmem.close()

    def held(self, mm: int, start: int, end: int) -> list[int]:
        return sorted(addr for addr in self.ptes[mm] if start <= addr < end)

    def refs(self) -> Counter[int]:
        return Counter((pte & ADDR) // PAGE for mm in self.ptes for pte in mm.values())

    def zap_all(self, mm: int, start: int, end: int) -> None:
        while start < end:
            start = self.zap_some(mm, start, end, 64)

    def zap_some(self, mm: int, start: int, end: int, room: int) -> int:
        """Zap against the model; answers where it stopped."""
        freed, stop, addresses = [], end, self.held(mm, start, end)
        refs, count = self.refs(), 0
        for addr in addresses:
            if len(freed) == room:
                stop = addr
                break
            pfn = (self.ptes[mm].pop(addr) & ADDR) // PAGE
            count += 1
            refs[pfn] -= 1
            if refs[pfn] == 0:
                freed.append(pfn)
        out, nxt, cleared = (
            ffi.new("uint32_t[]", room + 1),
            ffi.new("uint64_t *"),
            ffi.new("uint64_t *"),
        )
        n = lib.uvm_pte_zap(self.pm, self.pgd[mm], start, end, out, room, nxt, cleared)
        assert list(out[0:n]) == freed
        assert (nxt[0], cleared[0]) == (stop, count)
        self.limbo += freed
        return stop

    @rule(mm=mms, where=ranges, order=st.integers(0, 4), bits=page_bits)
    def map_owned_run(self, mm: int, where: Range, order: int, bits: int) -> None:
        pfn, n = self.physmem.alloc(order=order), 1 << order
        if pfn == 0:
            return
        if where.start + n * PAGE > TASK_SIZE:
            assert lib.uvm_pte_map_run(self.pm, self.pgd[mm], where.start, n, pfn, bits, 1) < 0
            lib.uvm_frames_put(self.pm, list(range(pfn, pfn + n)), n)
            return
        made = lib.uvm_pte_map_run(self.pm, self.pgd[mm], where.start, n, pfn, bits, 1)
        assert made == self.enter(mm, where.start, n, pfn, bits)

    @rule(mm=mms, where=ranges, bits=page_bits)
    def map_shared_run(self, mm: int, where: Range, bits: int) -> None:
        """Like a page cache's frames: the cache's own reference stays the caller's."""
        n = min(where.pages, 8)
        pfn = self.physmem.alloc(order=3)
        if pfn == 0:
            return
        made = lib.uvm_pte_map_run(self.pm, self.pgd[mm], where.start, n, pfn, bits, 0)
        assert made == self.enter(mm, where.start, n, pfn, bits)
        lib.uvm_frames_put(self.pm, list(range(pfn, pfn + 8)), 8)

    def enter(self, mm: int, start: int, n: int, pfn: int, bits: int) -> int:
        made = 0
        for i in range(n):
            if start + i * PAGE not in self.ptes[mm]:
                self.ptes[mm][start + i * PAGE] = (pfn + i) * PAGE | bits | P
                made += 1
        return made

    @rule(parent=mms, where=any_range, cow=st.booleans())
    def fork_range(self, parent: int, where: tuple[int, int], cow: bool) -> None:
        child = 1 - parent
        self.zap_all(child, *where)
        addresses = self.held(parent, *where)
        for addr in addresses:
            if cow:
                self.ptes[parent][addr] = forked(self.ptes[parent][addr])
            self.ptes[child][addr] = self.ptes[parent][addr]
        eager, shrunk = ffi.new("uint32_t *"), ffi.new("uint32_t *")
        copied = lib.uvm_pte_copy(
            self.pm, self.pgd[child], self.pgd[parent], *where, cow, eager, shrunk
        )
        assert copied == len(addresses)

    @rule(mm=mms, where=any_range, room=st.integers(0, 6))
    def zap(self, mm: int, where: tuple[int, int], room: int) -> None:
        self.zap_some(mm, *where, room)

    @rule()
    def release(self) -> None:
        lib.uvm_frames_release(self.pm, self.limbo, len(self.limbo))
        self.limbo = []

    @rule(
        mm=mms,
        where=any_range,
        prot=st.integers(0, 7),
        may_write=st.booleans(),
        shared=st.booleans(),
    )
    def protect(
        self, mm: int, where: tuple[int, int], prot: int, may_write: bool, shared: bool
    ) -> None:
        shrank = 0
        for addr in self.held(mm, *where):
            old = self.ptes[mm][addr]
            self.ptes[mm][addr] = new = protected(old, prot, may_write, shared)
            shrank += not rights(old) <= rights(new)
        got = lib.uvm_pte_protect(self.pm, self.pgd[mm], *where, prot, may_write, shared)
        assert got == shrank

    @rule(mm=mms, where=ranges, to=st.integers(0, len(REGIONS) - 1), shift=st.integers(0, 19))
    def move(self, mm: int, where: Range, to: int, shift: int) -> None:
        length = where.end - where.start
        dst = REGIONS[to] + min(shift, REGION_PAGES - where.pages) * PAGE
        if dst < where.end and where.start < dst + length:
            return
        self.zap_all(mm, dst, dst + length)
        addresses = self.held(mm, where.start, where.end)
        for addr in addresses:
            self.ptes[mm][addr - where.start + dst] = self.ptes[mm].pop(addr)
        moved = lib.uvm_pte_move(self.pm, self.pgd[mm], where.start, dst, length)
        assert moved == len(addresses)

    @rule(mm=mms, where=ranges, bits=page_bits)
    def replace(self, mm: int, where: Range, bits: int) -> None:
        addr = where.start
        pte = self.ptes[mm].get(addr)
        if pte is not None:
            self.ptes[mm][addr] = pte & ADDR | bits | P
            assert lib.uvm_pte_set(self.pm, self.pgd[mm], addr, self.ptes[mm][addr]) == 0

    @rule(mm=mms, where=any_range)
    def count(self, mm: int, where: tuple[int, int]) -> None:
        assert lib.uvm_pte_count(self.pm, self.pgd[mm], *where) == len(self.held(mm, *where))

    @rule(mm=mms, where=ranges, n=st.one_of(st.integers(0, 40), st.integers(500, 2**31)))
    def none_run(self, mm: int, where: Range, n: int) -> None:
        end = min(where.start + n * PAGE, TASK_SIZE)
        first = min(self.held(mm, where.start, end), default=end)
        got = lib.uvm_pte_none_run(self.pm, self.pgd[mm], where.start, n)
        assert got == (first - where.start) // PAGE

    @invariant()
    def entries_and_references_agree(self) -> None:
        for mm, pgd in enumerate(self.pgd):
            for addr in PAGES:
                assert lib.uvm_pte_get(self.pm, pgd, addr) == self.ptes[mm].get(addr, 0)
        refs = self.refs()
        assert all(self.physmem.refs(pfn) == n for pfn, n in refs.items())
        assert self.physmem.free() == DATA_FRAMES - len(refs) - len(self.limbo)
        assert self.physmem.consistent()


AddressSpaces.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAddressSpaces = AddressSpaces.TestCase


@pytest.fixture
def physmem() -> Iterator[Physmem]:
    made = Physmem(DATA_FRAMES * PAGE)
    yield made
    made.close()


def fork_counters(eager: int = 0) -> tuple[object, object]:
    """The two counters of uvm_pte_copy: pages to copy at once, entries that lost a right."""
    return ffi.new("uint32_t *", eager), ffi.new("uint32_t *")


def exhaust(physmem: Physmem, leave: int) -> None:
    """Leave so many frames in the PT zone."""
    while physmem.free(ZONE_PT) > leave:
        assert physmem.alloc(ZONE_PT) != 0


def test_private_page_that_was_read_only_at_fork_is_still_copy_on_write(physmem: Physmem) -> None:
    """mprotect(PROT_READ), fork, mprotect(PROT_WRITE) must not share writes."""
    pm, addr = physmem.pm, REGIONS[0]
    parent, child = lib.uvm_pgd_new(pm), lib.uvm_pgd_new(pm)
    lib.uvm_pte_map_run(pm, parent, addr, 1, physmem.alloc(), U | W | A | D, 1)
    lib.uvm_pte_protect(pm, parent, addr, addr + PAGE, 1, 1, 0)
    lib.uvm_pte_copy(pm, child, parent, 0, TASK_SIZE, 1, *fork_counters())
    for pgd in (parent, child):
        lib.uvm_pte_protect(pm, pgd, addr, addr + PAGE, 3, 1, 0)
        assert lib.uvm_pte_get(pm, pgd, addr) & (W | COW) == COW


def test_without_memory_for_tables_map_and_move_change_nothing(physmem: Physmem) -> None:
    pm, addr = physmem.pm, REGIONS[0]
    pgd, pfn = lib.uvm_pgd_new(pm), physmem.alloc()
    lib.uvm_pte_map_run(pm, pgd, addr, 1, pfn, U, 1)
    before = lib.uvm_pte_get(pm, pgd, addr)
    exhaust(physmem, leave=1)
    far = REGIONS[3]
    assert lib.uvm_pte_move(pm, pgd, addr, far, PAGE) < 0
    assert lib.uvm_pte_map_run(pm, pgd, far, 1, pfn, U, 0) < 0
    assert lib.uvm_pte_set(pm, pgd, far, before) < 0
    assert lib.uvm_pte_get(pm, pgd, addr) == before
    assert physmem.refs(pfn) == 1
    assert lib.uvm_pgd_new(pm) == 0


def test_copy_without_memory_can_be_zapped_away(physmem: Physmem) -> None:
    pm = physmem.pm
    parent, child = lib.uvm_pgd_new(pm), lib.uvm_pgd_new(pm)
    pfns = [physmem.alloc() for _ in REGIONS]
    for base, pfn in zip(REGIONS, pfns, strict=True):
        lib.uvm_pte_map_run(pm, parent, base, 1, pfn, U | W, 1)
    exhaust(physmem, leave=4)
    assert lib.uvm_pte_copy(pm, child, parent, 0, TASK_SIZE, 1, *fork_counters()) < 0
    assert [physmem.refs(pfn) for pfn in pfns] != [1] * len(pfns)
    freed, nxt, cleared = (
        ffi.new("uint32_t[8]"),
        ffi.new("uint64_t *"),
        ffi.new("uint64_t *"),
    )
    assert lib.uvm_pte_zap(pm, child, 0, TASK_SIZE, freed, 8, nxt, cleared) == 0
    assert [physmem.refs(pfn) for pfn in pfns] == [1] * len(pfns)


def test_nothing_is_entered_above_guest_memory(physmem: Physmem) -> None:
    pm, pgd, pfn = physmem.pm, lib.uvm_pgd_new(physmem.pm), physmem.alloc()
    tables = physmem.free(ZONE_PT)
    for addr in (TASK_SIZE, TASK_SIZE + PAGE, 2**47, 2**64 - PAGE):
        assert lib.uvm_pte_set(pm, pgd, addr, pfn * PAGE | P) < 0
        assert lib.uvm_pte_map_run(pm, pgd, addr, 1, pfn, U, 0) < 0
        assert lib.uvm_pte_move(pm, pgd, REGIONS[0], addr, PAGE) < 0
        assert lib.uvm_pte_get(pm, pgd, addr) == 0
        assert lib.uvm_pte_none_run(pm, pgd, addr, 5) == 0
    assert lib.uvm_pte_map_run(pm, pgd, TASK_SIZE - PAGE, 2, pfn, U, 0) < 0
    assert physmem.free(ZONE_PT) == tables


def test_frames_outside_the_data_zone_are_never_referenced(physmem: Physmem) -> None:
    pm, pgd, addr = physmem.pm, lib.uvm_pgd_new(physmem.pm), REGIONS[0]
    table = lib.uvm_pgd_new(pm)
    for pfn in (0, 1, table, physmem.size // PAGE, 2**32 - 1):
        assert lib.uvm_pte_map_run(pm, pgd, addr, 1, pfn, U, 0) < 0
        assert lib.uvm_pte_set(pm, pgd, addr, pfn * PAGE | P | U | W) == 0
        assert lib.uvm_user_phys(pm, pgd, addr, 0) == 0
    freed, nxt, cleared = (
        ffi.new("uint32_t[8]"),
        ffi.new("uint64_t *"),
        ffi.new("uint64_t *"),
    )
    assert lib.uvm_pte_zap(pm, pgd, 0, TASK_SIZE, freed, 8, nxt, cleared) == 0
    assert cleared[0] == 1
    assert physmem.refs(table) == 1


def test_a_pgd_that_is_no_table_reads_as_empty(physmem: Physmem) -> None:
    pm = physmem.pm
    for pgd in (0, 1, physmem.alloc(), physmem.size // PAGE, 2**32 - 1):
        assert lib.uvm_pte_get(pm, pgd, REGIONS[0]) == 0
        assert lib.uvm_pte_set(pm, pgd, REGIONS[0], PAGE | P) < 0
        assert lib.uvm_pte_count(pm, pgd, 0, TASK_SIZE) == 0
        lib.uvm_pgd_free(pm, pgd)
    assert physmem.consistent()


def test_pages_copied_at_fork_are_the_childs_own_and_leave_the_parent_writable(
    physmem: Physmem,
) -> None:
    pm, addr = physmem.pm, REGIONS[0]
    parent, child = lib.uvm_pgd_new(pm), lib.uvm_pgd_new(pm)
    pfns = [physmem.alloc() for _ in range(6)]
    for i, pfn in enumerate(pfns):
        lib.uvm_pte_map_run(pm, parent, addr + i * PAGE, 1, pfn, U | W | A | D, 1)
        physmem.write_frame(pfn, bytes([i + 1]) * PAGE)
    free = physmem.free()
    eager, shrunk = fork_counters(4)
    assert lib.uvm_pte_copy(pm, child, parent, 0, TASK_SIZE, 1, eager, shrunk) == 6
    assert (eager[0], shrunk[0]) == (0, 2)  # type: ignore[index]
    assert physmem.free() == free - 4
    for i, pfn in enumerate(pfns):
        ours, theirs = (lib.uvm_pte_get(pm, g, addr + i * PAGE) for g in (parent, child))
        if i < 4:
            assert ours & (W | COW) == theirs & (W | COW) == W
            assert (theirs & ADDR) >> 12 != pfn and physmem.refs(pfn) == 1
        else:
            assert ours & (W | COW) == theirs & (W | COW) == COW and physmem.refs(pfn) == 2
        assert physmem.frame((theirs & ADDR) >> 12) == bytes([i + 1]) * PAGE
    assert physmem.consistent()


def test_unshare_makes_a_window_writable_in_one_run_and_keeps_its_contents(
    physmem: Physmem,
) -> None:
    pm, addr = physmem.pm, REGIONS[0]
    parent, child = lib.uvm_pgd_new(pm), lib.uvm_pgd_new(pm)
    pfns = [physmem.alloc() for _ in range(8)]
    for i, pfn in enumerate(pfns):
        lib.uvm_pte_map_run(pm, parent, addr + i * PAGE, 1, pfn, U | W | A | D, 1)
        physmem.write_frame(pfn, bytes([i + 1]) * PAGE)
    lib.uvm_pte_copy(pm, child, parent, 0, TASK_SIZE, 1, *fork_counters())
    assert lib.uvm_pte_unshare(pm, child, addr, 8) == 8
    entries = [lib.uvm_pte_get(pm, child, addr + i * PAGE) for i in range(8)]
    first = (entries[0] & ADDR) >> 12
    for i, entry in enumerate(entries):
        assert entry & (W | D | COW) == W | D
        assert (entry & ADDR) >> 12 == first + i
        assert physmem.frame(first + i) == bytes([i + 1]) * PAGE
    assert [physmem.refs(pfn) for pfn in pfns] == [1] * 8
    assert lib.uvm_pte_unshare(pm, parent, addr, 8) == 8  # nobody else's now: taken over
    assert [(lib.uvm_pte_get(pm, parent, addr + i * PAGE) & ADDR) >> 12 for i in range(8)] == pfns
    assert physmem.consistent()
