"""Races through windows of a step or two, each of one function: somebody stops there, and others do just what must not be done
meanwhile. A few of many thousand schedules come to that, so all with few preemptions are run, as far as the budget goes.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """``function``: whose window it is. ``preemptions``: how often somebody has to be stopped, at most.

    Nothing is left to luck where schedules are counted: ``knobs`` come on top of ``QUIET``.
    """

    function: str
    scheme: str
    program: str
    preemptions: int = 2
    knobs: tuple[tuple[str, int | str], ...] = ()


#: No zap stops midway, and no trylock fails by itself.
QUIET: tuple[tuple[str, int | str], ...] = (("need_resched", 0), ("trylock_fail", 0))

WINDOWS = (
    # A sleeping walk holds SRCU up, tables wait for it, and their owner goes on.
    Window("deferred_backpressure", "seed-srcu",
           "prefix: mmap(p0..p20); write(p0); write(p4); write(p8); write(p12); write(p16); "
           "t0: dontneed(p0..p16); read(p0) | t1: walk(p16..p20, sleep)"),
    # Who ends a grace period of SRCU has looked at the half of the one before.
    Window("srcu_advance", "seed-srcu",
           "prefix: mmap(p0..p12); write(p0); write(p8); t0: dontneed(p0..p4) | t1: dontneed(p8..p12) | t2: walk(p8..p12, sleep)",
           knobs=(("gp_batch", 1),)),
    # A table goes and comes again between the section and the lock of who found it detached.
    Window("entry_unmap_unlock", "rcu-upper",
           "prefix: mmap(p0..p20); write(p0); t0: write(p5) | t1: dontneed(p0..p4); write(p16); write(p8)", 3,
           (("gp_batch", 1),)),
    # An upper table goes, and its grace period ends, between the section and a look at an entry of it.
    Window("_missing_level", "rcu-upper",
           "prefix: mmap(p0..p20); write(p0); write(p8); t0: write(p5) | t1: dontneed(p0..p4); dontneed(p8..p12); read(p16)"),
    Window("_free_level_locked", "rcu-upper",
           "prefix: mmap(p0..p16); write(p0); write(p8); "
           "t0: munmap(p4..p8) | t1: dontneed(p0..p4); dontneed(p8..p12); read(p12)"),
    # Of two flushes at once the slower one takes the generation back, behind a walk that has noted it.
    Window("flush_tlb_cpu", "linux-6.18",
           "prefix: mmap(p0..p8); write(p0); write(p2); write(p4); write(p5); "
           "t0: dontneed(p4..p6) | t1: dontneed(p2); read(p0) | t2: dontneed(p0)", knobs=(("flush_ceiling", 1),)),
    # Of two flushes of all at once one does not count, and what was filled between them stays.
    Window("flush_tlb_cpu", "seed-zero",
           "prefix: mmap(p0..p8); write(p0); write(p4); free(p0..p8); read(p0); read(p4); "
           "t0: dontneed(p0..p8); read(p4) | t1: discard(p0..p8)", knobs=(("flush_ceiling", 1),)),
    # The page comes again as it was, before an mprotect that takes the write bit from all that it finds.
    Window("_set_access_flags", "seed-rcu",
           "prefix: mmap(p0..p4); write(p0); mprotect(p0..p4, ro); mprotect(p0..p4, rw); "
           "t0: write(p0) | t1: dontneed(p0); write(p0); mprotect(p0..p4, ro)"),
    # Of two invalidations at once the slower one takes the sequence back, behind a walk that fills a device.
    Window("mmu_notifier_invalidate_range_end", "linux-6.18@vma_lock",
           "prefix: mmap(p0..p12); write(p0); write(p4); write(p8); "
           "t0: dontneed(p8) | t1: dontneed(p4); walk(p0..p1) | t2: dontneed(p0)", knobs=(("walk_sleep", 0),)),
    # A scan has found a table before it owns it; a DONTNEED frees that, and a write brings another one.
    Window("covering_detach", "covering+sync+async",
           "prefix: mmap(p0..p4); write(p0); dontneed(p0); t0: scan(m0) | t1: dontneed(p0..p4); write(p0)"),
    # Who gives a VMA its anon_vma found it unchanged; meanwhile it merges with one that has another.
    Window("_vma_set_locked", "rcu",
           "prefix: mmap(p0..p2, ro); mmap(p2..p4); t0: guard_install(p0) | t1: write(p2); mprotect(p2..p4, ro)", 3),
    # A reader counts itself in a VMA that another mm has got, and takes that back while one of that mm leaves.
    Window("vma_start_read", "linux-6.18",
           "prefix: mmap(p0..p4); t0: munmap(p0..p4); mmap(m1:p0..p4); write(m1:p0) | t1: write(p1)", 3),
)
