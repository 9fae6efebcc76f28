"""Executions that do not end: who waits for what in a deadlock, and which steps repeat in a livelock."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from types import MappingProxyType

from ptstress.story_slice import Kept
from ptstress.story_steps import Step, locking

#: So often at least a cycle was run through.
TIMES = 3
#: Longer cycles are not looked for.
MAX_PERIOD = 2000
_DOMAINS = MappingProxyType({
    "rcu_domain tables": "a grace period", "rcu_domain hardware": "a hardware grace period", "srcu": "a grace period of SRCU",
})
#: What keeps a grace period going.
_SECTIONS = MappingProxyType({"a grace period": "rcu tables"})


@dataclass(frozen=True)
class Waiter:
    """A cpu that waits. ``lock``: for what; ``holders``: the cpus that have it, or keep it going; ``holds``: what it has."""

    cpu: int
    lock: str
    holders: tuple[int, ...]
    holds: tuple[str, ...]

    def __str__(self) -> str:
        """``CPU0 holds ptl of pte_table 3, waits for pml of pmd_table 2, which CPU1 holds``."""
        holds = f"holds {' and '.join(self.holds)}, " if self.holds else ""
        verb = "keep" if self.lock.endswith("period") else "hold"
        by = f", which {' and '.join(f'CPU{cpu}' for cpu in self.holders)} {verb}{'s' if len(self.holders) == 1 else ''}"
        return f"CPU{self.cpu} {holds}waits for {self.lock}{by if self.holders else ''}"


@dataclass(frozen=True)
class Cycle:
    """Steps that a cpu made again and again: those of the last time, and how often it made them."""

    cpu: int
    steps: tuple[Step, ...]
    times: int


def waiters_of(steps: Sequence[Step], pending: Sequence[dict], describe: Callable[[int], str]) -> list[Waiter]:
    """What each cpu that did not end waits for. ``pending``: as ``Explorer.replay`` returns it."""
    held = _held(steps)
    waiters = []
    for one in pending:
        name = describe(one["offset"]) if one["offset"] is not None else ""
        lock = _DOMAINS.get(name) or (name.partition(".")[0] if name.startswith("vma ") else name) or one["func"]
        what = _SECTIONS.get(lock, lock)
        holders = tuple(cpu for cpu, locks in held.items() if cpu != one["fibre"] and what in locks)
        holds = tuple(name for name in held.get(one["fibre"], ()) if not name.startswith("rcu "))
        waiters.append(Waiter(one["fibre"], lock, holders, holds))
    return waiters


def cycles_of(steps: Sequence[Step]) -> list[Cycle]:
    """For each cpu whose last steps repeat: the shortest cycle of them. Numbers that count up are no difference."""
    cycles = []
    for cpu in sorted({s.fibre for s in steps}):
        mine = [s for s in steps if s.fibre == cpu]
        period = _period([(s.place, s.name, s.kind, (s.before, s.after) if s.is_entry else ()) for s in mine])
        if period:
            cycles.append(Cycle(cpu, tuple(mine[-period[0] :]), period[1]))
    return cycles


def told_of(cycle: Cycle) -> list[Kept]:
    """What of a cycle is worth a line: entries that are read or changed, locks. Each of a row of the same once."""
    kept = [Kept(s, lock) for s in cycle.steps if (lock := locking(s)) or s.changes and s.is_entry or s.loads and s.is_entry]
    return [next(same) for _, same in groupby(kept, key=lambda k: (k.step.place, k.step.name, k.lock))]


def _held(steps: Sequence[Step]) -> dict[int, dict[str, None]]:
    """Locks that each cpu has when the trace ends, in the order in which it took them."""
    held: dict[int, dict[str, None]] = {}
    for s in steps:
        lock = locking(s)
        if lock and lock.taken:
            held.setdefault(s.fibre, {})[lock.lock] = None
        elif lock and lock.dropped:
            held.get(s.fibre, {}).pop(lock.lock, None)
    return held


def _period(keys: Sequence[tuple]) -> tuple[int, int] | None:
    """Length of the shortest cycle that the keys end with, and how often it was run through; ``None``: not often enough."""
    last = keys[-1]
    for length in range(1, min(MAX_PERIOD, len(keys) // TIMES) + 1):
        if keys[-1 - length] != last or any(keys[-1 - i] != keys[-1 - i - length] for i in range(length * (TIMES - 1))):
            continue
        run = length
        while run < len(keys) and keys[-1 - run] == keys[-1 - run + length]:
            run += 1
        return length, run // length
    return None
