"""Registry of schemes: how page tables are protected, and when empty ones are freed.

A scheme is one protection x one reclaim policy. Adding one is one line in ``SCHEMES``.
"""

from dataclasses import dataclass

from ptstress.errors import UsageError

PROTECTIONS = (
    ("mmap_lock", "mmap_lock for read or write, as before per-VMA locks"),
    ("vma_lock", "per-VMA lock, falling back to mmap_lock, as Linux 6.18"),
    ("covering", "toy: one lock for each covering table, proof that cursors carry other protocols"),
)
RECLAIMS = (
    ("never", "tables are freed at munmap and exit only"),
    ("sync", "DONTNEED frees pte_tables that one call empties, as Linux 6.14 and later"),
)

# Which bugs a scheme can show: a bug outside the code that a scheme runs would survive for ever. Canaries are those that
# every run plants; the rest would make a run longer and prove little more.
_NEVER_CANARIES = ("M07-table", "P23", "M10-frame", "M10-mprotect", "P21", "M09-free", "M07-exit")
_SYNC_CANARIES = ("P01", *_NEVER_CANARIES)
# What every scheme runs too, but not every number of threads shows within the seconds that a canary has.
_SHOWN = ("P13", "P13-local", "M10-discard", "M11-age", "M11-mprotect", "M15-dirty", "P05", "P16", "P24", "M01-gup-pte")
# Lockless lookups of VMAs. What needs VMAs that are reused without a grace period is not shown so soon.
_VMA_LOCK_CANARIES = ("P19",)
_TYPESAFE_SHOWN = ("P17", "P18", "M01-recycled")
# Split locks: the order of a table's lock and its parent's is theirs.
_SPLIT_SYNC_CANARIES = (*_SYNC_CANARIES, "M15-lock-order")
# An IPI frees a table that finds no batch only where empty tables stay.
_NEVER_SHOWN = (*_SHOWN, "P24-batch")
_SPLIT_SYNC_SHOWN = (*_SHOWN, "P02", "P07", "P20")


@dataclass(frozen=True)
class Scheme:
    """One way to protect and free page tables.

    ``dontneed_vma_lock``: DONTNEED takes the VMA lock instead of mmap_lock for read.
    ``drop_lock_before_flush``: it drops that lock before the final TLB flush.
    ``vma_reuse``: freed VMA objects are reused at once (typesafe, Linux 6.15 and later) or after a grace period (rcu).
    ``canaries``: ids of the bugs that a run under this scheme must be able to find, and plants.
    ``shown``: ids of further bugs in code that it runs, for ``--bug``.
    """

    name: str
    summary: str
    protection: str
    reclaim: str
    dontneed_vma_lock: bool = False
    drop_lock_before_flush: bool = False
    vma_reuse: str = "typesafe"
    canaries: tuple[str, ...] = ()
    shown: tuple[str, ...] = _SHOWN

    def runs(self, bug_id: str) -> bool:
        """Whether the scheme runs the code that the bug sits in."""
        return bug_id in self.canaries or bug_id in self.shown

    @property
    def parts(self) -> str:
        """``vma_lock x sync``."""
        return f"{self.protection} x {self.reclaim}"

    def config(self) -> dict[str, str | bool]:
        """The engine's configuration keys of this scheme."""
        return {
            "protection": self.protection,
            "reclaim": self.reclaim,
            "dontneed_vma_lock": self.dontneed_vma_lock,
            "drop_lock_before_flush": self.drop_lock_before_flush,
            "vma_reuse": self.vma_reuse,
        }


SCHEMES = (
    Scheme(
        "linux-6.3", "before per-VMA locks: every operation under mmap_lock, empty tables stay",
        "mmap_lock", "never", vma_reuse="rcu", canaries=_NEVER_CANARIES, shown=_NEVER_SHOWN,
    ),
    Scheme(
        "linux-6.12", "faults under the VMA lock, DONTNEED under mmap_lock for read, empty tables stay",
        "vma_lock", "never", vma_reuse="rcu", canaries=(*_NEVER_CANARIES, *_VMA_LOCK_CANARIES), shown=(*_NEVER_SHOWN, "P18"),
    ),
    Scheme(
        "linux-6.18", "faults and DONTNEED under the VMA lock, DONTNEED frees the tables it empties",
        "vma_lock", "sync", dontneed_vma_lock=True, drop_lock_before_flush=True,
        canaries=(*_SPLIT_SYNC_CANARIES, *_VMA_LOCK_CANARIES), shown=(*_SPLIT_SYNC_SHOWN, *_TYPESAFE_SHOWN),
    ),
    Scheme(
        "covering", "toy protection by covering locks, DONTNEED frees the tables it empties",
        "covering", "sync", canaries=_SYNC_CANARIES,
    ),
)


def find_scheme(name: str) -> Scheme:
    """The scheme called ``name``, or built from ``protection+reclaim``. Raises ``UsageError``."""
    for scheme in SCHEMES:
        if scheme.name == name:
            return scheme
    protection, plus, reclaim = name.partition("+")
    if plus and protection in dict(PROTECTIONS) and reclaim in dict(RECLAIMS):
        canaries, shown = _NEVER_CANARIES, _NEVER_SHOWN
        if reclaim == "sync":
            covering = protection == "covering"
            canaries, shown = (_SYNC_CANARIES, _SHOWN) if covering else (_SPLIT_SYNC_CANARIES, _SPLIT_SYNC_SHOWN)
        if protection == "vma_lock":
            canaries, shown = (*canaries, *_VMA_LOCK_CANARIES), (*shown, *_TYPESAFE_SHOWN)
        return Scheme(
            name, f"{protection} with reclaim {reclaim}", protection, reclaim, canaries=canaries, shown=shown
        )
    named = ", ".join(s.name for s in SCHEMES)
    generic = f"{'|'.join(dict(PROTECTIONS))}+{'|'.join(dict(RECLAIMS))}"
    raise UsageError(f"scheme {name!r}: expected one of {named}, or {generic}")
