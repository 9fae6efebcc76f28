"""Bugs of page tables without mmap_lock, which no kernel has yet."""

from ptstress.bug import Bug

LOCKLESS_BUGS = (
    Bug(
        "M01-install",
        "a fault fills an upper table without looking whether it is still attached once it has the table's lock",
        "R4 of page tables without mmap_lock, which no kernel has yet",
        "missing recheck after a lock was taken",
        ("use-after-free", "census", "data", "counters"),
        "prefix: mmap(p0..p4); t0: munmap(p0..p4) | t1: write(p1)",
        "canaries/M01-install",
        "rcu",
    ),
    Bug(
        "M04-r11",
        "a fault looks whether its VMA has changed before it has the table's lock, and not again once it does",
        "R11 of page tables without mmap_lock, which no kernel has yet",
        "recheck before the lock was taken",
        ("census", "data", "counters", "use-after-free", "stale-tlb"),
        "prefix: mmap(p0..p4); write(p0); t0: munmap(p0..p2) | t1: write(p1)",
        "canaries/M04-r11",
        "rcu",
    ),
    Bug(
        "M02-teardown",
        "munmap unlinks tables without their locks although faults do not hold the VMA",
        "R6 of page tables without mmap_lock, which no kernel has yet",
        "lock left out",
        ("lock-order", "use-after-free", "census", "data", "counters", "stale-tlb"),
        "prefix: mmap(p0..p4); write(p0); t0: munmap(p0..p4) | t1: write(p1)",
        "canaries/M02-teardown",
        "rcu",
    ),
    Bug(
        "M01-upper",
        "reclaim looks whether an upper table is empty before it has the table's lock, and not again once it does",
        "reclaim of upper tables, which no kernel has yet",
        "missing recheck after a lock was taken",
        ("use-after-free", "census", "data", "counters", "stale-tlb"),
        "prefix: mmap(p0..p8); write(p0); t0: dontneed(p0..p4) | t1: write(p5)",
        "canaries/M01-upper",
        "rcu-upper",
    ),
    Bug(
        "M05-mmap-read",
        "a fault that needs its VMA's first anon_vma takes mmap_lock for reading, where page tables are used without it",
        "the promise of page tables without mmap_lock; Linux's vmf_anon_prepare, which may",
        "wrong lock",
        ("lock-order",),
        "prefix: mmap(p0..p4); t0: write(p0) | t1: dontneed(p0..p4)",
        "canaries/M05-mmap-read",
        "rcu",
    ),
)
