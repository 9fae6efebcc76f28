"""Flight recorders: what workers did last to locks and tables, from the rings that the first report froze."""

from collections import Counter
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from ptstress.layout import FLIGHT_KINDS, LockClass, SharedView, describe_event, operation_lines
from ptstress.vocabulary import LEVEL_NAMES

#: Lines of the text form, which ends with the first report.
SHOWN = 60
SCHEMA = "ptstress.flight/1"
_MASK = (1 << 32) - 1


class Noted(Struct):
    """One entry. ``stamp``: of the history's clock, of a recheck that of the note before it. ``seq``: the worker's operation.

    ``kind``: lock, trylock, recheck, unlink, free. ``what``: the lock's address, for a table that of its own lock, or that of the
    entry that was looked at. ``nth``: of a lock: its how many-eth acquisition among those that are in the rings.
    ``detail``: lock class, 1 if a recheck held, level of a table. ``value``: what a recheck read; number of a table, and
    its generation above.
    """

    stamp: int
    worker: int
    seq: int
    kind: str
    what: int
    detail: int
    value: int
    nth: int = 0


class Flight(Struct):
    """All rings, in the order of their stamps."""

    entries: list[Noted]
    schema: str = SCHEMA


def read_flight(view: SharedView) -> Flight:
    """What the rings hold; empty if the build has no recorder."""
    entries = [
        Noted(
            stamp=int(e["stamp"]), worker=worker, seq=int(e["seq"]), kind=FLIGHT_KINDS[int(e["kind"])], what=int(e["what"]),
            detail=int(e["detail"]), value=int(e["value"]),
        )
        for worker in range(view.workers) for e in view.flight(worker)
    ]
    entries.sort(key=lambda e: e.stamp)
    taken: Counter[int] = Counter()
    for entry in entries:
        if entry.kind in ("lock", "trylock"):
            taken[entry.what] += 1
            entry.nth = taken[entry.what]
    return Flight(entries)


def flight_files(view: SharedView) -> dict[str, bytes]:
    """What a failure's folder gets of them; nothing if there is nothing."""
    flight = read_flight(view)
    if not flight.entries:
        return {}
    text = "\n".join(flight_lines(view, flight.entries))
    return {"flight.json": msgspec.json.encode(flight) + b"\n", "flight.txt": f"{text}\n".encode()}


def flight_lines(view: SharedView, entries: Sequence[Noted]) -> list[str]:
    """The last entries before the first report, as text: ticks before it, worker and operation, what was done."""
    reports = view.reports()
    end = int(reports[0]["stamp"]) if reports else entries[-1].stamp
    shown = [e for e in entries if e.stamp <= end][-SHOWN:]
    names = _names(entries)
    operations = _operations(view)
    lines = [f"The last {len(shown)} of {len(entries)} notes of the flight recorders, in clock ticks before the first report:"]
    for e in shown:
        operation = operations.get((e.worker, e.seq), f"operation {e.seq}")
        lines.append(f"{e.stamp - end:>12,}  worker {e.worker}  {operation:<28} {_told(e, names)}")
    return lines


def _told(e: Noted, names: dict[int, str]) -> str:
    if e.kind in ("lock", "trylock"):
        return f"{e.kind} {names[e.what]}, its {e.nth}."
    if e.kind == "recheck":
        return f"recheck {'held' if e.detail else 'LOST'}: read {e.value:#x}"
    level = LEVEL_NAMES[e.detail] if e.detail < len(LEVEL_NAMES) else "table"
    lock = f" ({names[e.what]})" if e.what in names else ""
    return f"{e.kind} {level} {e.value & _MASK}, life {e.value >> 32:#x}{lock}"


def _names(entries: Sequence[Noted]) -> dict[int, str]:
    """Short names of the locks: class, and a number by first appearance."""
    names: dict[int, str] = {}
    numbers: Counter[int] = Counter()
    for e in entries:
        if e.kind in ("lock", "trylock") and e.what not in names:
            numbers[e.detail] += 1
            known = e.detail in LockClass._value2member_map_
            names[e.what] = f"{LockClass(e.detail).label if known else f'lock of class {e.detail}'} {numbers[e.detail]}"
    return names


def _operations(view: SharedView) -> dict[tuple[int, int], str]:
    """What each recorded operation was, by worker and number."""
    found = {}
    for worker in range(view.workers):
        lines = view.recorded(worker)
        for at in operation_lines(lines):
            found[worker, int(lines["seq"][at])] = describe_event(lines[at]).partition(")")[0] + ")"
    return found
