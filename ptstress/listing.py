"""The verb ``list``: what can be named on the command line or in a file."""

import click
from msgspec import Struct

from ptstress.bug import Bug
from ptstress.bugs import BUGS
from ptstress.engine import BUILD_SUMMARIES, build_present
from ptstress.errors import ExitCode, UsageError
from ptstress.invariants import INVARIANTS, broken_by
from ptstress.options import json_option, screen, write_json
from ptstress.schemes import PROTECTIONS, RECLAIMS, SCHEMES, SLEEP_MODES, plugin_schemes, policies_of, why_not
from ptstress.vocabulary import OPERATIONS, Oracle, Verb
from ptstress.workload import load_workload, packaged_workloads

_ORACLES = (
    (Oracle.UAF, "a freed table, frame or VMA was reached: generation, state and poison"),
    (Oracle.CENSUS, "allocated minus freed is not what the root reaches"),
    (Oracle.DATA, "an access saw a value that no order of the operations explains, or a page was dropped that has to stay"),
    (Oracle.STALE_TLB, "a TLB entry outlived the flush that must have removed it"),
    (Oracle.COUNTERS, "a counter is not exact when all workers rest"),
    (Oracle.PROGRESS, "no progress: deadlock, livelock or a hang"),
    (Oracle.LOCK_ORDER, "locks taken against their order"),
    (Oracle.SLEEP_IN_RCU, "a sleep inside a read section that must not sleep"),
    (Oracle.MODEL, "results that no order of the sequential model gives"),
    (Oracle.RACE, "a data race: nothing orders a plain access and another one; ThreadSanitizer, in the build tsan_sched"),
)
_VERBS = (
    (Verb.READ, "load from one page; a fault maps the zero page"),
    (Verb.WRITE, "store to one page; a fault maps a fresh frame or upgrades the zero page"),
    (Verb.WALK, "look which pages of a range are present"),
    (Verb.MMAP, "map a range, in place of what is there"),
    (Verb.MUNMAP, "unmap a range, free tables of all levels"),
    (Verb.DONTNEED, "discard a range; reclaim sync frees the pte_tables that it empties"),
    (Verb.POPULATE, "fault a range in, for reading or for writing"),
    (Verb.GUARD_INSTALL, "put guard markers into a range, in place of its pages: each touch fails until they are taken out"),
    (Verb.GUARD_REMOVE, "take the guard markers out of a range"),
    (Verb.AGE, "look which pages of a range were accessed since they were aged last"),
    (Verb.MPROTECT, "let a range be written, or not; splits and merges mappings"),
    (Verb.FREE, "give the pages of a range to reclaim, until they are written again"),
    (Verb.DISCARD, "memory pressure: drop the pages of a range that are free and were not written since"),
    (Verb.SCAN, "look for tables to free, where the reclaim policy has been told that there may be some"),
    (Verb.EXIT, "end an mm, of several: all of it goes, and it begins again, empty"),
    (Verb.GUP_FAST, "pin one page without a lock, load or store through the pin, let it go"),
)


class ListItem(Struct):
    """One thing that can be named on the command line or in a file."""

    name: str
    summary: str


class InvariantItem(ListItem):
    """What must hold, who looks and where, and planted bugs that break it. ``bugs`` is empty if it is not checked."""

    oracles: list[str]
    where: str
    bugs: list[str]


class ListReport(Struct):
    """What ``list`` prints."""

    items: list[ListItem]
    what: str
    schema: str = "ptstress.list/1"


_LISTS = ("schemes", "workloads", "bugs", "builds", "oracles", "invariants", "operations")


@click.command(name="list")
@click.argument("what")
@json_option()
def list_(what: str, json_to: str | None) -> int:
    """List schemes, workloads, bugs, builds, oracles, invariants or verbs."""
    if what not in _LISTS:
        raise UsageError(f"list {what!r}: expected one of {', '.join(_LISTS)}")
    items = list(_items(what))
    width = max((len(item.name) for item in items), default=0)
    for item in items:
        print(f"{item.name:<{width}}  {_line(item)}", file=screen(json_to))
    write_json(json_to, ListReport(items, what))
    return ExitCode.PASS


def _items(what: str) -> list[ListItem]:
    if what == "schemes":
        named = [ListItem(s.name, s.said) for s in (*SCHEMES, *plugin_schemes())]
        generic = ((p, r) for p in PROTECTIONS for r in RECLAIMS if not why_not(p[0], policies_of(r[0])))
        parts = [ListItem(f"{p}+{r}", f"{ps}; {rs}") for (p, ps), (r, rs) in generic]
        modes = [ListItem(f"linux-6.18@{mode}", f"linux-6.18 with a device; walks sleep: {how}") for mode, how in SLEEP_MODES]
        return named + parts + modes
    if what == "workloads":
        return [ListItem(name, load_workload(str(path)).workload.summary) for name, path in packaged_workloads()]
    if what == "bugs":
        return [ListItem(b.id, _bug_summary(b)) for b in BUGS]
    if what == "builds":
        return [ListItem(n, s + ("" if build_present(n) else " (not built)")) for n, s in BUILD_SUMMARIES]
    if what == "oracles":
        return [ListItem(oracle.label, summary) for oracle, summary in _ORACLES]
    if what == "invariants":
        return [InvariantItem(i.name, i.holds, list(i.oracles), i.where, list(i.bugs)) for i in INVARIANTS]
    return [ListItem(verb.label, summary) for verb, summary in _VERBS if verb in OPERATIONS]


def _bug_summary(bug: Bug) -> str:
    numbers = ", ".join(f"I{n:02d}" for n in broken_by(bug.id))
    return f"{bug.summary} ({bug.source}; found by {', '.join(bug.oracles)}; breaks {numbers})"


def _line(item: ListItem) -> str:
    """What follows a name on the screen."""
    if not isinstance(item, InvariantItem):
        return item.summary
    if not item.bugs:
        return f"{item.summary} (not checked: {item.where})"
    return f"{item.summary} ({', '.join(item.oracles)}: {item.where}; broken by {', '.join(item.bugs)})"
