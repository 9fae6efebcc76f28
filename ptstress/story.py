"""The two-column story of one execution: what each cpu did, in the order in which it happened.

Only the steps that matter: operations, functions, locks, and words that changed. An operation that ran
without anybody in between is one line. The form is that of race descriptions in kernel commits:

    CPU0                                    CPU1
    dontneed(p0..p4)
      zap_pte_range:
        spin_unlock ptl of pte_table 2
                                            write(p1) = 0
      sync_emptied_locked:
        pmd_table 1 [0]: table 2 -> none
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ptstress.layout import describe_event, operation_lines

MAX_LINES = 48
MIN_WIDTH = 26
TOTAL_WIDTH = 120
POISON = 0x6B6B6B6B6B6B6B10
_CHANGES = ("rmw", "store", "plain_store", "fill")
_LOCKS = "cy/sync/"
# What a reader of a page-table race looks at. The rest (arenas, RCU slots, VMA fields) would bury it.
_NAMES = re.compile(r"\w+_table \d+\[|pgd\[|(ptl|pml) of |page_table_lock|mmap_lock|mm_users|pgtables_bytes|rss_anon|frame \d")
# Functions that are worth a line whatever they change.
_FUNCTIONS = frozenset(
    {"tlb_fill", "flush_tlb_range", "flush_tlb_mm", "frame_free", "table_unlinked", "_table_release"}
)


@dataclass(frozen=True)
class Operation:
    """One operation of one cpu: logical times ``[begin, end]``; ``end`` is ``None`` while in flight."""

    text: str
    begin: int
    end: int | None


def operations_of(lines: np.ndarray) -> list[Operation]:
    """A cpu's operations from its recorded events (``EVENT_DTYPE``)."""
    found = []
    for at in operation_lines(lines):
        event = lines[at]
        text = describe_event(event).split("  ")[0]
        found.append(Operation(text, int(event["t0"]), int(event["t1"]) or None))
    return found


def tell(
    trace: Sequence[dict], operations: Sequence[Sequence[Operation]], describe: Callable[[int], str], ending: str
) -> list[str]:
    """The story as lines, one column for each cpu. ``ending`` stands behind the last step."""
    entries = _with_endings(_without_repeats(_entries(trace, operations, describe)), trace, operations)
    fibres = max(len(operations), 1 + max((e.fibre for e in entries), default=0))
    width = max(MIN_WIDTH, TOTAL_WIDTH // fibres)
    lines = ["".join(f"{f'CPU{i}':<{width}}" for i in range(fibres)).rstrip()]
    shown = entries[-MAX_LINES:]
    if len(shown) < len(entries):
        lines.append(f"... {len(entries) - len(shown)} lines before")
    for entry in shown:
        text = "  " * entry.depth + entry.text
        lines.append((" " * (width * entry.fibre) + _fit(text, width - 1)).rstrip())
    return [*lines, f"=> {ending}"]


@dataclass(frozen=True)
class _Entry:
    fibre: int
    depth: int
    text: str


def _entries(
    trace: Sequence[dict], operations: Sequence[Sequence[Operation]], describe: Callable[[int], str]
) -> list[_Entry]:
    after = _values_after(trace)
    owners = [_owner(step, operations) for step in trace]
    alone = _uninterrupted(trace, owners, operations)
    entries: list[_Entry] = []
    told: set[tuple[int, int]] = set()
    function: dict[int, str] = {}
    for i, (step, owner) in enumerate(zip(trace, owners, strict=True)):
        fibre = step["fibre"]
        if owner is not None and (fibre, owner) not in told:
            told.add((fibre, owner))
            operation = operations[fibre][owner]
            text = operation.text if (fibre, owner) in alone else operation.text.split(" = ")[0]
            entries.append(_Entry(fibre, 0, text))
            function.pop(fibre, None)
        if owner is not None and (fibre, owner) in alone:
            continue
        text = _step_text(step, after[i], describe)
        if not text and step["func"] not in _FUNCTIONS:
            continue
        if not step["file"].startswith(_LOCKS) and function.get(fibre) != step["func"]:
            function[fibre] = step["func"]
            entries.append(_Entry(fibre, 1, f"{step['func']}:"))
        if text:
            entries.append(_Entry(fibre, 2, text))
    return entries


def _without_repeats(entries: list[_Entry]) -> list[_Entry]:
    """Leave out what is said twice in a row, and locks that were taken and dropped with nothing in between."""
    kept: list[_Entry] = []
    for entry in entries:
        last = kept[-1] if kept else None
        if entry == last:
            continue
        if last and last.fibre == entry.fibre and last.text == _lock_of(entry.text):
            kept.pop()
            continue
        kept.append(entry)
    return kept


def _lock_of(text: str) -> str:
    """``spin_lock x`` for ``spin_unlock x``; nothing for other texts."""
    return text.replace("unlock", "lock", 1) if text.startswith("spin_unlock ") else ""


def _with_endings(
    entries: list[_Entry], trace: Sequence[dict], operations: Sequence[Sequence[Operation]]
) -> list[_Entry]:
    """Say what is still going on when the execution ends."""
    busy = [
        _Entry(fibre, 1, f"{ops[-1].text.split(' = ')[0].split('  ')[0]} not done")
        for fibre, ops in enumerate(operations)
        if ops and ops[-1].end is None and any(step["fibre"] == fibre for step in trace)
    ]
    return entries + busy


def _owner(step: dict, operations: Sequence[Sequence[Operation]]) -> int | None:
    """Index of the operation that a step belongs to."""
    if step["fibre"] >= len(operations):
        return None
    for number, operation in enumerate(operations[step["fibre"]]):
        if operation.begin <= step["time"] and (operation.end is None or step["time"] <= operation.end):
            return number
    return None


def _uninterrupted(
    trace: Sequence[dict], owners: Sequence[int | None], operations: Sequence[Sequence[Operation]]
) -> set[tuple[int, int]]:
    """Operations that ended and during which no other cpu made a step."""
    first: dict[tuple[int, int], int] = {}
    last: dict[tuple[int, int], int] = {}
    for i, (step, owner) in enumerate(zip(trace, owners, strict=True)):
        if owner is not None:
            first.setdefault((step["fibre"], owner), i)
            last[step["fibre"], owner] = i
    return {
        (fibre, owner)
        for (fibre, owner), begin in first.items()
        if operations[fibre][owner].end is not None
        and all(step["fibre"] == fibre for step in trace[begin : last[fibre, owner] + 1])
    }


def _values_after(trace: Sequence[dict]) -> list[int | None]:
    """What each step left in its word: what the next step there found, if there is one."""
    found: dict[int, int] = {}
    values: list[int | None] = [None] * len(trace)
    for i in range(len(trace) - 1, -1, -1):
        offset = trace[i]["offset"]
        if offset is not None:
            values[i] = found.get(offset)
            found[offset] = trace[i]["before"]
    return values


def _step_text(step: dict, after: int | None, describe: Callable[[int], str]) -> str:
    name = describe(step["offset"]) if step["offset"] is not None else ""
    if step["kind"] == "wait":
        return f"waits for {name or step['func']}"
    if step["kind"] not in _CHANGES or not _NAMES.match(name):
        return ""
    if step["file"].startswith(_LOCKS):
        return f"{step['func'].strip('_').removesuffix('_slow')} {name}"
    if name.startswith(("ptl of ", "pml of ")):
        return ""
    if after is None:
        return f"{name}: {_value(name, step['before'])} -> ?"
    if after == step["before"]:
        return ""
    return f"{name}: {_value(name, step['before'])} -> {_value(name, after)}"


def _value(name: str, value: int) -> str:
    """An entry as people read it; other words in hex when they are large."""
    if value == POISON:
        return "poison"
    if name == "pgtables_bytes":
        return f"{value >> 10} kB"
    if "[" not in name:
        return str(value) if value < 4096 else f"{value:#x}"
    if value & ~0x60 == 0:
        return "none"
    if not name.startswith("pte_table"):
        return f"table {value >> 12 & 0xFFFFFFFF}"        # above: its generation
    if value & 1 << 9:
        return "zero page"
    marks = "".join(mark for bit, mark in ((1, "w"), (5, "a"), (6, "d")) if value >> bit & 1)
    return f"frame {value >> 12} {marks}".rstrip()


def _fit(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 2] + ".."
