"""One line that names a failure, in the manner of the kernel's sanitizers.

    BUG: use-after-free of pte_table in pmd_clear_table_for / do_anonymous_page

What was found, of which object, and the two functions that met: the one that failed, and the one on another cpu whose access
conflicts. It has no numbers: failures with the same line are the same failure.
"""

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from ptstress.invariants import INVARIANTS
from ptstress.units import format_finding

Report = Mapping[str, int | str]

_KINDS = MappingProxyType({
    "census": "inconsistency", "data": "wrong data", "stale-tlb": "stale translation", "counters": "wrong count",
    "progress": "no progress", "lock-order": "wrong lock order", "sleep-in-rcu": "sleep inside RCU", "model": "wrong result",
})
#: Kinds that say all: nothing has an "of".
_WHOLE = frozenset({"sleep inside RCU", "sleep under a spinlock", "deadlock", "livelock", "wrong lock order"})
#: What a text names first is the object; longer names before their parts.
_OBJECTS = (
    (r"upper entry", "upper entry"), (r"leaf entry", "leaf entry"), (r"(?<!pte_)(?<!pmd_)\btables?\b", "table"),
    (r"pmd_table", "pmd_table"), (r"\bframes?\b", "frame"), (r"zero page", "zero page"), (r"pgtables_bytes", "pgtables_bytes"),
    (r"\brss\b", "rss"), (r"vm_refcnt", "vm_refcnt"), (r"tlb_flush_pending", "tlb_flush_pending"), (r"mmap_lock", "mmap_lock"),
    (r"\bVMAs?\b", "VMA"), (r"\bTLB\b|translation", "TLB entry"), (r"paging-structure cache", "paging-structure cache"),
    (r"SRCU", "SRCU section"), (r"\bguard\b", "guard"), (r"\block\b", "lock"), (r"\bmm\b", "mm"), (r"entry", "entry"),
)
#: Texts that say that something was lost; with two numbers only if there are more than there should be.
_LEAK = re.compile(r"no entry refers to it|nobody frees them|maps no VMA and was not freed|allocated, b are")
_TWICE = re.compile(r"double free|is unlinked twice|is handed out")
_REFERRED = re.compile(r"\btable (a|b)\b")


def headline(
    oracle: str, report: Report | None, outcome: str, where: Sequence[str], tables: Mapping[str, str] | None = None
) -> str:
    """The line. ``report``: ``None`` if nobody reported, then ``outcome`` is what it is. ``where``: functions, or the verb.

    ``tables``: what level a table is of, as ``{"table 3": "pte_table"}``.
    """
    kind = kind_of(oracle, report) if report else outcome
    thing = "" if kind in _WHOLE or report is None else object_of(report, tables or {})
    names = [name for name in where if name and name != "none"]
    met = " / ".join(names if kind.startswith("deadlock") else dict.fromkeys(names))
    return f"BUG: {kind}{f' of {thing}' if thing else ''}{f' in {met}' if met else ''}"


def headline_of(report: Report) -> str:
    """The line for a report of threads, of whose functions nothing is known."""
    return headline(str(report["oracle"]), report, "", [str(report["verb"])])


def kind_of(oracle: str, report: Report) -> str:
    """What was found, in words."""
    what = str(report["what"])
    if _TWICE.search(what):
        return "double free"
    if _LEAK.search(what) and (not int(report["b"]) or "allocated" not in what or int(report["a"]) > int(report["b"])):
        return "leak"
    if oracle == "sleep-in-rcu" and "spinlock" in what:
        return "sleep under a spinlock"
    return _KINDS.get(oracle, oracle)


def object_of(report: Report, tables: Mapping[str, str]) -> str:
    """What the report is about. A page, if it is data."""
    what = str(report["what"])
    if report["oracle"] == "data":
        return "page"
    referred = _REFERRED.search(what)
    if referred and f"table {report[referred[1]]}" in tables:
        return tables[f"table {report[referred[1]]}"]
    found = [(match.start(), name) for pattern, name in _OBJECTS if (match := re.search(pattern, what))]
    return min(found)[1] if found else ""


def expected(oracle: str, invariant: int, what: str) -> list[str]:
    """What should have held, and what was found instead."""
    holds = next((i.holds for i in INVARIANTS if i.number == invariant), "")
    return [*([f"expected (I{invariant:02d}): {holds}"] if holds else []), f"found ({format_finding(oracle, 0)}): {what}"]
