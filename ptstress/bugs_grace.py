"""Bugs of grace periods: of who ends one too early, and of who never waits for one."""

from ptstress.bug import Bug

GRACE_BUGS = (
    Bug(
        "MX-backpressure",
        "nobody waits for grace periods, however many unlinked tables do: one reader that does not get on takes all memory",
        "the rule that Linux's rcutorture holds call_rcu to, forward progress under a flood of callbacks",
        "back-pressure left out",
        ("progress",),
        "prefix: mmap(p0..p8); write(p1); write(p5); t0: munmap(p0..p8); read(p0) | t1: read(p1)",
        "canaries/MX-backpressure",
    ),
    Bug(
        "M08-srcu-scan",
        "a grace period of SRCU looks at one half of its readers: one that had read the index before a flip, and counted "
        "itself afterwards, is not waited for",
        "the first of the two scans in Linux's srcu_advance_state",
        "wait for one of two sets of readers",
        ("use-after-free",),
        "prefix: mmap(p0..p8); write(p0); write(p4); t0: walk(p0..p4, sleep) | t1: dontneed(p4..p8) | t2: dontneed(p0..p4)",
        "canaries/M08-srcu-scan",
        "seed-srcu",
    ),
)
