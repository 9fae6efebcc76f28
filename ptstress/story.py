"""The story of one execution: one column for each cpu, in the order in which it happened, as race descriptions in kernel
commits have it.

    CPU0                                                   CPU1
    dontneed(p0..p4)
      spin_lock(ptl of pte_table 3)
      _zap_entries()  core/zap.pxd:130
        pte_table 3[0]: frame 1 wad -> none
      spin_unlock(ptl of pte_table 3)
                                                           write(p0)
      ...

Only the steps that matter (``story_slice``), each under its operation and its function.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ptstress.layout import describe_event, operation_lines
from ptstress.story_slice import Kept
from ptstress.story_steps import step_text

MAX_LINES = 34
#: Lines of one round of what repeats.
MAX_CYCLE = 16
MIN_WIDTH = 46
TOTAL_WIDTH = 110
FOLDED = "  ..."


@dataclass(frozen=True)
class Operation:
    """One operation of one cpu: logical times ``[begin, end]``; ``end`` is ``None`` while in flight.

    ``result``: ``0``, ``-14``, and what it saw: ``0, value 0x2a``.
    """

    text: str
    begin: int
    end: int | None
    result: str = ""


def operations_of(lines: np.ndarray) -> list[Operation]:
    """A cpu's operations from its recorded events (``EVENT_DTYPE``)."""
    found = []
    for at in operation_lines(lines):
        event = lines[at]
        text, *rest = describe_event(event).split("  ")
        name, _, status = text.partition(" = ")
        result = ", ".join([status, *rest[:-1]]) if event["t1"] else ""
        found.append(Operation(name, int(event["t0"]), int(event["t1"]) or None, result))
    return found


@dataclass(frozen=True)
class Ending:
    """How a story ends: in the column of ``fibre``, or under all of them if it is ``None``."""

    text: str
    fibre: int | None = None


def tell(
    kept: Sequence[Kept], operations: Sequence[Sequence[Operation]], endings: Sequence[Ending], results: bool = False,
    cycles: Sequence[tuple[Sequence[Kept], str]] = (),
) -> list[str]:
    """The story as lines. ``results``: tell all operations, and what came of them. ``cycles``: what repeats, and how often."""
    fibres = max([len(operations), *(1 + k.step.fibre for k in kept)])
    width = max(MIN_WIDTH, TOTAL_WIDTH // max(fibres, 1))
    entries = _entries(kept, operations, results)
    lines = ["".join(f"{f'CPU{i}':<{width}}" for i in range(fibres)).rstrip()]
    shown = _shortened(entries)
    if len(shown) < len(entries) and not shown[0].text.endswith(FOLDED):
        lines.append("...")
    for steps, again in cycles:
        fibre = steps[0].step.fibre if steps else 0
        shown = [*shown, _Entry(fibre, 1, "again and again:"), *_entries(steps, (), False)[:MAX_CYCLE], _Entry(fibre, 1, again)]
    lines += [_in_column(e.fibre, "  " * e.depth + e.text, width) for e in shown]
    for ending in endings:
        room = width - 3 if ending.fibre is not None else TOTAL_WIDTH
        text = textwrap.wrap(f"=> {ending.text}", room, subsequent_indent="   ")
        indent = "" if ending.fibre is None else "  "
        lines += [_in_column(ending.fibre or 0, f"{indent}{line}", width, cut=False) for line in text]
    return lines


@dataclass(frozen=True)
class _Entry:
    fibre: int
    depth: int
    text: str


def _entries(kept: Sequence[Kept], operations: Sequence[Sequence[Operation]], results: bool) -> list[_Entry]:
    """Operations where their first told step is, functions where they are entered, steps.

    Of a cpu that has none of these its operations are told, so that one sees what it did.
    """
    owners = [(one, _owner(one.step.fibre, one.step.time, operations)) for one in kept]
    told = {(one.step.fibre, owner) for one, owner in owners}
    silent = set(range(len(operations))) - {fibre for fibre, _ in told}
    moments: list[tuple[int, int, list[_Entry]]] = []
    for fibre, mine in enumerate(operations):
        for number, operation in enumerate(mine):
            alone = (fibre, number) not in told
            end = f" = {operation.result}" if operation.result else ""
            if alone and (results or fibre in silent):
                moments.append((operation.end or operation.begin, fibre, [_Entry(fibre, 0, operation.text + end)]))
            elif results and end and not alone:
                moments.append((operation.end or 0, fibre, [_Entry(fibre, 1, end.strip())]))
    begun: dict[int, int | None] = {}
    function: dict[int, str] = {}
    for one, owner in owners:
        step, lines = one.step, []
        if owner is not None and begun.get(step.fibre) != owner:
            begun[step.fibre] = owner
            function.pop(step.fibre, None)
            lines.append(_Entry(step.fibre, 0, operations[step.fibre][owner].text))
        if one.lock:
            function.pop(step.fibre, None)
            lines.append(_Entry(step.fibre, 1, one.lock.text))
        else:
            if function.get(step.fibre) != step.func:
                function[step.fibre] = step.func
                lines.append(_Entry(step.fibre, 1, f"{step.func}()  {step.place}"))
            lines.append(_Entry(step.fibre, 2, step_text(step)))
        moments.append((step.time, step.fibre, lines))
    return _without_repeats([entry for _, _, lines in sorted(moments, key=lambda m: m[0]) for entry in lines])


def _without_repeats(entries: list[_Entry]) -> list[_Entry]:
    """Leave out what a cpu says twice in a row."""
    last: dict[int, _Entry] = {}
    kept = []
    for entry in entries:
        if last.get(entry.fibre) != entry:
            kept.append(entry)
        last[entry.fibre] = entry
    return kept


def _shortened(entries: list[_Entry]) -> list[_Entry]:
    """At most ``MAX_LINES``: of the oldest operations, one after the other, no more than their names; else the last lines."""
    while len(entries) > MAX_LINES:
        heads = [i for i, e in enumerate(entries) if e.depth == 0]
        last = {entries[i].fibre: i for i in heads}
        fold = next((i for i in heads if i not in last.values() and not entries[i].text.endswith(FOLDED)), None)
        if fold is None:
            return entries[-MAX_LINES:]
        head = entries[fold]
        end = next(i for i in heads if i > fold and entries[i].fibre == head.fibre)
        others = [e for e in entries[fold + 1 : end] if e.fibre != head.fibre]
        entries = [*entries[:fold], _Entry(head.fibre, 0, head.text + FOLDED), *others, *entries[end:]]
    return entries


def _owner(fibre: int, time: int, operations: Sequence[Sequence[Operation]]) -> int | None:
    """Index of the operation of a fibre that a time lies in."""
    if fibre >= len(operations):
        return None
    for number, operation in enumerate(operations[fibre]):
        if operation.begin <= time and (operation.end is None or time <= operation.end):
            return number
    return None


def _in_column(fibre: int, text: str, width: int, cut: bool = True) -> str:
    if cut and len(text) > width - 1:
        text = text[: width - 3] + ".."
    return (" " * (width * fibre) + text).rstrip()
