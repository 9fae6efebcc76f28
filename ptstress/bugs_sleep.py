"""Bugs of walks that sleep in tables, and of the devices that they read for."""

from ptstress.bug import Bug

SLEEP_BUGS = (
    Bug(
        "M15-sleep",
        "a walk sleeps in a table inside the RCU section that keeps it",
        "the difficulty that page tables by RCU alone have with mmu_notifier_invalidate_range_start in a pmd_entry callback",
        "call on the wrong side of an unlock",
        ("sleep-in-rcu",),
        "prefix: mmap(p0..p4); write(p0); t0: walk(p0..p4, sleep) | t1: dontneed(p0..p4)",
        "canaries/M15-sleep",
    ),
    Bug(
        "M03-notifier",
        "a device is told that an invalidation is over before anything was unmapped, and takes in what goes then",
        "the kind of Linux f268f6cf875f, which does not tell it at all",
        "unlock before the last dependent action",
        ("stale-tlb",),
        "prefix: mmap(p0..p4); write(p0); t0: walk(p0..p4) | t1: dontneed(p0..p4)",
        "canaries/M03-notifier",
        "linux-6.18@vma_lock",
    ),
)
