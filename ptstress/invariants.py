"""Registry of invariants: what must hold, who looks, and a planted bug that each of them finds. I04 in a report is number 4 here.

A row's ``bugs`` are those whose reports carry its number in their own programs; the first is its proof, in the default suite.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Invariant:
    """One thing that must hold. ``oracles``: who reports it, as ``ptstress list oracles`` names them; empty: nobody does.

    ``where``: where it is looked at, or why it is not. ``bugs``: ids. ``program``: under which the first bug shows it; empty:
    the bug's own.
    """

    number: int
    holds: str
    oracles: tuple[str, ...]
    where: str
    bugs: tuple[str, ...] = ()
    program: str = ""

    @property
    def name(self) -> str:
        """``I04``, as in reports."""
        return f"I{self.number:02d}"

    @property
    def checked(self) -> bool:
        """Whether somebody looks, and a bug is the proof."""
        return bool(self.oracles and self.bugs)


INVARIANTS = (
    # -- structure, locks, lifetimes ---------------------------------------------------------------------------------
    Invariant(
        1, "an entry is none or refers to what it may refer to: a table of the next level, in use; a frame; the zero page",
        ("use-after-free", "census"), "where an entry is followed, and at rest",
        ("P16", "P21"),
    ),
    Invariant(
        2, "a table has one parent entry",
        ("census",), "at rest",
        ("MX-two-parents",),
    ),
    Invariant(
        3, "what nothing refers to is free or on its way there: no table and no VMA is lost",
        ("census",), "at rest",
        ("MX-install-leak",),
    ),
    Invariant(
        4, "a table is empty when it is detached, and stays so until it is freed",
        ("use-after-free",), "where DONTNEED unlinks a table, and where any is freed",
        ("P01", "P07", "P21"),
    ),
    Invariant(
        5, "a store into a table is made under the table's lock; teardown of what nobody reaches may do without",
        ("lock-order",), "where a table is unlinked and VMAs are not locked",
        ("M02-teardown",),
    ),
    Invariant(
        6, "who goes on in a table under its lock has proved, under that lock, that it is attached",
        ("use-after-free", "lock-order"), "at a proof, and when a walk has slept in a table",
        ("M01-relock",),
    ),
    Invariant(
        7, "a pmd_table's lock is not waited for with a pte_table's lock held",
        ("lock-order",), "at each wait",
        ("M15-lock-order",),
    ),
    Invariant(
        8, "two locks of pte_tables are never held at once",
        ("lock-order",), "at each wait",
        ("M02-retry",),
        "prefix: mmap(p0..p4); write(p1); t0: dontneed(p0..p4); write(p1); read(p2) | t1: age(p0..p4)",
    ),
    Invariant(
        9, "a table's lock is not touched any more once the grace period of the table is over",
        ("use-after-free",), "where a lock is taken or released",
        ("P02", "M08-ipi", "M08-srcu-scan"),
    ),
    Invariant(
        10, "between a table's unlink and its reuse lies a full grace period, which began after the unlink",
        ("use-after-free", "progress"), "where a table is freed, and by its poison when it is used again; membarrier() works",
        ("P05",),
    ),
    Invariant(
        11, "who reads a table keeps it from being reused: nobody finds a freed one, or its poison",
        ("use-after-free",), "where a table is followed to, and where an entry is read",
        ("M07-table", "M08-ipi"),
    ),
    Invariant(
        12, "nothing sleeps inside a read section or under a spinlock",
        ("sleep-in-rcu",), "in whatever may sleep",
        ("M15-sleep", "M02-retry"),
    ),
    Invariant(
        13, "what an operation has locked, mapped or entered it leaves, as it was entered, before it ends",
        ("counters", "lock-order", "progress"), "where a lock or a section is left, and at rest",
        ("M13-srcu",),
    ),
    Invariant(
        14, "an entry lies in a VMA, and a frame in one that has an anon_vma",
        ("census",), "at rest",
        ("M04-r11",),
    ),
    Invariant(
        15, "munmap's tables are empty when it frees them: nothing is populated behind its zap",
        ("use-after-free",), "where teardown unlinks a table",
        ("M07-exit", "P21"),
    ),
    Invariant(16, "a huge entry has one table deposited for its split", (), "there are no huge pages"),
    Invariant(17, "a huge entry is never none in the middle of its split", (), "there are no huge pages"),
    Invariant(
        18, "a VMA locked for reading is attached, of that mm, covers the address, and no writer has it; VMAs do not overlap",
        ("use-after-free", "census"), "where a fault has locked a VMA; at rest",
        ("P18", "M01-recycled"),
    ),
    Invariant(
        19, "vm_refcnt is 1 at rest: no reader's count and no writer's bit is left behind",
        ("counters",), "at rest",
        ("MX-vma-put",),
    ),
    Invariant(
        20, "VMAs are write-locked while mmap_lock is held for writing, and no longer; find_vma comes with it held",
        ("counters", "lock-order"), "where a VMA is write-locked or found, and at rest",
        ("M07-exit",),
        "prefix: mmap(p0..p4); write(p0); t0: exit(m0) | t1: munmap(p0..p4)",
    ),
    Invariant(21, "a TLB holds no page in two sizes", (), "there are no huge pages"),
    Invariant(
        22, "no TLB, paging-structure cache or device reaches what is freed; at rest they say what the tables say",
        ("stale-tlb", "use-after-free", "counters"), "where a frame or a table is freed, after flushes, in accesses, at rest",
        ("M10-frame", "P24", "P24-batch", "M10-mprotect", "M09-free", "M10-discard", "P08"),
    ),
    Invariant(
        23, "who pins a frame without a lock has found the entry unchanged afterwards, and the frame stays until it lets go",
        ("use-after-free", "counters"), "where a pin is used, and at rest",
        ("M01-gup-pte",), "prefix: mmap(p0..p4); write(p1); t0: dontneed(p1) | t1: gup_fast(p1)",
    ),
    Invariant(
        24, "a page is pinned or discarded by memory pressure, never both",
        ("data",), "where a pin is used",
        ("M15-pin",),
    ),
    # -- accounting --------------------------------------------------------------------------------------------------
    Invariant(
        25, "pgtables_bytes is what the tables make",
        ("counters",), "at rest",
        ("P23",),
    ),
    Invariant(
        26, "pgtables_bytes covers the attached tables at every instant, and is never negative",
        ("counters",), "at each change",
        ("P23",),
        "prefix: mmap(p0..p32); t0: write(p0); munmap(p0..p16) | t1: write(p16); munmap(p16..p32)",
    ),
    Invariant(
        27, "tables allocated less tables freed are those that are reachable; nothing is freed twice or handed out in use",
        ("census",), "at each allocation and free, and at rest",
        ("MX-install-leak", "MX-ref-leak", "MX-freed-twice"),
    ),
    Invariant(
        28, "rss is the number of entries that map a frame; the zero page does not count",
        ("counters",), "at rest",
        ("P08",),
    ),
    Invariant(
        29, "a frame is in use while it is mapped, at one place, and is unmapped once; a table is unlinked once",
        ("census",), "at each unmap and unlink, and at rest",
        ("MX-queued-twice", "P04"),
    ),
    Invariant(
        30, "no page and no table is left when an mm ends",
        ("counters",), "at the end of an mm",
        ("P08",),
        "prefix: mmap(p0..p4); write(p1); t0: guard_install(p0); exit(m0) | t1: write(p0)",
    ),
    # -- what programs see -------------------------------------------------------------------------------------------
    Invariant(
        31, "a page comes to hold something by a write, a fault or a populate of its time, after the last discard",
        ("data",), "in the history of each page",
        ("M04-r11",),
        "prefix: mmap(p0..p4); write(p0); t0: munmap(p0..p2); mmap(p0..p2) | t1: read(p1)",
    ),
    Invariant(
        32, "what a discard ended is not used after its return",
        ("data", "stale-tlb"), "in the history of each page, and after each flush",
        ("P13", "P13-local", "M03-notifier"),
    ),
    Invariant(
        33, "a write is not lost without a discard that can have ended it",
        ("data",), "in the history of each page",
        ("M01-gup-pte",),
        "prefix: mmap(p0..p4); write(p1); t0: dontneed(p1); write(p0) | t1: gup_fast(p1, write)",
    ),
    Invariant(
        34, "the operations on a page have an order in time that explains each value and each result",
        ("data",), "in the history of each page",
        ("P19", "P17", "M01-gup-pte"),
    ),
    Invariant(
        35, "a DONTNEED visits each page once, and in ascending order",
        ("data",), "where a zap goes on after it has let go of its table",
        ("MX-zap-again",),
    ),
    Invariant(
        36, "a table that DONTNEED emptied is gone when nothing spoke against it",
        (), "no oracle of a run looks; the sequential model does after each step, and a test after races",
    ),
    Invariant(
        37, "a table stays while a VMA has a part of its range, and goes with the last one",
        ("census",), "at rest",
        ("M04-r11",),
        "prefix: mmap(p0..p4); t0: munmap(p0..p4) | t1: write(p1)",
    ),
    Invariant(
        38, "a guard stays until it is taken away, and every touch of it fails",
        ("data",), "in the history of each page",
        ("M01-guard", "MX-drop-markers", "P08"),
    ),
    Invariant(
        39, "a page given to FREE keeps its content or loses it for good; a write after the FREE is never lost",
        ("data",), "in the history of each page",
        ("M11-age", "M11-mprotect"),
    ),
    Invariant(
        40, "memory pressure drops a page only if nobody has written to it since the FREE",
        ("data",), "where a page is dropped",
        ("M15-dirty",),
    ),
    Invariant(
        41, "the zero page is never mapped writable or dirty",
        ("census",), "at rest",
        ("MX-zero-writable",),
    ),
    Invariant(
        42, "a write that replaces the zero page leaves no translation to it behind when the frame is mapped",
        ("stale-tlb",), "where a frame takes its place",
        ("M10-wp",),
    ),
    Invariant(
        43, "mprotect keeps what pages hold, and no entry allows more than its VMA",
        ("census",), "at rest",
        ("P17",),
    ),
    Invariant(44, "mremap moves content and tables, and leaves nothing", (), "there is no mremap"),
    Invariant(45, "a page of a userfaultfd range appears by its handler alone", (), "there is no userfaultfd"),
    Invariant(
        46, "a walk reports what was present all the time, and nothing that was absent all the time",
        ("data",), "in the history of each page",
        ("MX-walk-hole",),
    ),
    Invariant(
        47, "whoever retries gets through once the others rest",
        ("progress",), "in loops that retry, and as a livelock under the explorer",
        ("P20",),
    ),
    Invariant(
        48, "locks are waited for in their order: no deadlock",
        ("lock-order", "progress"), "at each wait; as a deadlock under the explorer; where rcu has no readers of mmap_lock",
        ("M05-mmap-read", "M15-trylock"),
    ),
    # -- what reclaim must not break ---------------------------------------------------------------------------------
    Invariant(
        49, "no mm ends while a scan is at it",
        ("use-after-free",), "at the end of an mm",
        ("M07-scan",),
    ),
    Invariant(
        50, "a scan frees what is empty only, and whatever was marked for one is found by one",
        ("use-after-free", "census"), "where a scan unlinks a table; at rest",
        ("M01-scan", "M08-zero"),
    ),
    Invariant(
        51, "reclaim changes nothing that a program can read",
        ("stale-tlb",), "where it has taken the zero page from a table",
        ("M10-zero",),
    ),
    Invariant(
        52, "a table is installed into a parent that is attached",
        ("use-after-free",), "where it is installed and upper tables may go",
        ("M01-install",),
    ),
    Invariant(
        53, "a table that is not empty is attached, at every level",
        ("use-after-free",), "where an upper table is unlinked",
        ("M01-upper",),
    ),
    Invariant(
        54, "a reference is taken to a table that has one, and a table that has one is not freed",
        ("use-after-free",), "where references are taken and where a table is freed",
        ("M01-ref",),
    ),
    Invariant(
        55, "what waits for a grace period is freed once the readers have left; until then no more waits than the queues hold",
        ("census", "progress"), "how many tables of a cpu wait, where an operation begins; that none does, at rest",
        ("MX-backpressure", "MX-ref-leak"),
    ),
    Invariant(
        56, "each frame that was unmapped is freed, and none that is mapped",
        ("census",), "at rest",
        ("P08", "MX-frame-leak"),
    ),
    Invariant(
        57, "a frame belongs to the anon_vma of the VMA that maps it: an anon_vma that was set stays",
        ("census",), "at rest",
        ("M02-anon-vma",),
    ),
    Invariant(
        58, "what the operations of a small program return and leave is what the sequential model comes to in some order",
        ("model",), "at the end of an explored execution that all others let pass",
        ("MX-madvise-relock", "P21"),
    ),
)


def broken_by(bug_id: str) -> tuple[int, ...]:
    """Numbers of the invariants that a report of the bug may carry."""
    return tuple(i.number for i in INVARIANTS if bug_id in i.bugs)
