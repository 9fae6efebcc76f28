"""An execution as a trace that Perfetto and chrome://tracing load: JSON of the Trace Event Format.

One track for each cpu, with its operations and in them the functions that made accesses; stores as instants; locks as
asynchronous slices from where they are taken to where they are dropped; and an arrow from each store to the first access by
another cpu that found it. Time is logical: one step takes one microsecond.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from ptstress.story import Operation
from ptstress.story_steps import Step, locking, step_text

PID = 1
#: Words that hold addresses: they say nothing, and differ from process to process.
_POINTER = re.compile(r"vma set|vma \d+\.(index|rcu)|rcu head|arena item")

Event = dict[str, object]


def chrome_trace(
    steps: Sequence[Step], operations: Sequence[Sequence[Operation]], about: Mapping[str, str]
) -> bytes:
    """The file. ``about``: what it says about itself, such as headline and program."""
    end = steps[-1].time + 1 if steps else 0
    cpus = max([len(operations), *(s.fibre + 1 for s in steps)])
    events = [
        *_names(cpus, about.get("headline", "execution")), *_operations(operations, steps, end), *_functions(steps),
        *_stores(steps), *_locks(steps, end), *_arrows(steps),
    ]
    return msgspec.json.encode({"traceEvents": events, "displayTimeUnit": "ns", "otherData": dict(about)})


def _names(cpus: int, process: str) -> Iterator[Event]:
    yield {"ph": "M", "name": "process_name", "pid": PID, "args": {"name": process}}
    for cpu in range(cpus):
        yield {"ph": "M", "name": "thread_name", "pid": PID, "tid": cpu, "args": {"name": f"CPU{cpu}"}}
        yield {"ph": "M", "name": "thread_sort_index", "pid": PID, "tid": cpu, "args": {"sort_index": cpu}}


def _operations(operations: Sequence[Sequence[Operation]], steps: Sequence[Step], end: int) -> Iterator[Event]:
    begin = steps[0].time if steps else 0
    for cpu, mine in enumerate(operations):
        for operation in mine:
            last = operation.end or end
            if last >= begin:
                at = max(operation.begin, begin)
                yield _slice(operation.text, "operation", cpu, at, last - at, {"result": operation.result or "in flight"})


def _functions(steps: Sequence[Step]) -> Iterator[Event]:
    """One slice for each row of steps that a cpu makes in one function, whatever others do meanwhile."""
    running: dict[int, list[Step]] = {}
    for s in steps:
        row = running.get(s.fibre)
        if row and row[-1].func != s.func:
            yield _function(row)
            row = None
        running[s.fibre] = [*(row or []), s]
    for row in running.values():
        yield _function(row)


def _function(row: Sequence[Step]) -> Event:
    begin, last = row[0], row[-1]
    return _slice(begin.func, "function", begin.fibre, begin.time, last.time + 1 - begin.time, {"place": begin.place})


def _stores(steps: Sequence[Step]) -> Iterator[Event]:
    for s in steps:
        if s.changes and s.name and not _POINTER.match(s.name):
            yield {
                "ph": "i", "s": "t", "name": step_text(s), "cat": s.kind, "pid": PID, "tid": s.fibre, "ts": s.time,
                "args": {"place": s.place, "before": f"{s.before:#x}", "after": f"{s.after:#x}"},
            }


def _locks(steps: Sequence[Step], end: int) -> Iterator[Event]:
    held: dict[tuple[int, str], tuple[int, str]] = {}
    for number, s in enumerate(steps):
        lock = locking(s)
        if lock is None:
            continue
        key = (s.fibre, lock.lock)
        if lock.taken and key not in held:
            held[key] = (number, f"CPU{s.fibre} {lock.text}")
            yield _lock("b", s.fibre, *held[key], s.time)
        elif lock.dropped and key in held:
            yield _lock("e", s.fibre, *held.pop(key), s.time + 1)
    for (cpu, _), (number, name) in held.items():
        yield _lock("e", cpu, number, name, end)


def _lock(phase: str, cpu: int, number: int, name: str, time: int) -> Event:
    return {"ph": phase, "cat": "lock", "id": f"lock {number}", "name": name, "pid": PID, "tid": cpu, "ts": time}


def _arrows(steps: Sequence[Step]) -> Iterator[Event]:
    stored: dict[str, Step] = {}
    for s in steps:
        last = stored.get(s.name) if s.name else None
        if last and last.fibre != s.fibre and s.before == last.after:
            flow = {"cat": "handoff", "name": s.name, "id": last.at, "pid": PID}
            yield {"ph": "s", **flow, "tid": last.fibre, "ts": last.time}
            yield {"ph": "f", "bp": "e", **flow, "tid": s.fibre, "ts": s.time}
            del stored[s.name]
        if s.changes:
            stored[s.name] = s


def _slice(name: str, kind: str, cpu: int, begin: int, duration: int, args: dict[str, str]) -> Event:
    return {"ph": "X", "name": name, "cat": kind, "pid": PID, "tid": cpu, "ts": begin, "dur": duration, "args": args}
