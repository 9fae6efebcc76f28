"""One vocabulary for engine, model, traces and reports: verbs, oracles, builds, dtypes.

The numbers are part of the file formats; ``cy/base/shm.pxd`` holds the same ones and a test compares.
"""

from enum import IntEnum

import numpy as np


class Verb(IntEnum):
    """Operations a worker can do. ``SYNC`` waits for another worker and is not an operation."""

    NONE = 0
    READ = 1
    WRITE = 2
    WALK = 3
    MMAP = 4
    MUNMAP = 5
    DONTNEED = 6
    GUP_FAST = 7
    MPROTECT = 8
    POPULATE = 9
    GUARD_INSTALL = 10
    GUARD_REMOVE = 11
    AGE = 12
    EXIT = 13
    FREE = 14
    DISCARD = 15
    SCAN = 16
    SYNC = 23

    @property
    def label(self) -> str:
        """Name in programs, workloads and reports."""
        return self.name.lower()


#: Status of an operation of which nobody knows what became of it: -ECANCELED, which no operation returns.
STATUS_UNKNOWN = -125
#: Verbs that are operations on the address space.
OPERATIONS = (
    Verb.READ, Verb.WRITE, Verb.WALK, Verb.MMAP, Verb.MUNMAP, Verb.DONTNEED, Verb.GUP_FAST, Verb.MPROTECT,
    Verb.POPULATE, Verb.GUARD_INSTALL, Verb.GUARD_REMOVE, Verb.AGE, Verb.EXIT, Verb.FREE, Verb.DISCARD, Verb.SCAN,
)
#: Those that load from one page or store to it.
ACCESSES = (Verb.READ, Verb.WRITE, Verb.GUP_FAST)
#: Those that name no pages.
WHOLE_MM = (Verb.EXIT, Verb.SCAN)
#: Those that put guard markers into their pages, or take them out.
GUARDS = (Verb.GUARD_INSTALL, Verb.GUARD_REMOVE)
#: Those that tell one bit of each of their pages.
BITS = (Verb.WALK, Verb.AGE)
NR_VERBS = 24
NR_COUNTERS = 120


class Oracle(IntEnum):
    """Who found a violation."""

    NONE = 0
    UAF = 1
    CENSUS = 2
    DATA = 3
    STALE_TLB = 4
    COUNTERS = 5
    PROGRESS = 6
    LOCK_ORDER = 7
    SLEEP_IN_RCU = 8
    MODEL = 9
    RACE = 10

    @property
    def label(self) -> str:
        """Name in reports; never a letter."""
        return "use-after-free" if self is Oracle.UAF else self.name.lower().replace("_", "-")


OP_DTYPE = np.dtype(
    [("start", "u8"), ("end", "u8"), ("arg", "u8"), ("verb", "u2"), ("flags", "u2"), ("worker", "u4")]
)
"""One operation: pages ``[start, end)``, global page numbers (``ptstress.pages``). ``arg``: mmap, mprotect: 1 if writable;
gup_fast: 1 for a store; populate: 1 to write; walk: 1 to sleep in each table. ``worker``: who does it (serial runs)."""

EVENT_DTYPE = np.dtype(
    [
        ("t0", "u8"), ("t1", "u8"), ("start", "u8"), ("end", "u8"), ("value", "u8"), ("incarnation", "u8"),
        ("seq", "u4"), ("status", "i4"), ("verb", "u2"), ("lines", "u2"), ("aux", "u4"),
    ]
)
"""One recorded operation; see ``struct event`` in ``cy/base/shm.pxd``."""

REPORT_DTYPE = np.dtype(
    [
        ("oracle", "u4"), ("invariant", "u4"), ("cpu", "u4"), ("verb", "u4"), ("seq", "u8"), ("addr", "u8"),
        ("a", "u8"), ("b", "u8"), ("stamp", "u8"), ("what", "S96"),
    ]
)
"""One violation; see ``struct report`` in ``cy/base/shm.pxd``."""

PAGE_SHIFT = 12
PAGE_BYTES = 1 << PAGE_SHIFT
TABLE_BYTES = 4096
#: Bits of a global page number from here on tell its mm; a machine has at most so many.
MM_SHIFT, MAX_MMS = 48, 8

BUILDS = ("fast", "stress", "sched", "tsan", "tsan_sched")
#: Those with schedule points.
EXPLORED = ("sched", "tsan_sched")
LEVEL_NAMES = ("pte_table", "pmd_table", "pud_table", "p4d_table", "pgd")
