"""VMA lock, proofs of attachment, TLBs and gathers, one call at a time."""

import pytest

from kit.build_kit import load_kit
from ptstress.layout import Counter
from ptstress.vocabulary import Oracle

FREE, ZAPPED = 0, 2     # states of a frame


@pytest.fixture(scope="session")
def kit(pytestconfig):
    return load_kit("stress", pytestconfig.cache.mkdir("kit"))


@pytest.fixture
def bench(kit):
    return kit.MmBench(cpus=3)


def what(bench):
    """(oracle, invariant) of each report."""
    return [report[:2] for report in bench.reports()]


# -- VMA lock ------------------------------------------------------------------------------------


def test_a_vma_has_many_readers(bench):
    v = bench.add_vma(0, 4)
    assert bench.vma_start_read(0, v)
    assert bench.vma_start_read(1, v)
    bench.vma_end_read(1, v)
    bench.vma_end_read(0, v)
    assert bench.reports() == []


def test_a_write_locked_vma_has_no_readers_until_mmap_lock_is_released(bench):
    v = bench.add_vma(0, 4)
    for _ in range(15):             # past the wrap of mm_lock_seq
        bench.mmap_write_lock(0)
        bench.vma_start_write(0, v)
        assert not bench.vma_start_read(1, v)
        bench.mmap_write_unlock(0)
        assert bench.vma_start_read(1, v)
        bench.vma_end_read(1, v)
    assert bench.reports() == []


def test_downgrading_mmap_lock_unlocks_all_vmas(bench):
    vmas = [bench.add_vma(0, 2), bench.add_vma(2, 4)]
    bench.mmap_write_lock(0)
    for v in vmas:
        bench.vma_start_write(0, v)
    bench.mmap_write_downgrade(0)
    assert all(bench.vma_start_read(1, v) for v in vmas)


def test_mmap_lock_alone_locks_no_vma(bench):
    one, other = bench.add_vma(0, 2), bench.add_vma(2, 4)
    bench.mmap_write_lock(0)
    bench.vma_start_write(0, one)
    assert not bench.vma_start_read(1, one)
    assert bench.vma_start_read(1, other)


def test_locking_a_vma_for_writing_twice_is_one_lock(bench):
    v = bench.add_vma(0, 4)
    bench.mmap_write_lock(0)
    bench.vma_start_write(0, v)
    bench.vma_start_write(0, v)
    bench.mmap_write_unlock(0)
    assert bench.vma_start_read(1, v)


def test_a_detached_vma_has_no_readers_until_it_is_attached_again(bench):
    v = bench.add_vma(0, 4)
    bench.mmap_write_lock(0)
    bench.vma_start_write(0, v)
    bench.vma_detach(0, v)
    bench.mmap_write_unlock(0)
    assert not bench.vma_start_read(1, v)
    assert bench.lock_vma_under_rcu(1, 1) == -1
    bench.mmap_write_lock(0)
    bench.vma_start_write(0, v)
    bench.vma_attach(v)
    assert not bench.vma_start_read(1, v)
    bench.mmap_write_unlock(0)
    assert bench.vma_start_read(1, v)


# 0123456
# AA  BB     lookups at 0..6
def test_the_lookup_locks_the_vma_that_covers_the_page(bench):
    a, b = bench.add_vma(0, 2), bench.add_vma(4, 6)
    assert [bench.lock_vma_under_rcu(0, page) for page in range(7)] == [a, a, -1, -1, b, b, -1]


def test_write_locking_a_vma_without_mmap_lock_is_reported(bench):
    bench.vma_start_write(0, bench.add_vma(0, 4))
    assert what(bench) == [(Oracle.LOCK_ORDER, 20)]


# -- proofs of attachment ------------------------------------------------------------------------


def test_an_entry_that_was_seen_proves_attachment_while_it_stays(bench):
    bench.add_page(0)
    pte = 1 << 12 | 1
    assert not bench.attached_by_pte(0, 0, pte), "another entry"
    assert bench.counter(0, Counter.RECHECK_LOST) == 1
    assert bench.reports() == []


def test_an_entry_that_was_none_proves_nothing_and_is_reported(bench):
    bench.add_page(0)
    bench.attached_by_pte(0, 1, 0)
    assert what(bench) == [(Oracle.UAF, 6)]


def test_a_pml_proves_attachment_only_while_it_is_held(bench):
    bench.add_page(0)
    assert bench.attached_by_pml(0, locked=True)
    assert bench.reports() == []
    bench.attached_by_pml(0, locked=False)
    assert what(bench) == [(Oracle.LOCK_ORDER, 6)]


# -- TLB -----------------------------------------------------------------------------------------


def fill(bench, pages, cpus=(0, 1)):
    """Cache pages on cpus."""
    for cpu in cpus:
        for page in pages:
            bench.fill(cpu, page, bench.walk_begin(cpu))


def cached(bench, pages, cpu=0):
    """Which of the pages are cached on a cpu."""
    return [page for page in pages if bench.cached(cpu, page)]


def test_a_fill_that_met_a_flush_is_dropped(bench):
    for flush in (lambda: bench.flush(1, 5, 6), lambda: bench.flush_all(1)):
        walk = bench.walk_begin(0)
        flush()
        bench.fill(0, 5, walk)
        assert not bench.cached(0, 5)
    assert bench.counter(0, Counter.FILL_DROPPED) == 2
    fill(bench, [5])
    assert bench.cached(0, 5)


def test_a_range_flush_clears_exactly_its_range_on_every_cpu(bench):
    for _ in range(8):              # past the wrap of the flush numbers
        fill(bench, range(10))
        bench.flush(2, 3, 6)
        assert cached(bench, range(10)) == cached(bench, range(10), cpu=1) == [0, 1, 2, 6, 7, 8, 9]
    assert bench.counter(2, Counter.FULL_FLUSHES) == 0


def test_a_range_flush_leaves_another_page_in_the_same_slot_alone(bench):
    fill(bench, [5])
    bench.flush(0, 5 + 64, 6 + 64)
    assert cached(bench, [5, 5 + 64]) == [5]


def test_a_full_flush_leaves_nothing_on_any_cpu(bench):
    for _ in range(8):
        fill(bench, range(10))
        bench.flush_all(2)
        assert cached(bench, range(10)) == cached(bench, range(10), cpu=1) == []


def test_a_flush_above_the_ceiling_is_a_full_one(kit):
    bench = kit.MmBench(cpus=2, flush_ceiling=4)
    fill(bench, range(10))
    bench.flush(0, 0, 4)
    assert cached(bench, range(10)) == [4, 5, 6, 7, 8, 9]
    bench.flush(0, 0, 5)
    assert cached(bench, range(10)) == []
    assert (bench.counter(0, Counter.FLUSHES), bench.counter(0, Counter.FULL_FLUSHES)) == (1, 1)


def test_a_page_is_cached_on_the_cpu_that_used_it(bench):
    bench.add_page(0)
    assert bench.read(1, 0) is not None
    assert (bench.cached(0, 0), bench.cached(1, 0)) == (False, True)


# -- hardware accesses ---------------------------------------------------------------------------


def test_accesses_see_what_was_written_and_fault_on_holes(bench):
    bench.add_page(0)
    assert bench.write(0, 0, 42)
    assert bench.read(1, 0) == 42
    assert bench.read(0, 1) is None, "an entry that is none"
    assert bench.read(0, 15) is None, "no table"


def test_a_read_only_page_is_read_and_not_written(bench):
    bench.add_page(0, read_only=True)
    assert bench.read(0, 0) is not None
    assert not bench.write(0, 0, 42)


def test_a_write_through_a_clean_translation_sets_d_in_the_table(bench):
    bench.add_page(0, clean=True)
    bench.read(0, 0)                # cached without D
    assert not bench.dirty(0)
    assert bench.write(0, 0, 42)
    assert bench.dirty(0)


def test_d_is_set_again_after_it_was_cleared_and_flushed(bench):
    bench.add_page(0)
    bench.write(0, 0, 42)
    bench.clean(0)
    bench.write(0, 0, 43)
    assert not bench.dirty(0), "the dirty translation is still cached: the table is not looked at"
    bench.flush(1, 0, 1)
    bench.write(0, 0, 44)
    assert bench.dirty(0)


# -- gather --------------------------------------------------------------------------------------


def unmap(bench, page=0, cpu=0):
    """Unmap a page with a gather."""
    bench.gather_begin(cpu)
    bench.gather_page(page)
    bench.gather_finish()


def poll(bench, cpu=0):
    """Let a cpu drive hardware grace periods as often as could ever matter."""
    for _ in range(10):
        bench.frames_poll(cpu)


def test_a_frame_is_not_reused_before_the_flush(bench):
    frame = bench.add_page(0)
    bench.read(1, 0)
    bench.gather_begin(0)
    bench.gather_page(0)
    poll(bench)
    assert (bench.frame_state(frame), bench.cached(1, 0)) == (ZAPPED, True)
    bench.gather_finish()
    assert not bench.cached(1, 0)
    poll(bench)
    assert bench.frame_state(frame) == FREE
    assert bench.reports() == []


def test_a_frame_is_not_reused_while_an_access_is_in_flight(bench):
    frame = bench.add_page(0)
    bench.hw_begin(1)
    before = bench.stamp(frame)
    unmap(bench)
    poll(bench)
    assert (bench.frame_state(frame), bench.stamp(frame)) == (ZAPPED, before)
    bench.hw_end(1)
    poll(bench)
    assert bench.frame_state(frame) == FREE
    assert bench.reports() == []


def test_all_frames_of_a_gather_are_freed(bench):
    frames = [bench.add_page(page) for page in range(8)]
    left = bench.free_frames()
    bench.gather_begin(0)
    for page in range(8):
        bench.gather_page(page)
    bench.gather_finish()
    assert {bench.frame_state(frame) for frame in frames} == {ZAPPED}
    poll(bench)
    assert {bench.frame_state(frame) for frame in frames} == {FREE}
    assert bench.free_frames() == left + 8


def test_a_gather_flushes_the_range_that_it_unmapped(bench):
    for page in range(8):
        bench.add_page(page)
        bench.read(1, page)
    bench.gather_begin(0)
    for page in (2, 4):
        bench.gather_page(page)
    bench.gather_finish()
    assert cached(bench, range(8), cpu=1) == [0, 1, 5, 6, 7], "3 lies between"
    assert bench.counter(0, Counter.FULL_FLUSHES) == 0


def test_a_gather_of_nothing_flushes_nothing(bench):
    bench.add_page(0)
    unmap(bench, page=1)
    assert bench.counter(0, Counter.FLUSHES) + bench.counter(0, Counter.FULL_FLUSHES) == 0
