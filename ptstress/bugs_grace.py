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
)
