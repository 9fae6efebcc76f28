"""Which steps of a failed execution matter: a slice backwards from what failed.

The report names things (a table, a frame, a VMA, a cpu) and values. A step matters if it changed one of them, or an entry that
refers to one; if it read, on a cpu that the report is about, what another cpu had changed or changed later; and if it took or
dropped a lock around such steps. Where that leaves next to nothing, words that several cpus used are told instead.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ptstress.story_steps import POISON, Locking, Step, locking, mentions, page_of

PAGE_SHIFT = 12
#: Steps that a story has at the least, if there are so many.
FEW = 2
#: Steps before the failure that are told when nothing is known of it.
LAST = 12
_NAMED = re.compile(r"\b(table|frame|VMA|cpu)s? (a|b)\b")
_COUNTERS = ("pgtables_bytes", "rss", "mm_users", "tlb_flush_pending", "mmap_lock", "vm_refcnt")
_VMA_WORDS = (".vm_start", ".vm_end", ".flags")
#: Where accesses are made for others: what matters is on whose behalf.
_PLUMBING = ("base/", "sync/", "mm/arena.pxd")
_ACCESSORS = frozenset({
    "entry_offset", "ptep_get", "ptep_get_lockless", "pte_offset_map", "attached_by_pmd", "vm_start", "vm_end", "vma_at",
    "vma_index_after",
})
_TABLE_LOCKS = ("ptl of ", "pml of ", "page_table_lock")


@dataclass
class Focus:
    """What a failure is about. ``fibre``: who made the step that failed; ``None``: it was found at rest."""

    fibre: int | None
    things: set[str] = field(default_factory=set)
    values: set[int] = field(default_factory=set)
    words: set[str] = field(default_factory=set)
    page: int | None = None
    leaf: int = 0
    locks: bool = False
    sections: bool = False
    caches: bool = False
    lost: bool = False
    text: str = ""

    @property
    def alone(self) -> bool:
        """Whether one cpu failed by itself: others have no part in it."""
        return self.fibre is not None and self.locks

    def about(self, step: Step) -> bool:
        """Whether the step's word, or what it held, is one of the things."""
        if step.kind == "fill":
            return POISON in self.values & {step.before, step.after}    # else a fresh table: what it held before says nothing
        if step.is_entry and self.values & {step.before, step.after}:
            return True
        if mentions(step) & self.things or any(step.name.startswith(word) for word in self.words):
            return True
        if self.page is None:
            return False
        return page_of(step) == self.page or (step.name.startswith("pte_table") and step.name.endswith(f"[{self.leaf}]"))


@dataclass(frozen=True)
class Kept:
    """One line's worth of a story: a step, and what it did to a lock, if that is why it is told."""

    step: Step
    lock: Locking | None = None


def focus_of(report: Mapping[str, int | str] | None, outcome: str, steps: Sequence[Step], leaf_bits: int) -> Focus:
    """What a failure is about. ``report``: ``None`` if nobody reported one; then the ``outcome`` says it."""
    if report is None:
        return Focus(None, locks=outcome == "deadlock")
    what, oracle = str(report["what"]), str(report["oracle"])
    numbers = {letter: int(report[letter]) for letter in "ab"}
    named = _NAMED.findall(what)
    things = {f"{kind.lower()} {numbers[letter]}" for kind, letter in named}
    kinds = {thing.partition(" ")[0] for thing in things}
    paged = "frame" in kinds or oracle in ("data", "dirty") or (oracle == "stale-tlb" and "table" not in kinds)
    focus = Focus(
        fibre=steps[-1].fibre if steps and steps[-1].func == "pt_report" else None,
        things=things,
        values={n for letter, n in numbers.items() if n >= 1 << PAGE_SHIFT and letter not in {x for _, x in named}},
        words={word for word in _COUNTERS if re.search(rf"\b{word}\b", what)},
        page=int(report["addr"]) >> PAGE_SHIFT if paged else None,
        locks=oracle in ("lock-order", "sleep-in-rcu"),
        sections=oracle == "sleep-in-rcu" or int(report["invariant"]) in (10, 11, 12),
        caches=paged or oracle == "stale-tlb",
        lost=bool(re.search(r"allocated|refers to it|double free|frees them", what)),
        text=what,
    )
    focus.leaf = (focus.page or 0) & ((1 << leaf_bits) - 1)
    if focus.things or focus.page is not None or focus.words:
        return focus
    if focus.fibre is not None:
        focus.things = _last_things(steps, focus.fibre, "vma " if "VMA" in what else "")
    elif "VMA" in what:
        focus.words.add("vma ")
    return focus


def names_a_thing(report: Mapping[str, int | str]) -> bool:
    """Whether the report says which table, frame, VMA or cpu it is about."""
    return bool(_NAMED.search(str(report["what"])))


def slice_of(steps: Sequence[Step], focus: Focus) -> list[Kept]:
    """The steps that matter, in order."""
    numbered = {s.at: s for s in steps}
    matter = _about(steps, focus)
    if len(matter) < FEW:
        focus.things |= {thing for at in matter for thing in mentions(numbered[at])}
        matter = _about(steps, focus)
    if len(matter) < FEW:
        focus.words |= {numbered[at].name for at in _shared(steps)}
        matter = _about(steps, focus)
    if not matter:
        matter = {s.at for s in [s for s in steps if s.changes and s.name][-LAST:]}
    kept = {at: Kept(step) for at, step in numbered.items() if at in matter and not locking(step)}
    return [one for _, one in sorted((kept | _locks(steps, set(kept), focus)).items())]


def _about(steps: Sequence[Step], focus: Focus) -> set[int]:
    changes = {s.at for s in steps if s.changes and focus.about(s) and _tells(s, focus)}
    return (changes | _reads(steps, focus)) - (set() if focus.lost else _births(steps))


def pair_of(steps: Sequence[Step], kept: Sequence[Kept], focus: Focus) -> tuple[str, str]:
    """The function that failed, or made the last change that mattered, and that of another cpu whose access conflicts.

    Empty where there is none: all that is told of the cpu are accessors and locks.
    """
    if focus.alone:
        return _last_function(steps, focus.fibre), ""
    told = [k.step for k in kept if speaks(k.step)]
    mine = [s for s in told if focus.fibre in (None, s.fibre)]
    first = mine[-1] if focus.fibre is not None and mine else next((s for s in reversed(mine) if s.changes), None)
    fibre = first.fibre if first else focus.fibre
    others = [s for s in told if s.fibre != fibre and s.changes]
    second = next((s for s in reversed(others) if focus.caches and s.is_cached), others[-1] if others else None)
    return first.func if first else "", second.func if second else ""


def _last_function(steps: Sequence[Step], fibre: int | None) -> str:
    return next((s.func for s in reversed(steps) if s.fibre == fibre and speaks(s)), "")


def speaks(step: Step) -> bool:
    """Whether its function is one that does something on its own behalf."""
    return not step.place.startswith(_PLUMBING) and step.func not in _ACCESSORS


def _last_things(steps: Sequence[Step], fibre: int, kind: str) -> set[str]:
    """What the last step of this fibre that was about something of the kind was about."""
    found = ({t for t in mentions(s) if t.startswith(kind)} for s in reversed(steps) if s.fibre == fibre)
    return next((things for things in found if things), set())


def _tells(step: Step, focus: Focus) -> bool:
    """Whether a change of this word says something: not how the engine keeps books, nor half an entry of a cache."""
    if step.is_cached:
        return focus.caches and step.is_tag and bool(step.after or step.func != "tlb_fill")
    if step.name.startswith("state of "):
        return 2 not in (step.before, step.after) or step.after == 0
    if step.name.startswith("vma "):
        return step.name.endswith(_VMA_WORDS) or ("anon_vma" in focus.text and step.name.endswith(".anon_vma"))
    if step.name.startswith(_TABLE_LOCKS):
        return step.func == "spin_lock_destroy" and "destroyed" in focus.text
    return not step.name.startswith(("arena item", "descriptor of", "rcu head"))


def _reads(steps: Sequence[Step], focus: Focus) -> set[int]:
    """What the cpu that failed, or each cpu if it was found at rest, read that others changed later, or had changed.

    Of several reads between two changes the last one; none of what the cpu changed itself before the others did. What others
    had changed before matters only if the cpu changed nothing with it afterwards.
    """
    changes: dict[str, list[Step]] = {}
    for s in steps:
        if s.changes:
            changes.setdefault(s.name, []).append(s)
    last: dict[tuple[int, str, int], Step] = {}
    for s in steps:
        if s.loads and focus.fibre in (None, s.fibre) and _readable(s, focus) and focus.about(s):
            foreign = [c.at for c in changes.get(s.name, []) if c.fibre != s.fibre]
            if foreign or s.before in focus.values:
                last[s.fibre, s.name, sum(at < s.at for at in foreign)] = s
    return {s.at for s in last.values() if _matters(s, changes, focus)}


def _matters(read: Step, changes: Mapping[str, list[Step]], focus: Focus) -> bool:
    """Whether what was read was old, or bad, or the last that the cpu did."""
    same = changes.get(read.name, [])
    if read.early:
        return True
    if any(c.late and c.fibre != read.fibre and c.at < read.at and c.before == read.before for c in same):
        return True
    following = next((c for c in same if c.at > read.at), None)
    if following is not None:
        return following.fibre != read.fibre
    if read.before in focus.values:
        return True
    mine = (c for found in changes.values() for c in found if c.fibre == read.fibre and c.at > read.at)
    return focus.fibre is not None and not any(c.is_entry for c in mine)


def _births(steps: Sequence[Step]) -> set[int]:
    """Where a thing is allocated that had not been freed before."""
    freed: set[str] = set()
    found = set()
    for s in steps:
        if s.name.startswith("state of ") and s.changes:
            if s.after == 0:
                freed.add(s.name)
            elif s.before == 0 and s.name not in freed:
                found.add(s.at)
    return found


def _readable(step: Step, focus: Focus) -> bool:
    return _tells(step, focus) and not step.is_cached and not step.name.startswith(_TABLE_LOCKS)


def _shared(steps: Sequence[Step]) -> set[int]:
    """Changes of entries and VMAs that more than one cpu used."""
    users: dict[str, set[int]] = {}
    for s in steps:
        users.setdefault(s.name, set()).add(s.fibre)
    return {s.at for s in steps if s.changes and len(users[s.name]) > 1 and (s.is_entry or s.name.endswith(_VMA_WORDS))}


def _locks(steps: Sequence[Step], matter: set[int], focus: Focus) -> dict[int, Kept]:
    """Where locks were taken and dropped around steps that matter."""
    kept: dict[int, Kept] = {}
    inside: dict[tuple[int, str], list[tuple[Step, Locking]]] = {}
    mine = [s for s in steps if s.at in matter]

    def close(key: tuple[int, str], end: int | None) -> None:
        marks = inside.pop(key, [])
        stuck = end is None and (focus.locks or key[0] == focus.fibre)
        inner = (s for s in mine if marks and s.fibre == key[0] and marks[0][0].at < s.at and (end is None or s.at < end))
        if stuck or any(inner):
            kept.update({step.at: Kept(step, lock) for step, lock in marks})

    for s in steps:
        lock = locking(s)
        if lock is None or not _worth(lock.lock, focus):
            continue
        key = (s.fibre, lock.lock)
        inside.setdefault(key, []).append((s, lock))
        if lock.dropped:
            close(key, s.at)
    for key in list(inside):
        close(key, None)
    return kept


def _worth(lock: str, focus: Focus) -> bool:
    if lock.startswith("rcu ") or lock == "interrupts off":
        return focus.sections
    return focus.locks or lock.startswith(_TABLE_LOCKS) or any(t.startswith("vma") for t in focus.things)
