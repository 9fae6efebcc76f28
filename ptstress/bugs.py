"""Registry of bugs: named switches, each of which re-creates a bug that Linux really had.

``cy/base/bugs.pxd`` holds the switches; builds without checks do not have them.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from ptstress.errors import UsageError


@dataclass(frozen=True)
class Bug:
    """One planted bug. ``oracles``: each of them is a right answer.

    ``program``: small, and some of its schedules show the bug, under ``scheme``. ``workload``: threads find it there in
    seconds, as a canary; empty if only the explorer finds it.
    """

    id: str
    summary: str
    source: str
    kind: str
    oracles: tuple[str, ...]
    program: str
    workload: str = ""
    scheme: str = "linux-6.18"


BUGS = (
    Bug(
        "P01",
        "DONTNEED frees a table in one go although it had let go of the table's lock midway and a fault refilled it",
        "Linux f39edcf6349a, fixes 6375e95f381e",
        "missing recheck after a lock was dropped",
        ("census", "data", "counters", "use-after-free", "stale-tlb"),
        "prefix: mmap(p0..p4); write(p0); t0: dontneed(p0..p4) | t1: write(p0); write(p1)",
        "canaries/P01",
    ),
    Bug(
        "P17",
        "mprotect unlocks a VMA before the change of its flags is visible, so that a fault still goes by the old ones",
        "Linux b1f02b95758d",
        "missing barrier",
        ("census", "data", "stale-tlb"),
        "prefix: mmap(p0..p4); t0: mprotect(p0..p4, ro) | t1: write(p1); write(p1)",
        "canaries/P17",
    ),
    Bug(
        "P18",
        "a fault looks at the bounds of a VMA before it holds the VMA's lock, and not again once it does",
        "Linux 657b5146955e",
        "missing recheck after a lock was taken",
        ("data", "census", "use-after-free", "counters", "stale-tlb"),
        "prefix: mmap(p0..p8); write(p0); t0: munmap(p4..p8) | t1: write(p5)",
        "canaries/P18",
    ),
    Bug(
        "P19",
        "mmap publishes a VMA before it has write-locked it, so that a fault meets it before its protection is set",
        "Linux 33313a747e81",
        "published before it was locked",
        ("data",),
        "prefix: mmap(p0..p4); t0: mmap(p0..p4) | t1: write(p0)",
        "canaries/P19",
    ),
    Bug(
        "P02",
        "a table's lock dies when the table is unlinked, though walkers that found the table may still take the lock",
        "the ptlock of the first versions of Linux 6375e95f381e",
        "freed without a grace period",
        ("use-after-free", "lock-order"),
        "prefix: mmap(p0..p4); write(p1); t0: dontneed(p0..p4) | t1: write(p0)",
        "canaries/P02",
    ),
    Bug(
        "P05",
        "an unlinked table is freed after the flush, without waiting for walkers that hold no lock",
        "Linux 2ba99c5e0881",
        "freed without a grace period",
        ("use-after-free", "census", "data", "counters"),
        "prefix: mmap(p0..p4); write(p1); t0: dontneed(p0..p4) | t1: gup_fast(p1)",
        "canaries/P05",
    ),
    Bug(
        "P07",
        "a fault keeps the lock that it found before its RCU section ended, while the table is replaced by another one",
        "CVE-2024-42233",
        "stale lock pointer",
        ("use-after-free", "census", "data", "counters"),
        "prefix: mmap(p0..p4); write(p1); t0: dontneed(p0..p4); write(p1) | t1: write(p0)",
        "canaries/P07",
    ),
    Bug(
        "P08",
        "guard_install and guard_remove take the mm's page_table_lock for entries that all others change under their "
        "table's lock",
        "CVE-2024-45024",
        "wrong lock",
        ("census", "counters", "data", "use-after-free", "stale-tlb"),
        "prefix: mmap(p0..p4); write(p1); t0: guard_install(p0) | t1: write(p0)",
        "canaries/P08",
    ),
    Bug(
        "P16",
        "a new table becomes reachable before it is zeroed",
        "Linux 362a61ad6119",
        "missing write barrier; the stores are swapped, because x86 keeps their order",
        ("use-after-free", "census", "data", "counters"),
        "prefix: mmap(p0..p4); t0: write(p0) | t1: write(p1)",
        "canaries/P16",
    ),
    Bug(
        "P20",
        "a walk tests one reading of an entry and maps another one, and starts over as long as the two disagree",
        "Linux 688272809fcc",
        "two reads of one entry",
        ("progress",),
        "prefix: mmap(p0..p4); write(p1); t0: dontneed(p0..p4) | t1: walk(p0..p4)",
        "canaries/P20",
    ),
    Bug(
        "P24",
        "the flush for a freed table covers its pages only: other cpus still reach it through their paging-structure caches",
        "Linux d86564a2f085, 3ef938c35035",
        "TLB flush too small",
        ("stale-tlb", "use-after-free"),
        "prefix: mmap(p0..p4); t0: dontneed(p0..p4) | t1: write(p0); read(p1)",
        "canaries/P24",
    ),
    Bug(
        "P24-batch",
        "a table that finds no batch to be queued in is freed without a flush",
        "Linux 0ed1325967ab",
        "TLB flush left out on the failure path",
        ("stale-tlb", "use-after-free"),
        "prefix: mmap(p0..p4); write(p1); t0: munmap(p0..p4) | t1: read(p1)",
        "canaries/P24-batch",
        "linux-6.12",
    ),
    Bug(
        "M01-gup-pte",
        "gup_fast uses the frame that it pinned without looking at the entry again",
        "the kind of Linux 70cbc3cc78a9",
        "missing recheck by a reader without locks",
        ("data", "use-after-free"),
        "prefix: mmap(p0..p4); write(p1); t0: dontneed(p1); write(p0) | t1: gup_fast(p1)",
        "canaries/M01-gup-pte",
    ),
    Bug(
        "P21",
        "munmap gives mmap_lock back when it has taken the mapping out, so that a new one is torn down with the old one",
        "Linux 246c320a8cfe, CVE-2020-29369",
        "lock given back too early",
        ("use-after-free", "census", "data", "counters", "stale-tlb"),
        "prefix: mmap(p0..p4); write(p0); t0: munmap(p0..p4) | t1: mmap(p0..p4); write(p1); read(p1)",
        "canaries/P21",
    ),
    Bug(
        "P23",
        "the mm's table counter is a plain variable although two table locks let two cpus change it at once",
        "Linux e1f56c89b040",
        "counter that is not atomic",
        ("counters", "census"),
        "prefix: mmap(p0..p32); t0: write(p0) | t1: write(p16)",
        "canaries/P23",
    ),
    Bug(
        "M01-recycled",
        "vma_start_read does not look whose VMA it has locked: a VMA object that another mm reuses serves for a fault",
        "the check of vm_mm that Linux 6.15 came with",
        "missing recheck after a lock was taken",
        ("data", "census", "use-after-free", "counters", "stale-tlb", "lock-order"),
        "prefix: mmap(p0..p4); t0: munmap(p0..p4); mmap(m1:p0..p4) | t1: write(p1)",
        "canaries/M01-recycled",
    ),
    Bug(
        "M07-exit",
        "exit frees the tables of an mm without waiting for the operations that are still in it",
        "the rule of Linux's mmget_not_zero",
        "freed while in use",
        ("use-after-free", "census", "counters", "data", "stale-tlb", "lock-order", "progress"),
        "prefix: mmap(p0..p4); write(p0); t0: exit(m0) | t1: write(p1)",
        "canaries/M07-exit",
    ),
    Bug(
        "M01-scan",
        "a scan takes a table for empty because it looked so without a lock: a page that was faulted in since is lost",
        "the rule that khugepaged's retract_page_tables keeps",
        "recheck missing",
        ("use-after-free", "data", "census", "counters"),
        "prefix: mmap(p0..p4); write(p1); dontneed(p1); t0: scan(m0) | t1: write(p0); read(p0)",
        "canaries/M01-scan",
        scheme="seed-async",
    ),
    Bug(
        "M07-scan",
        "a scan does not pin the mm that it took from the list, which ends meanwhile",
        "the rule that khugepaged's exit handshake keeps",
        "freed too early",
        ("use-after-free", "census"),
        "prefix: mmap(m1:p0..p4); write(m1:p1); dontneed(m1:p1); t0: scan(m0) | t1: exit(m1)",
        "canaries/M07-scan",
        scheme="seed-async",
    ),
    Bug(
        "M07-table",
        "an unlinked table is freed at once, without waiting for the walkers that may still read it",
        "the kind of Linux 2ba99c5e0881",
        "freed without a grace period",
        ("use-after-free", "census", "data", "stale-tlb"),
        "prefix: mmap(p0..p4); write(p1); t0: dontneed(p0..p4) | t1: write(p0)",
        "canaries/M07-table",
    ),
    Bug(
        "M01-guard",
        "a fault that has the table's lock asks whether the entry is not present, not whether it is none: it maps over "
        "a guard marker",
        "the recheck in Linux do_anonymous_page",
        "weak recheck after a lock was taken",
        ("data",),
        "prefix: mmap(p0..p4); write(p1); t0: guard_install(p0); read(p0) | t1: write(p0)",
        "canaries/M01-guard",
    ),
    Bug(
        "MX-drop-markers",
        "DONTNEED drops guard markers as munmap does, so that guarded pages can be touched again",
        "the rule of Linux's ZAP_FLAG_DROP_MARKER",
        "wrong flag",
        ("data",),
        "prefix: mmap(p0..p4); t0: guard_install(p0..p2); read(p0) | t1: dontneed(p0..p4)",
        "canaries/MX-drop-markers",
    ),
    Bug(
        "M10-frame",
        "a data frame is freed before the TLB flush, so that another cpu still reaches it",
        "the kind of Linux eb66ae030829",
        "TLB flush too late",
        ("stale-tlb", "use-after-free", "data"),
        "prefix: mmap(p0..p4); write(p1); t0: dontneed(p0..p4) | t1: write(p1)",
        "canaries/M10-frame",
    ),
    Bug(
        "M10-mprotect",
        "mprotect takes the write bit from the entries and returns without a flush: other cpus go on writing",
        "the kind of Linux 3ea277194daa",
        "TLB flush missing",
        ("stale-tlb", "data"),
        "prefix: mmap(p0..p4); t0: mprotect(p0..p4, ro) | t1: write(p1); write(p1)",
        "canaries/M10-mprotect",
    ),
    Bug(
        "M11-mprotect",
        "mprotect takes the write bit by a load and a store: a D bit that hardware sets in between is lost, and so is the write",
        "the rule that Linux keeps by ptep_modify_prot_start",
        "read-modify-write that is not atomic",
        ("data", "model"),
        "prefix: mmap(p0..p4); write(p1); free(p1); t0: mprotect(p1, ro); discard(p1) | t1: write(p1); read(p1)",
        "canaries/M11-mprotect",
    ),
    Bug(
        "M11-age",
        "age clears A by a load and a store: a D bit that hardware sets in between is lost, and so is the write",
        "the kind of Linux 6d332747fa5f",
        "read-modify-write that is not atomic",
        ("data", "stale-tlb"),
        "prefix: mmap(p0..p4); write(p1); free(p1); read(p1); t0: age(p1); discard(p1) | t1: write(p1); read(p1)",
        "canaries/M11-age",
    ),
    Bug(
        "M15-lock-order",
        "the fast detach waits for the pmd_table's lock with the table's lock held, against the slow one: a deadlock",
        "the rule that Linux 6375e95f381e keeps by a trylock",
        "lock taken against the order",
        ("lock-order", "progress"),
        "prefix: mmap(p0..p4); write(p1); t0: dontneed(p0..p4) | t1: write(p0)",
        "canaries/M15-lock-order",
    ),
    Bug(
        "P13",
        "unmapping takes a page that reclaim has just cleared for gone, although the TLB flush for it is still deferred",
        "Linux 3ea277194daa",
        "TLB flush left out",
        ("data", "stale-tlb"),
        "prefix: mmap(p0..p4); write(p1); free(p1); t0: discard(p1) | t1: read(p1); dontneed(p0..p2); read(p1)",
        "canaries/P13",
    ),
    Bug(
        "P13-local",
        "unmapping makes up for the deferred TLB flush of reclaim on its own cpu only",
        "Linux 4b634918384c",
        "TLB flush too narrow",
        ("data", "stale-tlb"),
        "prefix: mmap(p0..p4); write(p1); free(p1); t0: discard(p1) | t1: dontneed(p0..p2) | t2: read(p1); read(p1); read(p1)",
        "canaries/P13-local",
    ),
    Bug(
        "M08-zero",
        "a table that maps only the zero page is unlinked with its entries in it: a write that saw one takes "
        "the table for attached",
        "the proof of attachment by an entry that is not none",
        "clearing left out",
        ("use-after-free", "data", "census", "counters"),
        "prefix: mmap(p0..p4); read(p1); t0: scan(m0) | t1: write(p1); read(p1)",
        "canaries/M08-zero",
        scheme="seed-zero",
    ),
    Bug(
        "M10-zero",
        "the zero page is unmapped under the locks and flushed behind them: a read on another cpu misses a write that is over",
        "the rule that Linux's do_wp_page keeps",
        "TLB flush too late",
        ("data", "stale-tlb"),
        "prefix: mmap(p0..p4); t0: read(p1); read(p1); read(p1) | t1: scan(m0) | t2: write(p1); read(p1)",
        "canaries/M10-zero",
        scheme="seed-zero",
    ),
    Bug(
        "M09-free",
        "FREE makes entries clean and does not flush, so that a store through a TLB leaves no trace and is lost",
        "the flush in Linux madvise_free_pte_range",
        "TLB flush left out",
        ("data", "stale-tlb"),
        "prefix: mmap(p0..p4); t0: write(p1); free(p1); write(p1); read(p1) | t1: discard(p0..p4)",
        "canaries/M09-free",
    ),
    Bug(
        "M10-discard",
        "memory pressure frees a page before the deferred TLB flush, so that another cpu still reaches it",
        "the order that Linux shrink_folio_list keeps by try_to_unmap_flush",
        "TLB flush too late",
        ("stale-tlb", "use-after-free", "data"),
        "prefix: mmap(p0..p4); write(p1); free(p1); t0: discard(p1) | t1: read(p1); read(p1)",
        "canaries/M10-discard",
    ),
    Bug(
        "M15-dirty",
        "memory pressure looks whether a page is dirty before it clears the entry: a store in between is lost",
        "the order that Linux try_to_unmap_one keeps",
        "order swapped",
        ("data", "stale-tlb"),
        "prefix: mmap(p0..p4); write(p1); free(p1); t0: discard(p1) | t1: write(p1); read(p1)",
        "canaries/M15-dirty",
    ),
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
        ("use-after-free", "census", "data", "counters", "stale-tlb"),
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
)


def find_bug(bug_id: str) -> Bug:
    """The bug called ``bug_id``. Raises ``UsageError``."""
    for bug in BUGS:
        if bug.id == bug_id:
            return bug
    raise UsageError(f"bug {bug_id!r}: expected one of {', '.join(b.id for b in BUGS)}")


def find_bugs(bug_ids: Iterable[str]) -> tuple[Bug, ...]:
    """The bugs called so, each once, in the order given. Raises ``UsageError``."""
    return tuple(find_bug(bug_id) for bug_id in dict.fromkeys(bug_ids))
