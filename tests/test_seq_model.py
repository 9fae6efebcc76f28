"""The reference model alone: what Linux 6.18 was measured to do, VMA rules, tables of every level, errors."""

from errno import EFAULT, EINVAL, ENOMEM

import pytest

from ptstress.model import AddressSpace, Follower, Observation, Result, run, step
from ptstress.model.vma import VmaSet
from ptstress.operation import dontneed, mmap, munmap, op_array, read, walk, write

X86_64 = (9, 9, 9, 9)
MIB = 256                       # in pages
TABLE, GIB = 2 * MIB, 1024 * MIB
BASE = 512 * GIB                # its own pud_table
TINY = (2, 1, 1)                # 4 pages in a pte_table, 8 in a pmd_table, 16 in all


def space_with(*ops, bits=TINY, reclaim="sync", max_vmas=None):
    space = AddressSpace(bits, reclaim, max_vmas)
    for op in ops:
        assert space.apply(op).status == 0, op
    return space


def tables(space):
    return {(level, page) for level, page, _ in space.tables.rows()}


def vmas(space):
    return [vma.row() for vma in space.vmas.vmas]


def picture(space):
    """One letter for each page: VMA by VMA a, b, c ... (read-only: A, B, C ...), . for a hole."""
    drawn = ["."] * space.geometry.pages
    for i, (start, end, writable, _) in enumerate(vmas(space)):
        drawn[start:end] = ("abcdefgh" if writable else "ABCDEFGH")[i] * (end - start)
    return "".join(drawn)


# ---- PT_RECLAIM as measured on Linux 6.18: 1 GiB, one page of each of its 512 pte_tables touched

WHOLE = [mmap(BASE, BASE + GIB)]
STARTS = range(BASE, BASE + GIB, TABLE)

MEASURED = {
    # name: (mappings, operations, pte_tables left of 512)
    "whole GiB": (WHOLE, [dontneed(BASE, BASE + GIB)], 0),
    "first half": (WHOLE, [dontneed(BASE, BASE + GIB // 2)], 256),
    "512 x aligned 2 MiB": (WHOLE, [dontneed(p, p + TABLE) for p in STARTS], 0),
    "only the touched page of each": (WHOLE, [dontneed(p, p + 1) for p in STARTS], 512),
    "page by page": (WHOLE, [dontneed(p, p + 1) for p in range(BASE, BASE + GIB)], 512),
    "in 1 MiB halves": (WHOLE, [dontneed(p, p + MIB) for p in range(BASE, BASE + GIB, MIB)], 512),
    "2 MiB - 4 KiB": (WHOLE, [dontneed(p, p + TABLE - 1) for p in STARTS], 512),
    "2 MiB pieces shifted by 4 KiB": (
        WHOLE, [dontneed(BASE, BASE + 1), *(dontneed(p + 1, min(p + 1 + TABLE, BASE + GIB)) for p in STARTS)], 512),
    "4 MiB pieces shifted by 1 MiB": (
        WHOLE, [dontneed(p, p + 2 * TABLE) for p in range(BASE + MIB, BASE + GIB - 2 * TABLE, 2 * TABLE)], 257),
    "page by page, then whole": (WHOLE, [*(dontneed(p, p + 1) for p in STARTS), dontneed(BASE, BASE + GIB)], 0),
    "512 VMAs of 1 MiB, each": ([mmap(p, p + MIB) for p in STARTS], [dontneed(p, p + MIB) for p in STARTS], 512),
    "512 VMAs of 1 MiB, whole span": ([mmap(p, p + MIB) for p in STARTS], [dontneed(BASE, BASE + GIB)], 512),
    "a VMA of one guard page in each 2 MiB": (
        [*WHOLE, *(mmap(p + TABLE - 1, p + TABLE, writable=False) for p in STARTS)], [dontneed(BASE, BASE + GIB)], 512),
    "munmap of only the touched page of each": (WHOLE, [munmap(p, p + 1) for p in STARTS], 512),
    "munmap half": (WHOLE, [munmap(BASE, BASE + GIB // 2)], 256),
    "munmap all but the last page": (WHOLE, [munmap(BASE, BASE + GIB - 1)], 1),
    "munmap the last page, too": (WHOLE, [munmap(BASE, BASE + GIB - 1), munmap(BASE + GIB - 1, BASE + GIB)], 0),
}


@pytest.mark.parametrize("touch", [write, read], ids=["anonymous", "zero-page"])
@pytest.mark.parametrize("name", MEASURED)
def test_tables_left_are_those_that_linux_leaves(name, touch):
    mappings, ops, left = MEASURED[name]
    space = space_with(*mappings, *(touch(p) for p in STARTS), bits=X86_64)
    assert space.table_bytes == (512 + 1 + 1) * 4096       # VmPTE +2056 kB
    run(space, ops)
    assert space.tables.count(0) == left
    # pmd_table and pud_table stay for as long as their span has a VMA.
    upper = 2 if space.vmas.vmas else 0
    assert space.table_bytes == (left + upper) * 4096


@pytest.mark.parametrize("name", [n for n in MEASURED if "munmap" not in n])
def test_before_6_14_dontneed_leaves_every_table(name):
    mappings, ops, _ = MEASURED[name]
    space = space_with(*mappings, *(write(p) for p in STARTS), bits=X86_64, reclaim="never")
    run(space, ops)
    assert space.tables.count(0) == 512


def test_64_touches_at_1_gib_stride():
    """VmPTE +512 KiB; +256 KiB after DONTNEED, the pmd_tables stay; 0 after munmap. The one pud_table is extra."""
    end = BASE + 64 * GIB
    space = space_with(mmap(BASE, end), *(write(p) for p in range(BASE, end, GIB)), bits=X86_64)
    assert space.table_bytes == (512 << 10) + 4096
    run(space, [dontneed(BASE, end)])
    assert space.table_bytes == (256 << 10) + 4096
    run(space, [munmap(BASE, end)])
    assert space.table_bytes == 0


def test_64_touches_at_1_gib_stride_leave_nothing_where_upper_tables_are_freed_too():
    end = BASE + 64 * GIB
    space = space_with(mmap(BASE, end), *(write(p) for p in range(BASE, end, GIB)), bits=X86_64, reclaim="sync+upper")
    assert space.table_bytes == (512 << 10) + 4096
    run(space, [dontneed(BASE, end - GIB)])
    assert space.tables.table_bytes == 3 * 4096
    run(space, [dontneed(BASE, end)])
    assert space.table_bytes == 0


@pytest.mark.parametrize(("reclaim", "left_kb"), [("sync", 204), ("never", 102_604)])
def test_headline_50_gib_keeps_102604_kb_of_tables_for_nothing(reclaim, left_kb):
    """Linux 6.18: 102,604 kB for 25 x 1024 touches each 2 MiB apart; 204 kB after DONTNEED of everything."""
    end = BASE + 50 * GIB
    space = space_with(mmap(BASE, end), *(write(p) for p in range(BASE, end, TABLE)), bits=X86_64, reclaim=reclaim)
    assert (space.table_bytes, space.rss) == (102_604 << 10, 25_600)
    run(space, [dontneed(BASE, end)])
    assert (space.table_bytes, space.rss) == (left_kb << 10, 0)


def test_headline_replayed_step_by_step():
    end = BASE + 50 * GIB
    ops = [mmap(BASE, end)] + [op for p in range(BASE, end, TABLE) for op in (write(p), dontneed(p, p + TABLE))]
    status, table_bytes = AddressSpace(X86_64).replay(op_array(ops))
    assert not status.any()
    assert int(table_bytes[-1]) == 204 << 10
    assert int(table_bytes.max()) == 208 << 10


def test_every_page_of_a_table_touched_costs_one_table():
    space = space_with(mmap(BASE, BASE + TABLE), *(write(p) for p in range(BASE, BASE + TABLE)), bits=X86_64)
    assert (space.tables.count(0), space.rss) == (1, 512)
    assert space.apply(walk(BASE, BASE + TABLE)).bits == (1 << 512) - 1


# ---- VMAs: merge and split

# Pages 0 to 15; small letters: writable; capital ones: read-only; the last operation is the one tested.
MERGES = {
    # name: (operations, VMAs afterwards)
    "adjoining, never written: one VMA": (
        [mmap(0, 4), mmap(4, 8)], "aaaaaaaa........"),
    "a hole between: two": (
        [mmap(0, 4), mmap(5, 8)], "aaaa.bbb........"),
    "fills the gap: merges with both": (
        [mmap(0, 4), mmap(6, 8), mmap(4, 6)], "aaaaaaaa........"),
    "other permission: no merge": (
        [mmap(0, 4), mmap(4, 8, writable=False)], "aaaaBBBB........"),
    "read-only ones merge": (
        [mmap(0, 4, writable=False), mmap(4, 8, writable=False)], "AAAAAAAA........"),
    "inside, other permission: splits": (
        [mmap(0, 8), mmap(2, 4, writable=False)], "aaBBcccc........"),
    "inside, same permission: the pieces merge again": (
        [mmap(0, 8), mmap(2, 4)], "aaaaaaaa........"),
    "written neighbour and a new one: merge": (
        [mmap(0, 4), write(1), mmap(4, 8)], "aaaaaaaa........"),
    "inside a written VMA, same permission: the pieces share their anon_vma": (
        [mmap(0, 8), write(1), mmap(2, 4)], "aaaaaaaa........"),
    "both neighbours written apart: two anon_vmas, merge with the left one only": (
        [mmap(0, 4), mmap(6, 8), write(1), write(7), mmap(4, 6)], "aaaaaabb........"),
    "reading gives no anon_vma": (
        [mmap(0, 4), mmap(6, 8), read(1), write(7), mmap(4, 6)], "aaaaaaaa........"),
    "over two VMAs and the hole between: one": (
        [mmap(0, 4), mmap(6, 8, writable=False), mmap(3, 7)], "aaaaaaaB........"),
    "munmap in the middle: two": (
        [mmap(0, 8), munmap(2, 6)], "aa....bb........"),
    "munmap over edges and holes": (
        [mmap(0, 4), mmap(6, 8), munmap(3, 7)], "aaa....b........"),
}


@pytest.mark.parametrize("name", MERGES)
def test_vmas_merge_and_split_as_linux_does(name):
    ops, expected = MERGES[name]
    space = space_with(*ops)
    assert picture(space) == expected


def test_a_merged_vma_takes_the_anon_vma_of_either_side():
    # aaaa**bb    a without anon_vma, b with: the one VMA has b's
    space = space_with(mmap(0, 4), mmap(6, 8), write(7))
    theirs = vmas(space)[1][3]
    run(space, [mmap(4, 6)])
    assert vmas(space) == [(0, 8, True, theirs)]


def test_a_first_write_reuses_the_anon_vma_of_the_next_vma_then_of_the_previous():
    # aabbccdd    adjoining, all writable, not merged, as mprotect leaves them; a and d were written
    vma_set = VmaSet(16)
    for start in (0, 2, 4, 6):
        vma_set.insert(start, start + 2, writable=start % 4 == 0)
    a, b, c, d = vma_set.vmas
    for vma in (a, b, c, d):
        vma.writable = True
    a.anon_vma, d.anon_vma = 7, 8
    vma_set.prepare_anon(c)
    assert c.anon_vma == 8
    c.anon_vma = 0
    vma_set.prepare_anon(b)
    assert b.anon_vma == 7


def test_split_pieces_share_their_anon_vma_and_so_merge_again():
    space = space_with(mmap(0, 8), write(1), munmap(2, 6))
    assert vmas(space) == [(0, 2, True, 1), (6, 8, True, 1)]
    run(space, [mmap(2, 6)])
    assert vmas(space) == [(0, 8, True, 1)]


def test_a_table_shared_by_two_vmas_is_never_covered_until_they_merge():
    # 0123
    # aaaB      the pte_table of 0..4 belongs to both
    space = space_with(mmap(0, 4), mmap(3, 4, writable=False), write(0))
    run(space, [dontneed(0, 4)])
    assert tables(space) >= {(0, 0)}
    run(space, [mmap(3, 4), dontneed(0, 4)])
    assert (0, 0) not in tables(space)


# ---- tables of every level


def test_a_fault_makes_the_tables_of_every_level():
    space = space_with(mmap(0, 32), write(9), bits=(1, 1, 1, 1, 1))
    assert tables(space) == {(0, 8), (1, 8), (2, 8), (3, 0)}
    # The p4d_table is not counted.
    assert space.table_bytes == 3 * 4096


def test_a_fault_that_is_refused_makes_no_table():
    space = space_with(mmap(0, 4, writable=False))
    assert space.apply(write(0)).status == -EFAULT
    assert space.apply(read(4)).status == -EFAULT
    assert tables(space) == set()


@pytest.mark.parametrize(
    ("ops", "left"),
    [
        # 0123 4567 89ab cdef   pte_tables; pmd_tables 0..8 and 8..16
        ([munmap(0, 4)], {(0, 4), (0, 8), (0, 12), (1, 0), (1, 8)}),
        ([munmap(0, 8)], {(0, 8), (0, 12), (1, 8)}),
        ([munmap(0, 7)], {(0, 4), (0, 8), (0, 12), (1, 0), (1, 8)}),
        ([munmap(0, 7), munmap(7, 8)], {(0, 8), (0, 12), (1, 8)}),
        ([munmap(2, 10)], {(0, 0), (0, 8), (0, 12), (1, 0), (1, 8)}),
        ([munmap(1, 4), munmap(5, 16), munmap(0, 1)], {(0, 4), (1, 0)}),
        ([munmap(1, 4), munmap(5, 16), munmap(4, 5)], {(0, 0), (1, 0)}),
        ([munmap(0, 16)], set()),
        # mmap unmaps first: the tables go although the new VMA covers them at once.
        ([mmap(0, 8)], {(0, 8), (0, 12), (1, 8)}),
        ([mmap(1, 8)], {(0, 0), (0, 8), (0, 12), (1, 0), (1, 8)}),
        ([dontneed(0, 16)], {(1, 0), (1, 8)}),
        ([dontneed(1, 16)], {(0, 0), (1, 0), (1, 8)}),
    ],
    ids=lambda ops: "; ".join(map(str, ops)) if isinstance(ops, list) else "",
)
def test_tables_go_with_the_last_vma_of_their_span(ops, left):
    space = space_with(mmap(0, 16), *(write(p) for p in (0, 4, 8, 12)))
    run(space, ops)
    assert tables(space) == left


# ---- pages and errors


def test_pages_go_from_none_to_zero_page_to_frame_and_back():
    space = space_with(mmap(0, 4))
    assert space.apply(read(0))[:3] == (0, 0, 0)
    assert space.rss == 0
    first = space.apply(write(0))
    assert first.fresh
    assert space.apply(read(0))[1:3] == (first.value, first.incarnation)
    second = space.apply(write(0))
    assert (second.incarnation, second.fresh, space.rss) == (first.incarnation, False, 1)
    assert second.value != first.value
    run(space, [dontneed(0, 1)])
    assert space.apply(read(0))[:3] == (0, 0, 0)
    third = space.apply(write(0))
    assert third.incarnation not in (0, first.incarnation)


def test_a_walk_shows_present_pages_and_passes_over_holes():
    space = space_with(mmap(1, 8), munmap(4, 5), write(1), read(3), write(6))
    assert space.apply(walk(0, 16)).bits == 1 << 1 | 1 << 3 | 1 << 6
    assert space.apply(walk(3, 7)).bits == 1 << 0 | 1 << 3
    assert space.apply(walk(4, 5)) == Result(0)


@pytest.mark.parametrize(
    ("op", "status"),
    [
        (mmap(2, 2), -EINVAL),
        (mmap(3, 2), -EINVAL),
        (mmap(15, 17), -ENOMEM),
        (mmap(0, 16), 0),
        (munmap(2, 2), -EINVAL),
        (munmap(3, 2), -EINVAL),
        (munmap(15, 17), -EINVAL),
        (munmap(9, 10), 0),
        (dontneed(2, 2), 0),
        (dontneed(3, 2), -EINVAL),
        (dontneed(15, 17), -EINVAL),
        (dontneed(0, 5), -ENOMEM),
        (dontneed(8, 9), -ENOMEM),
        (walk(2, 2), 0),
        (walk(3, 2), -EINVAL),
        (walk(15, 17), -EINVAL),
        (walk(8, 9), 0),
        (read(3), 0),
        (read(4), -EFAULT),
        (read(16), -EFAULT),
        (write(4), -EFAULT),
        (write(5), -EFAULT),
        (read(5), 0),
    ],
    ids=str,
)
def test_statuses(op, status):
    # aaaa.BBB........   writable, hole, read-only
    space = space_with(mmap(0, 4), mmap(5, 8, writable=False))
    before = space.copy()
    assert space.apply(op).status == status
    if status in (-EINVAL, -EFAULT):
        assert (vmas(space), tables(space)) == (vmas(before), tables(before))


def test_dontneed_over_a_hole_does_the_rest():
    space = space_with(mmap(0, 4), mmap(8, 12), write(1), write(9))
    assert space.apply(dontneed(0, 12)).status == -ENOMEM
    assert (space.rss, tables(space)) == (0, {(1, 0), (1, 8)})


def test_too_many_vmas_as_max_map_count_limits_them():
    space = space_with(mmap(0, 2), mmap(3, 5), mmap(6, 12), max_vmas=3)
    assert space.apply(munmap(8, 9)).status == -ENOMEM          # would make a fourth
    assert space.apply(munmap(6, 7)).status == 0                # only shortens one
    assert space.apply(mmap(13, 14)).status == 0                # one above the limit is let through
    assert space.apply(mmap(15, 16)).status == -ENOMEM
    assert picture(space) == "aa.bb..ccccc.d.."


def test_step_leaves_its_argument_alone():
    before = space_with(mmap(0, 8), write(0))
    after, result = step(before, write(0))
    assert result.value == after.tables.get(0)[1] != before.tables.get(0)[1]
    again, _ = step(before, munmap(0, 8))
    assert (tables(again), vmas(again), len(tables(before))) == (set(), [], 2)


def test_unknown_reclaim_and_geometry_are_refused():
    with pytest.raises(ValueError, match="expected one of never, sync"):
        AddressSpace(TINY, "often")
    with pytest.raises(ValueError, match="expected 3 to 5 levels"):
        AddressSpace((9, 9))


# ---- results compared with what was observed

# Two incarnations.
A, B = 1 << 63 | 1, 1 << 63 | 2


@pytest.mark.parametrize(
    ("op", "seen", "why"),
    [
        (write(1), Observation(-EFAULT), "returned -14, expected 0"),
        (write(1), Observation(0, 0, A), "wrote 0x0"),
        (write(1), Observation(0, 7, 7), "fresh frame of incarnation 0x7"),
        (write(0), Observation(0, 7, A), "used incarnation"),
        (write(1), Observation(0, 5, A), "stamp 0x5 was used before"),
        (read(0), Observation(0, 6, B), "read 0x6, expected 0x5"),
        (read(0), Observation(0, 5, A), "used incarnation"),
        (walk(0, 4), Observation(0, present=1, bits=3), "saw p1 present"),
        (walk(0, 4), Observation(0, present=0, bits=0), "saw p0 absent"),
        (walk(0, 4), Observation(0, present=2, bits=1), "counted 2 pages, expected 1"),
        (munmap(3, 3), Observation(0), "returned 0, expected -22"),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else "",
)
def test_a_wrong_result_is_told(op, seen, why):
    follower = Follower(AddressSpace((2, 1, 1)))
    assert follower.follow(mmap(0, 8), Observation(0)) is None
    assert follower.follow(write(0), Observation(0, 5, B)) is None
    assert why in follower.follow(op, seen)
