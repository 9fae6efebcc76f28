"""The steps of a traced execution, by what a reader calls them: locks taken and dropped, words changed, entries read.

Names of words are those of ``Machine.describe``. Values are spelled as what they mean where the word stands: an entry as the
table or the frame that it refers to, a tag of a TLB as its page.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

POISON = 0x6B6B6B6B6B6B6B10
_CHANGES = frozenset({"rmw", "add", "store", "plain_store", "fill"})
_LOADS = frozenset({"load", "plain_load"})
_ENTRY = re.compile(r"(\w+_table \d+|pgd(?: \d+)?)\[\d+\]$")
_TABLE = re.compile(r"\w+_table (\d+)")
_LEVEL = re.compile(r"(\w+_table) (\d+)")
_CACHED = re.compile(r"cpu (\d+)\.(TLB|paging-structure cache)\[(\d+)\]\.(\w+)$")
_NUMBERED = re.compile(r"\b(frame|vma|table) (\d+)")
_STATES = ("free", "in use", "unlinked")
_TAKE, _DROP = "take", "drop"
#: How locks are called when they are taken and dropped, by the function that does it.
_LOCKING = MappingProxyType({
    "spin_lock": (_TAKE, "spin_lock"), "_spin_lock_slow": (_TAKE, "spin_lock"), "spin_trylock": (_TAKE, "spin_trylock"),
    "spin_unlock": (_DROP, "spin_unlock"), "down_read_trylock": (_TAKE, "down_read_trylock"),
    "up_read": (_DROP, "up_read"), "up_write": (_DROP, "up_write"), "downgrade_write": ("", "downgrade_write"),
    "vma_start_read": (_TAKE, "vma_start_read"),
    "vma_end_read": (_DROP, "vma_end_read"),
    "_vma_set_locked": (_TAKE, "vma_start_write"),
})


@dataclass(frozen=True)
class Step:
    """One access. ``name``: of its word, empty if that has none; ``before``, ``after``: what the word held.

    ``late``: what it stored was still in its cpu's store buffer when another cpu looked. ``early``: it read what the word had
    held before an access that its cpu had made already. ``cached``: of the tag of a TLB or of a
    paging-structure cache, the entry that is cached there, as far as the trace tells.
    """

    at: int
    time: int
    fibre: int
    kind: str
    func: str
    place: str
    name: str
    before: int
    after: int
    cached: int = 0
    late: bool = False
    early: bool = False

    @property
    def changes(self) -> bool:
        """Whether it left another value."""
        return self.kind in _CHANGES and self.before != self.after

    @property
    def loads(self) -> bool:
        """Whether it read and stored nothing."""
        return self.kind in _LOADS

    @property
    def is_entry(self) -> bool:
        """Whether its word is an entry of a table."""
        return bool(_ENTRY.match(self.name))

    @property
    def is_cached(self) -> bool:
        """Whether its word lies in a TLB or in a paging-structure cache."""
        return bool(_CACHED.match(self.name))

    @property
    def is_tag(self) -> bool:
        """Whether its word says which page or region is cached there, if any."""
        return self.is_cached and self.name.endswith(".tag")


@dataclass(frozen=True)
class Locking:
    """That a lock was taken, dropped, or neither: then it is waited for, or changed. ``text``: as a reader sees it."""

    lock: str
    text: str
    taken: bool
    dropped: bool


def read_steps(trace: Sequence[dict], describe: Callable[[int], str]) -> list[Step]:
    """The steps of a trace as ``Explorer.replay`` returns it."""
    steps = []
    cached: dict[str, int] = {}
    for at, s in enumerate(trace):
        name, before, after = _word(s, describe)
        place = f"{s['file'].removeprefix('cy/')}:{s['line']}"
        slot, _, word = name.rpartition(".")
        if word in ("val", "pmd"):
            cached[slot] = after
        step = Step(at, s["time"], s["fibre"], s["kind"], s["func"], place, name, before, after, cached.get(slot, 0),
                    early=s.get("early") is not None)
        steps.append(step)
    return [replace(s, late=True) if s.at in late else s for late in [_late(steps)] for s in steps]


def _late(steps: Sequence[Step]) -> set[int]:
    """Stores whose word another cpu found as it was before."""
    stored: dict[str, Step] = {}
    found = set()
    for s in steps:
        last = stored.get(s.name)
        if last and last.fibre != s.fibre and s.before == last.before != last.after:
            found.add(last.at)
        if s.changes:
            stored[s.name] = s
    return found


def _word(step: dict, describe: Callable[[int], str]) -> tuple[str, int, int]:
    if step["offset"] is None:
        return "", 0, 0
    name, before, after = describe(step["offset"]), step["before"], step["after"]
    if step.get("early") is not None:
        before = after = step["early"]
    if name.startswith("state of "):
        return name, before & 0xFFFFFFFF, after & 0xFFFFFFFF        # who unlinked it stands beside it
    return name, before, after


def locking(step: Step) -> Locking | None:
    """What the step did to a lock, if it did anything."""
    if step.func in ("spin_lock", "_spin_lock_slow", "spin_trylock") and step.before & 0xFFFFFFFF:
        # An exchange on a lock that somebody has leaves the number of who waits.
        tried = step.func == "spin_trylock"
        return Locking(step.name, f"spin_trylock({step.name}) fails" if tried else f"waits for {step.name}", False, False)
    if not step.changes:
        return None
    if step.func == "rwsem_acquire":
        func = "down_read" if (step.after - step.before) & 0xFFFFFFFF == 1 else "down_write"
        return Locking(step.name, f"{func}({step.name})", True, False)
    if step.func == "seq_write_end" and step.name.startswith("mm_lock_seq"):
        return Locking("written VMAs", "vma_end_write_all()", False, True)
    if step.func in ("rcu_read_lock", "rcu_read_unlock"):
        taken = step.func == "rcu_read_lock"
        section = step.name.partition(".")[2].removeprefix("rcu ")
        if section == "interrupts off":
            return Locking(section, f"local_irq_{'disable' if taken else 'enable'}()", taken, not taken)
        return Locking(f"rcu {section}", f"{step.func}()", taken, not taken) if section == "tables" else None
    what, text = _LOCKING.get(step.func, ("", ""))
    if not text or (what == _TAKE and step.func == "vma_start_read" and step.after < step.before):
        return None
    lock = "written VMAs" if step.func == "_vma_set_locked" else step.name.partition(".")[0]
    return Locking(lock, f"{text}({step.name.partition('.')[0]})", what == _TAKE, what == _DROP)


def mentions(step: Step) -> set[str]:
    """What a step is about: ``table 3``, ``frame 2``, ``vma 0``, by its word and by what that held."""
    if step.is_cached:
        return _referred(step.cached, ".TLB" not in step.name) if step.is_tag else set()
    found = {f"table {n}" for n in _TABLE.findall(step.name)}
    found |= {f"{kind} {n}" for kind, n in _NUMBERED.findall(step.name)}
    for value in (step.before, step.after):
        if step.is_entry:
            found |= _referred(value, not step.name.startswith("pte_table"))
    return found


def _referred(entry: int, upper: bool) -> set[str]:
    if not entry & 1 or (not upper and entry & 1 << 9):
        return set()
    return {f"{'table' if upper else 'frame'} {_number(entry)}"}


def table_names(steps: Sequence[Step]) -> dict[str, str]:
    """The level of each table that the steps name: ``{"table 3": "pte_table"}``."""
    found = (_LEVEL.search(s.name) for s in steps)
    return {f"table {match[2]}": match[1] for match in found if match}


def step_text(step: Step) -> str:
    """What a step that matters did: ``pte_table 3[0]: frame 1 wad -> none``."""
    cached = _CACHED.match(step.name)
    if cached:
        return _cached_text(step, cached)
    if step.name.startswith("state of "):
        thing = step.name.removeprefix("state of ")
        return f"{thing}: {_value(step, step.before)} -> {_value(step, step.after)}"
    if step.loads:
        return f"reads {step.name}: {_value(step, step.before)}{' (loaded early)' if step.early else ''}"
    late = " (not visible yet)" if step.late else ""
    return f"{step.name}: {_value(step, step.before)} -> {_value(step, step.after)}{late}"


def page_of(step: Step) -> int | None:
    """The page whose translation a step makes or drops in a TLB."""
    return max(step.before, step.after) - 1 if step.is_tag and ".TLB" in step.name else None


def _cached_text(step: Step, cached: re.Match[str]) -> str:
    """``TLB: p1 -> frame 2 wad``, ``TLB of CPU1: p1 dropped``."""
    where = cached[2] + (f" of CPU{cached[1]}" if int(cached[1]) != step.fibre else "")
    upper = cached[2] != "TLB"
    what = "table" if upper else f"p{max(step.before, step.after) - 1}"
    entry = _entry(step.cached, upper) if step.cached else ""
    if not step.after:
        return f"{where}: {entry if upper and entry else what} dropped"
    return f"{where}: {f'p{step.after - 1} -> ' if not upper else ''}{entry}"


def _number(entry: int) -> int:
    """Number of the frame or of the table that an entry refers to; above it stands a table's generation."""
    return entry >> 12 & 0xFFFFFFFF


def _value(step: Step, value: int) -> str:
    """A word as people read it."""
    if value == POISON:
        return "poison"
    if step.name == "pgtables_bytes":
        return f"{value >> 10} kB"
    if step.name.startswith("state of "):
        return _STATES[value] if value < len(_STATES) else str(value)
    if step.is_entry:
        return _entry(value, not step.name.startswith("pte_table"))
    return str(value) if value < 4096 else f"{value:#x}"


def _entry(value: int, upper: bool) -> str:
    if value & ~0x60 == 0:
        return "none"
    if upper:
        return f"table {_number(value)}" if value & 1 else f"{value:#x}"
    if value == 1 << 10:
        return "guard"
    if value & 1 << 9:
        return "zero page"
    marks = "".join(mark for bit, mark in ((1, "w"), (5, "a"), (6, "d")) if value >> bit & 1)
    return f"frame {_number(value)} {marks}".rstrip()
