"""Who waits for whom when nothing moves: read from the counters that a child shares, after it hung.

Builds with checks publish the locks that each worker holds; elsewhere a report names the waiters only.
"""

from collections.abc import Sequence

from ptstress.layout import Counter, LockClass, SharedView, verb_name


class Standstill:
    """Whether a count has stood still for more than ``limit_s`` seconds."""

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self.count: int | None = None       # nothing seen yet: that it was 0 then is no standstill
        self.since_s = 0.0

    def lasts(self, count: int, now_s: float) -> bool:
        """Look at the count, at ``now_s`` of any clock."""
        if count != self.count:
            self.count, self.since_s = count, now_s
        return now_s - self.since_s > self.limit_s


def describe_hang(view: SharedView, still_s: Sequence[float]) -> list[str]:
    """One sentence for each worker that is inside an operation, then the circle of waiters if there is one.

    ``still_s``: for how long each worker has not ended an operation.
    """
    holders = _holders(view)
    lines = []
    waits_for: dict[int, int] = {}
    for worker in range(view.workers):
        row = view.counters[worker]
        verb, lock = int(row[Counter.VERB_NOW]), int(row[Counter.WAIT_ADDR])
        if not verb and not lock:
            continue
        parts = [f"worker {worker}: {verb_name(verb)} for {still_s[worker]:.1f} s"]
        if lock:
            others = [w for w in holders.get(lock, ()) if w != worker]
            by = f", held by {_workers(others)}" if others else ", held by nobody known"
            parts.append(f"waits for {lock_name(lock, int(row[Counter.WAIT_CLASS]))}{by}")
            waits_for |= {worker: others[0]} if others else {}
        held = view.held_locks(worker)
        if held:
            parts.append(f"holds {' and '.join(lock_name(*one) for one in held)}")
        lines.append(", ".join(parts))
    circle = _circle(waits_for)
    if circle:
        lines.append(f"deadlock: {' -> '.join(f'worker {w}' for w in circle)}")
    return lines or [f"no worker is inside an operation; phase {view.phase.name.lower()}"]


def lock_name(address: int, lock_class: int) -> str:
    """``ptl 0x7f00``: class and address of a lock."""
    known = lock_class in LockClass._value2member_map_
    return f"{LockClass(lock_class).label if known else f'lock of class {lock_class}'} {address:#x}"


def _holders(view: SharedView) -> dict[int, list[int]]:
    holders: dict[int, list[int]] = {}
    for worker in range(view.workers):
        for address, _ in view.held_locks(worker):
            holders.setdefault(address, []).append(worker)
    return holders


def _workers(numbers: Sequence[int]) -> str:
    return " and ".join(f"worker {n}" for n in numbers)


def _circle(waits_for: dict[int, int]) -> list[int]:
    """Workers that wait for each other, the first one again at the end; empty if none do."""
    for start in waits_for:
        trail = [start]
        while trail[-1] in waits_for and waits_for[trail[-1]] not in trail:
            trail.append(waits_for[trail[-1]])
        if waits_for.get(trail[-1]) == start:
            return [*trail, start]
    return []
