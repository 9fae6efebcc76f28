"""Checks a history and says what is wrong with it: the verdict of ``ptstress check``.

``ok``: every operation has a rule, and every page has an execution that explains it. ``violation``: some page has none.
``unknown``: neither was shown; never ``ok``.
"""

import time
from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from ptstress.engine import load_history_checker
from ptstress.errors import ExitCode
from ptstress.history import History, operation_starts
from ptstress.history_drawing import Drawn, draw, frame_names
from ptstress.history_window import NEVER, PageHistory, Window, page_history, smallest_window
from ptstress.layout import is_write, report_text
from ptstress.operation import WITH_MODE
from ptstress.vocabulary import ACCESSES, BITS, STATUS_UNKNOWN, Verb

ENTRY_NAMES = ("a guard", "nothing", "the zero page")
FIRST_FRAME = 4
MAX_BESIDE = 6
MAP_NAMES = ((1, "a hole"), (2, "mapped read-only"), (4, "mapped writable"))


class WindowOperation(Struct, omit_defaults=True):
    """One operation of the window. ``index``: which one of its worker, from 0. ``status`` null: nobody knows."""

    worker: int
    index: int
    verb: str
    start: int
    end: int
    t0: int
    t1: int
    status: int | None
    value: int = 0
    incarnation: int = 0
    aux: int = 0
    seen: bool | None = None


class Violation(Struct):
    """What contradicts itself: operations on ``page``, whatever all others did. ``what`` was found; ``expected`` instead."""

    page: int
    invariant: int
    what: str
    expected: str
    window: list[WindowOperation]
    drawing: list[str]


class CheckSummary(Struct):
    """The object of ``--json``. ``checked``: operations with a rule; ``undecided``: pages that cost too much."""

    verdict: str
    exit_code: int
    operations: int
    pages: int
    checked: int
    seconds: float
    operations_per_second: float
    searched: int
    undecided: int
    violations: int
    violation: Violation | None
    path: str = ""
    schema: str = "ptstress.check/1"


def check_history(history: History, path: str = "") -> CheckSummary:
    """Check a valid history. Raises ``UnsupportedError`` if the checker cannot be loaded."""
    checker = load_history_checker()
    begin = time.perf_counter()
    result = checker.check(list(history.rings), history.maps, history.pages, history.final, history.task_pages)
    seconds = time.perf_counter() - begin
    operations = result["checked"] + result["unchecked"]
    if not history.known:
        # Every read may have seen what was there before.
        result = {**result, "checked": 0, "nr_violations": 0}
    verdict, code = "ok", ExitCode.PASS
    if result["nr_violations"]:
        verdict, code = "violation", ExitCode.VIOLATION
    elif result["unchecked"] or result["undecided"] or not operations or not history.known:
        verdict, code = "unknown", ExitCode.UNTRUSTWORTHY
    return CheckSummary(
        verdict, code, operations, count_pages(history), result["checked"], round(seconds, 6),
        round(operations / seconds, 1) if seconds else 0.0, result["searched"], result["undecided"], result["nr_violations"],
        explain(history, result, checker.check) if result["nr_violations"] else None, path)


def count_pages(history: History) -> int:
    """Pages that were accessed."""
    starts = []
    for ring in history.rings:
        ops = ring[operation_starts(ring)]
        starts.append(ops["start"][np.isin(ops["verb"], ACCESSES)])
    return len(np.unique(np.concatenate(starts))) if starts else 0


def explain(history: History, result: dict, check) -> Violation:
    """The first violation, with as few operations as can be found."""
    first = result["violations"][0]
    p = page_history(history, first["page"])
    window = smallest_window(p, check)
    if window is None:
        # It is about a range, or a count: what concerns the first page of the range is all there is to show.
        window = Window(np.arange(min(len(p.ops), 12)), {**result, "failed": None}, False)
    found = window.result["violations"][0]
    shown = np.union1d(window.chosen, _beside(p, window))
    drawn = [_drawn(p, i, i not in window.chosen) for i in shown]
    marked = _marked(p, shown, window)
    ending = [f"at the end  {_entry_text(p, drawn)}"] if window.with_final else []
    return Violation(
        first["page"], found["invariant"], report_text(_with_names(found, drawn)), _expected(p, drawn, window, found),
        [_operation(history, p, i) for i in window.chosen], draw(drawn, marked) + ending)


def _with_names(found: dict, drawn: Sequence[Drawn]) -> dict:
    """A report whose frames have the numbers that they have in the drawing."""
    names = frame_names(drawn)
    return found | {
        letter: int(names[found[letter]].removeprefix("frame "))
        for letter in "ab" if f"frame {letter}" in found["what"] and found[letter] in names
    }


def _beside(p: PageHistory, window: Window) -> np.ndarray:
    """What helps to understand the window: the writes of its values, and, if they are few, the discards beside it."""
    ops, chosen = p.ops, p.ops[window.chosen]
    values = chosen["value"][chosen["incarnation"] != 0]
    writes = is_write(ops) & (ops["incarnation"] != 0) & np.isin(ops["value"], values)
    first, last = chosen["t0"].min(initial=NEVER), chosen["t1"].max(initial=0)
    ranges = ~np.isin(ops["verb"], (*ACCESSES, *BITS)) & (ops["t0"] <= last) & (ops["t1"] >= first)
    return np.flatnonzero(writes | (ranges if ranges.sum() <= MAX_BESIDE else False))


def _marked(p: PageHistory, shown: np.ndarray, window: Window) -> int | None:
    """The operation that cannot end, or the last one to end."""
    if window.with_final or not len(window.chosen):
        return None
    failed = window.result["failed"]
    if failed is not None:
        for at, i in enumerate(shown):
            if (int(p.ops["t0"][i]), int(p.ops["t1"][i])) == (failed["t0"], failed["t1"]):
                return at
    last = window.chosen[p.ops["t1"][window.chosen].argmax()]
    return int(np.flatnonzero(shown == last)[0])


def _drawn(p: PageHistory, i: int, beside: bool) -> Drawn:
    e = p.ops[i]
    return Drawn(
        int(p.worker[i]), Verb(int(e["verb"])), int(e["t0"]), int(e["t1"]), int(e["status"]), int(e["incarnation"]),
        int(e["value"]), int(e["aux"]), bool(p.seen[i]), beside)


def _operation(history: History, p: PageHistory, i: int) -> WindowOperation:
    worker, at = int(p.worker[i]), int(p.origin[i])
    ring = history.rings[worker]
    e = ring[at]
    verb = Verb(int(e["verb"]))
    return WindowOperation(
        worker, int(np.searchsorted(operation_starts(ring), at)), verb.label, int(e["start"]), int(e["end"]), int(e["t0"]),
        int(e["t1"]), None if e["status"] == STATUS_UNKNOWN else int(e["status"]), int(e["value"]), int(e["incarnation"]),
        int(e["aux"]) if verb in WITH_MODE else 0, bool(p.seen[i]) if verb in BITS else None)


def _entry_text(p: PageHistory, drawn: list[Drawn]) -> str:
    if p.final is None or not len(p.final):
        return "nothing"
    _, incarnation, value = (int(n) for n in p.final[0])
    return f"{frame_names(drawn).get(incarnation, 'another frame')}, value {value:#x}" if incarnation else "the zero page"


#: What each rule asks for, by a part of what it says.
_EXPECTATIONS = (
    ("which nothing stored", "a value that a write to this frame stored, or the frame as it was made"),
    ("before its write began", "a read that ends after the write of its value began"),
    ("were each read after the other", "one order of the writes for all reads"),
    ("although b had replaced it", "the later value: the write of the older one had surely been overwritten"),
    ("but no frame", "a frame behind every value"),
    ("after a discard returned", "another frame or the zero page: the discard returned before this use began"),
    ("zero was read between two uses", "the frame's value: no discard was open that can have ended it"),
    ("after a populate for writing", "a frame: no discard came by since it was populated"),
    ("no write can have installed it", "a write that was running when the frame appeared"),
    ("took its place", "the first frame again: no discard can have ended it between them"),
    ("can have ended it", "the frame's value: no discard can have ended it"),
    ("too few discards", "fewer frames: each change takes a discard of its own"),
    ("went to a hole or to a read-only mapping", "-EFAULT: no mapping allowed it at any instant of its time"),
    ("although the page was mapped", "success: the mapping allowed it all the time, and no guard lay there"),
    ("went past a guard", "-EFAULT: the guard was there all the time"),
    ("that a guard lay on", "a walk that does not see the page"),
    ("that a guard lies on", "nothing: no operation can have taken the guard away"),
    ("succeeded over a hole", "-ENOMEM: not all of its range was mapped at one time"),
    ("met a hole", "success: all of its range was mapped all the time"),
    ("absent all the time", "a walk that does not see the page"),
    ("present all the time", "a walk that sees the page"),
    ("zero page is mapped", "nothing, or a frame: nobody can have mapped the zero page since the last discard"),
    ("gone without a discard", "the page that was there: no discard can have ended it"),
    ("walk counted", "as many pages as it reported"),
)


def _expected(p: PageHistory, drawn: list[Drawn], window: Window, found: dict) -> str:
    """What would have been right there."""
    failed = window.result["failed"]
    if failed is None:
        return next((text for part, text in _EXPECTATIONS if part in found["what"]), "a history that some execution explains")
    held = [name for i, name in enumerate(ENTRY_NAMES) if failed["entries"] >> i & 1]
    if failed["entries"] >> (FIRST_FRAME - 1):
        held.append("a frame")
    maps = [name for bit, name in MAP_NAMES if failed["maps"] & bit]
    return f"what the page can hold then: {' or '.join(held)}; {' or '.join(maps)}"
