"""Small programs aimed at single orderings: what goes wrong without one of them needs its own race."""

from dataclasses import dataclass

#: Knobs of a program that polls.
POLLS = (("gp_batch", 1),)


@dataclass(frozen=True)
class Aim:
    """``function``: of the access, as reasons name it. ``program`` under ``scheme`` shows what its ordering of ``label`` is for.

    ``polls``: every operation moves grace periods on, however little waits for them.
    """

    label: str
    function: str
    scheme: str
    program: str
    polls: bool = False


_INSTALL = "prefix: mmap(p0..p4); t0: write(p1) | t1: read(p0)"
_UNLINK = "prefix: mmap(p0..p4); write(p1); t0: {} | t1: dontneed(p0..p4)"
_HIT = "prefix: mmap(p0..p4); write(p1); t0: {} | t1: dontneed(p1)"
_PROTECT = "prefix: mmap(p0..p4); t0: write(p0) | t1: mprotect(p0..p4, ro)"
_FILLS = "prefix: mmap(p0..p4); mmap(m1:p0..p4); write(m1:p1); write(p1); "

AIMS = (
    Aim("PT-001", "_spin_lock_slow", "linux-6.18", "prefix: mmap(p0..p4); t0: read(p0) | t1: read(p1)"),
    Aim("PT-002", "down_read_trylock", "seed-zero", "prefix: mmap(p0..p4); read(p0); t0: munmap(p0..p4) | t1: scan(m0)"),
    Aim("PT-002", "up_read", "linux-6.3", "prefix: mmap(p0..p4); t0: write(p3) | t1: munmap(p0)"),
    Aim("PT-002", "rwsem_acquire", "linux-6.18", _PROTECT),
    Aim("PT-003", "seq_write_end", "seed-refcount",
        "prefix: mmap(p0..p4); t0: discard(p0..p2); mprotect(p0, ro) | t1: mmap(p1, ro)"),
    Aim("PT-005", "cursor_peek", "linux-6.18", _INSTALL),
    Aim("PT-005", "_hw_pmd", "linux-6.18", _INSTALL),
    Aim("PT-005", "entry_offset_map", "rcu", _INSTALL),
    Aim("PT-005", "_pin_lockless", "linux-6.18", "prefix: mmap(p0..p8); write(p5); t0: write(p1) | t1: gup_fast(p0)"),
    Aim("PT-005", "pte_offset_map", "seed-zero",
        "prefix: mmap(p0..p8); write(p1); dontneed(p1); t0: scan(m0) | t1: write(p5)"),
    Aim("PT-006", "vma_start_read", "linux-6.18", _PROTECT),
    Aim("PT-006", "_take", "rcu", _PROTECT),
    Aim("PT-007", "_was_attached", "rcu", "prefix: mmap(p0..p4); t0: write(p3) | t1: mprotect(p0..p2, ro)"),
    Aim("PT-008", "vma_start_read", "linux-6.18", "prefix: mmap(p0..p4); t0: munmap(p0..p4); mmap(m1:p0..p4) | t1: write(p1)"),
    Aim("PT-009", "do_anonymous_page", "linux-6.18", "prefix: mmap(p0..p4); write(p1); t0: write(p0) | t1: read(p0)"),
    Aim("PT-010", "rcu_read_lock", "linux-6.18", _UNLINK.format("gup_fast(p1)"), polls=True),
    Aim("PT-010", "_rcu_gp_start", "linux-6.18", _UNLINK.format("write(p0)"), polls=True),
    Aim("PT-011", "rcu_read_lock", "linux-6.18", _HIT.format("read(p1)"), polls=True),
    Aim("PT-011", "rcu_read_lock", "linux-6.18", _HIT.format("write(p1)"), polls=True),
    Aim("PT-020", "flush_tlb_range", "linux-6.18", "prefix: mmap(p0..p4); write(p1); t0: dontneed(p1) | t1: read(p1)"),
    Aim("PT-032", "_flip/2", "seed-srcu", "prefix: mmap(p0..p4); write(p0); t0: walk(p0..p4, sleep) | t1: dontneed(p0..p4)"),
    Aim("PT-041", "page_pin", "linux-6.18", "prefix: mmap(p0..p4); write(p1); free(p1); t0: discard(p1) | t1: gup_fast(p1)"),
    Aim("PT-041", "page_is_pinned", "linux-6.18",
        "prefix: mmap(p0..p4); write(p1); free(p1); t0: discard(p1) | t1: gup_fast(p1, write)"),
    Aim("PT-051", "mm_reborn", "linux-6.18", "prefix: mmap(m1:p0..p4); t0: exit(m1) | t1: read(m1:p0); read(m1:p0)"),
    Aim("PT-062", "_take", "rcu", _PROTECT),
    Aim("PT-150", "_take", "rcu", _PROTECT),
    Aim("PT-150", "_vma_set_locked", "rcu", _PROTECT),
    Aim("PT-151", "pwc_fill", "linux-6.18", _FILLS + "t0: read(p1); read(m1:p1) | t1: dontneed(m1:p0..p4)"),
    Aim("PT-151", "tlb_fill", "linux-6.18",
        _FILLS + "t0: read(p1); read(m1:p1) | t1: free(p1) | t2: | t3: | t4: | t5: | t6: | t7:"),     # many cpus to flush
    Aim("PT-151", "tlb_fill/2", "linux-6.18",
        "prefix: mmap(p0..p4); mmap(m1:p0..p4); write(p1); write(m1:p1); t0: read(p1) | t1: dontneed(p1)"),
)
