"""Registry of schemes: how page tables are protected, and when empty ones are freed.

A scheme is one protection x a set of reclaim policies. Adding one is one line in ``SCHEMES``. Other packages bring theirs
through the entry point group ``ptstress.schemes``; looked up when a name is none of ours, so that ours cost nothing more.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace

from ptstress.errors import UsageError

PROTECTIONS = (
    ("mmap_lock", "mmap_lock for read or write, as before per-VMA locks"),
    ("vma_lock", "per-VMA lock, falling back to mmap_lock, as Linux 6.18"),
    ("rcu", "RCU and table locks alone: no lock over VMAs or upper tables; in no kernel yet"),
    ("covering", "toy: one lock for each covering table, proof that cursors carry other protocols"),
)
#: Before the name of a policy of another package; see ``ptstress.plugin``.
PLUGIN = "plugin:"
#: Of installed packages: each names a ``Scheme``, several of them, or a function that returns them.
ENTRY_POINTS = "ptstress.schemes"
#: The empty set of reclaim policies, and the policies.
NEVER = "never"
RECLAIMS = (
    (NEVER, "tables are freed at munmap and exit only"),
    ("sync", "DONTNEED frees pte_tables that one call empties, as Linux 6.14 and later"),
    ("async", "scans free the empty pte_tables of VMAs that were marked, in whatever way these became empty"),
    ("taskwork", "the same, by whoever left them behind, at the end of its operation, as the series of June 2024"),
    ("zero", "scans free tables that map nothing but the zero page too; reading marks a VMA"),
    ("upper", "with a pte_table that one of the others frees, the upper tables that are empty then; only under rcu"),
)


#: In place of a scheme's name: all of ours.
ALL = "all"

#: What a walk that sleeps in a table holds meanwhile, or does afterwards.
SLEEP_MODES = (
    ("vma_lock", "the VMA lock, or mmap_lock, stays; the table is looked up again"),
    ("revalidate", "nothing stays; the walk begins again where it stopped"),
    ("hoist", "sleeps once for the whole range, before it begins"),
    ("refcount", "a reference keeps the table from being freed"),
    ("srcu", "a section of SRCU keeps all tables from being freed"),
    ("srcu-mm", "a section of SRCU keeps the tables of its mm from being freed"),
)


@dataclass(frozen=True)
class Scheme:
    """One way to protect and free page tables.

    ``reclaim``: names of reclaim policies with ``+`` between them, or ``never``.
    ``dontneed_vma_lock``: DONTNEED takes the VMA lock instead of mmap_lock for read.
    ``drop_lock_before_flush``: it drops that lock before the final TLB flush.
    ``vma_reuse``: freed VMA objects are reused at once (typesafe, Linux 6.15 and later) or after a grace period (rcu).
    ``sleep_mode``: how walks sleep. ``secondary_mmu``: each mm has a device that is told of invalidations.

    For policies of other packages, of which only their authors know these; all may stay empty:
    ``tables_as``: names of our reclaim policies that free the same tables in a serial run, for the model. Without it nothing
    predicts table bytes. A policy that unmaps the zero page has to name ``zero``.
    ``locks_as``: our protection that locks alike, for the model and for bugs in what it locks.
    ``plants``: ids of bugs beyond those of every scheme that runs must be able to find, and plant.
    """

    name: str
    summary: str
    protection: str
    reclaim: str
    dontneed_vma_lock: bool = False
    drop_lock_before_flush: bool = False
    vma_reuse: str = "typesafe"
    sleep_mode: str = "vma_lock"
    secondary_mmu: bool = False
    tables_as: str = ""
    locks_as: str = ""
    plants: tuple[str, ...] = ()

    @property
    def policies(self) -> frozenset[str]:
        """Its reclaim policies."""
        return policies_of(self.reclaim)

    @property
    def plugged(self) -> tuple[str, ...]:
        """Policies of other packages that it uses."""
        return tuple(p.removeprefix(PLUGIN) for p in (self.protection, *self.reclaim.split("+")) if p.startswith(PLUGIN))

    @property
    def modelled(self) -> str | None:
        """Reclaim policies by which the model predicts table bytes; ``None``: it cannot."""
        return self.tables_as or (None if PLUGIN in self.reclaim else self.reclaim)

    @property
    def said(self) -> str:
        """What ``list`` says of it."""
        unknown = "" if self.modelled else "; no model of its tables"
        return f"{self.parts}: {self.summary}{unknown}"

    @property
    def locking(self) -> str:
        """The protection of ours that locks as this one does; empty: none does."""
        return self.locks_as or ("" if self.protection.startswith(PLUGIN) else self.protection)

    @property
    def lockless(self) -> bool:
        """Whether nothing keeps the VMAs of a range as they are during an operation."""
        return self.locking == "rcu"

    @property
    def canaries(self) -> tuple[str, ...]:
        """Ids of the bugs that a run under this scheme must be able to find, and plants."""
        ours = (bug for shown in _SHOWN if shown.where(self) for bug in shown.canaries)
        return tuple(dict.fromkeys((*ours, *self.plants)))

    @property
    def shown(self) -> tuple[str, ...]:
        """Ids of further bugs in code that it runs, for ``--bug``."""
        return tuple(bug for shown in _SHOWN if shown.where(self) for bug in shown.further)

    @property
    def scans(self) -> bool:
        """Whether one of its policies looks for tables in scans; otherwise "scan" does nothing."""
        return bool((self.policies | policies_of(self.tables_as or NEVER)) & {"async", "taskwork", "zero"})

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
            "sleep_mode": self.sleep_mode,
            "secondary_mmu": self.secondary_mmu,
        }


@dataclass(frozen=True)
class _Shown:
    """Bugs that schemes can show: a bug outside the code that a scheme runs would survive for ever.

    ``canaries`` are those that every run plants. ``further`` would make a run longer and prove little more, or not every
    number of threads shows them within the seconds that a canary has.
    """

    where: Callable[[Scheme], bool]
    canaries: tuple[str, ...]
    further: tuple[str, ...] = ()


#: Protections with one lock for each table.
_SPLIT = ("mmap_lock", "vma_lock", "rcu")
_SHOWN = (
    _Shown(lambda s: "sync" in s.policies, ("P01",)),
    _Shown(
        lambda s: True,
        ("M07-table", "P23", "M10-frame", "M10-mprotect", "M09-free", "M07-exit"),
        ("P13", "P13-local", "M10-discard", "M11-age", "M11-mprotect", "M15-dirty", "P05", "P16", "P24", "M01-gup-pte",
         "M01-guard", "MX-drop-markers", "M15-sleep", "MX-backpressure", "MX-freed-twice", "MX-frame-leak"),
    ),
    _Shown(lambda s: "async" in s.policies, (), ("M07-scan",)),
    _Shown(lambda s: "async" in s.policies and s.locking in ("mmap_lock", "vma_lock"), ("M01-scan",)),
    _Shown(lambda s: s.secondary_mmu, ("M03-notifier",)),
    # A covering lock is held where a reference is taken.
    _Shown(lambda s: s.sleep_mode == "refcount" and s.locking in _SPLIT, ("M01-ref",)),
    _Shown(lambda s: s.sleep_mode.startswith("srcu"), ("M13-srcu",), ("M08-srcu-scan",)),
    _Shown(lambda s: s.sleep_mode == "refcount" or s.sleep_mode.startswith("srcu"), ("M01-relock",)),
    _Shown(lambda s: "zero" in s.policies, ("M08-zero", "M10-zero")),
    # Split locks: which lock an entry has, and the order of a table's lock and its parent's, is theirs.
    _Shown(lambda s: s.locking in _SPLIT, (), ("P08",)),
    _Shown(lambda s: "sync" in s.policies and s.locking in _SPLIT, ("M15-lock-order",), ("P02", "M08-ipi")),
    _Shown(lambda s: "sync" in s.policies and s.locking in ("mmap_lock", "vma_lock"), (), ("P07", "P20")),
    # An IPI frees a table that finds no batch only where empty tables stay.
    _Shown(lambda s: not s.policies and s.locking not in ("", "rcu"), (), ("P24-batch",)),
    # What munmap gives up early is a lock that faults take; where they do not, only other maps find out.
    _Shown(lambda s: s.locking not in ("", "rcu"), ("P21",)),
    # Tables without mmap_lock: locks of all levels, and VMAs that were looked at without a lock.
    _Shown(lambda s: s.lockless, ("P19", "M01-install", "M02-teardown"), ("P17", "P21", "M04-r11", "M05-mmap-read")),
    _Shown(lambda s: s.lockless and "upper" in s.policies, (), ("M01-upper",)),
    # Lockless lookups of VMAs. What needs VMAs that are reused without a grace period is not shown so soon.
    _Shown(lambda s: s.locking == "vma_lock", ("P19",), ("P18",)),
    _Shown(lambda s: s.locking == "vma_lock" and s.vma_reuse == "typesafe", (), ("P17", "M01-recycled")),
)

SCHEMES = (
    Scheme(
        "linux-6.3", "before per-VMA locks: every operation under mmap_lock, empty tables stay",
        "mmap_lock", NEVER, vma_reuse="rcu",
    ),
    Scheme(
        "linux-6.12", "faults under the VMA lock, DONTNEED under mmap_lock for read, empty tables stay",
        "vma_lock", NEVER, vma_reuse="rcu",
    ),
    Scheme(
        "linux-6.18", "faults and DONTNEED under the VMA lock, DONTNEED frees the tables it empties",
        "vma_lock", "sync", dontneed_vma_lock=True, drop_lock_before_flush=True,
    ),
    Scheme(
        "seed-async", "linux-6.18, and scans free the empty tables that it leaves behind",
        "vma_lock", "sync+async", dontneed_vma_lock=True, drop_lock_before_flush=True,
    ),
    Scheme(
        "seed-zero", "seed-async, and scans free tables that map nothing but the zero page",
        "vma_lock", "sync+async+zero", dontneed_vma_lock=True, drop_lock_before_flush=True,
    ),
    Scheme(
        "rfc-2024", "the series of June 2024: linux-6.12, and who empties tables scans for them at the end of the call",
        "vma_lock", "taskwork", vma_reuse="rcu",
    ),
    Scheme(
        "rcu", "no lock over VMAs and upper tables: walks by RCU, stores under table locks; DONTNEED frees the tables it empties",
        "rcu", "sync",
    ),
    Scheme("rcu-upper", "the same, and upper tables that are empty then are freed too", "rcu", "sync+upper"),
    Scheme("seed-rcu", "all plans together: rcu-upper, and the scans of seed-zero", "rcu", "sync+async+zero+upper"),
    Scheme(
        "seed-srcu", "its difficulty: rcu with the scans of seed-zero; walks sleep in SRCU, and fill a device with a notifier",
        "rcu", "sync+async+zero", sleep_mode="srcu", secondary_mmu=True,
    ),
    Scheme(
        "seed-refcount", "the same, but walks sleep with a reference to the table that they are in",
        "rcu", "sync+async+zero", sleep_mode="refcount", secondary_mmu=True,
    ),
    Scheme("covering", "toy protection by covering locks, DONTNEED frees the tables it empties", "covering", "sync"),
)


def policies_of(reclaim: str) -> frozenset[str]:
    """The policies of ``never`` or of names with ``+`` between them."""
    return frozenset() if reclaim == NEVER else frozenset(reclaim.split("+"))


def why_not(protection: str, policies: frozenset[str]) -> str:
    """Why the two make no scheme; empty: they do."""
    if "upper" in policies and protection != "rcu" and not protection.startswith(PLUGIN):
        return f"upper frees tables that {protection} relies on: expected rcu"
    return ""


def plugin_schemes() -> tuple[Scheme, ...]:
    """Those of other packages, by name. Raises ``UsageError`` if one of them is none."""
    from importlib.metadata import entry_points

    found: dict[str, Scheme] = {}
    for entry in entry_points(group=ENTRY_POINTS):
        where = f"entry point {entry.name} = {entry.value} of {entry.dist.name if entry.dist else 'some package'}"
        try:
            given = entry.load()
            given = given() if callable(given) else given
            brought = [given] if isinstance(given, Scheme) else list(given)
        except Exception as error:  # whatever that package does wrong
            raise UsageError(f"{where}: expected schemes, got {type(error).__name__}: {error}") from None
        for scheme in brought:
            if reason := _objection(scheme, found.keys()):
                raise UsageError(f"{where}: {reason}")
            found[scheme.name] = scheme
    return tuple(found[name] for name in sorted(found))


def _objection(scheme: object, taken: Collection[str]) -> str:
    """Why this cannot be a scheme of another package; empty: it can."""
    if not isinstance(scheme, Scheme):
        return f"expected a Scheme, got {type(scheme).__name__}"
    reserved = {ALL, *(ours.name for ours in SCHEMES), *taken}
    if scheme.name in reserved or {"+", "@", ","} & {*scheme.name}:
        return f"scheme {scheme.name!r}: expected a name that no other scheme has, without + @ , and not {ALL}"
    strange = [name for name in policies_of(scheme.reclaim) if not _is_policy(name, RECLAIMS)]
    strange += [] if _is_policy(scheme.protection, PROTECTIONS) else [scheme.protection]
    strange += [name for name in policies_of(scheme.tables_as or NEVER) if name not in dict(RECLAIMS)]
    strange += [scheme.locks_as] if scheme.locks_as and scheme.locks_as not in dict(PROTECTIONS) else []
    if strange:
        return f"scheme {scheme.name!r}: no policy {strange[0]!r}: expected one of {_parts_text()}, or {PLUGIN}NAME of its own"
    reason = why_not(scheme.protection, scheme.policies)
    return f"scheme {scheme.name!r}: {reason}" if reason else ""


def _is_policy(name: str, ours: tuple[tuple[str, str], ...]) -> bool:
    return name in dict(ours) or (name.startswith(PLUGIN) and len(name) > len(PLUGIN))


def _parts_text() -> str:
    return f"{'|'.join(dict(PROTECTIONS))}+{'|'.join(dict(RECLAIMS))}[+...]"


def scheme_names(given: Iterable[str]) -> tuple[str, ...]:
    """The schemes of flags such as ``rcu``, ``rcu,covering`` and ``all``, each once. Empty, as if no flag was given: all of ours.

    Raises ``UsageError`` for what is no scheme.
    """
    names = list(dict.fromkeys(name.strip() for text in given for name in text.split(",")))
    if names == [ALL]:
        return ()
    ours = [scheme.name for scheme in SCHEMES] if ALL in names else []
    return tuple(dict.fromkeys((*ours, *(find_scheme(name).name for name in names if name != ALL))))


def unmodelled(names: Iterable[str]) -> str:
    """The note about schemes whose tables nothing predicts; empty: there are none."""
    unknown = ", ".join(name for name in names if find_scheme(name).modelled is None)
    return f"no model of the tables of {unknown}: only invariants are checked there" if unknown else ""


def find_scheme(name: str) -> Scheme:
    """The scheme called ``name``, ours or another package's, or built from ``protection+reclaim+...``; with ``@mode`` behind it,
    where walks sleep in that way and each mm has a device. Raises ``UsageError``.
    """
    base, at, mode = name.partition("@")
    if at:
        if mode not in dict(SLEEP_MODES):
            raise UsageError(f"scheme {name!r}: expected @ and one of {', '.join(dict(SLEEP_MODES))}")
        scheme = find_scheme(base)
        return replace(scheme, name=name, summary=f"{scheme.summary}; walks sleep: {dict(SLEEP_MODES)[mode]}",
                       sleep_mode=mode, secondary_mmu=True)
    for scheme in SCHEMES:
        if scheme.name == name:
            return scheme
    protection, plus, reclaim = name.partition("+")
    policies = reclaim.split("+")
    if not plus or not _is_policy(protection, PROTECTIONS) or not all(_is_policy(p, RECLAIMS) for p in policies):
        others = plugin_schemes()
        for scheme in others:
            if scheme.name == name:
                return scheme
        named = ", ".join(s.name for s in (*SCHEMES, *others))
        raise UsageError(f"scheme {name!r}: expected one of {named}, or {_parts_text()}")
    if {"async", "taskwork"} <= set(policies):
        raise UsageError(f"scheme {name!r}: expected async, whose scans others run, or taskwork, which runs its own, not both")
    if len(set(policies)) != len(policies) or (NEVER in policies and len(policies) > 1):
        raise UsageError(f"scheme {name!r}: expected each reclaim policy once, and {NEVER} alone")
    if reason := why_not(protection, policies_of(reclaim)):
        raise UsageError(f"scheme {name!r}: {reason}")
    ordered = "+".join([p for p, _ in RECLAIMS if p in policies] + [p for p in policies if p.startswith(PLUGIN)])
    return Scheme(name, f"{protection} with reclaim {ordered}", protection, ordered)
