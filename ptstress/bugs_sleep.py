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
        "M01-ref",
        "who finds a table under RCU takes a reference to it even if the last one is gone, and sleeps in a table that is freed",
        "I54, the rule of references to tables that no kernel has yet; the series of 2021 had one for each entry",
        "missing recheck",
        ("use-after-free",),
        "prefix: mmap(p0..p4); write(p0); t0: walk(p0..p4, sleep) | t1: dontneed(p0..p4)",
        "canaries/M01-ref",
        "seed-refcount",
    ),
    Bug(
        "M01-relock",
        "a walk that has slept in a table locks it again and does not look whether it was detached meanwhile",
        "the rule that whoever slept must prove attachment again, of walkers that no kernel has yet",
        "missing recheck after a lock was taken",
        ("use-after-free",),
        "prefix: mmap(p0..p4); write(p0); t0: walk(p0..p4, sleep) | t1: dontneed(p0..p4)",
        "canaries/M01-relock",
        "seed-srcu",
    ),
    Bug(
        "M13-srcu",
        "a walk leaves SRCU by the index that is there now, not by the one that it got: a flip came between",
        "the rule of srcu_read_unlock",
        "second read in place of the value that was kept",
        ("counters",),
        "prefix: mmap(p0..p4); write(p0); t0: walk(p0..p4, sleep) | t1: dontneed(p0..p4)",
        "canaries/M13-srcu",
        "seed-srcu",
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
