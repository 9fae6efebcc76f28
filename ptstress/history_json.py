"""Histories as plain JSON, for other checkers and from other recorders.

One object: ``schema`` "ptstress.history/1", ``operations`` in program order of each worker, and optionally ``start``,
``final``, ``task_pages``, ``geometry``, ``made_by``, ``known`` (false: nobody knows the start). Pages are numbers of
pages, ranges half-open, times any unit from 1 on; before means t1 < t0 of the other, so operations
that touch in time overlap. Fields of an operation:

    worker       0 to 63; the operations of one worker do not overlap
    verb         read write walk mmap munmap dontneed gup_fast mprotect populate guard_install guard_remove age exit free discard
    start, end   pages [start, end); read and write: one page, end may be left out
    t0, t1       when it began and returned
    status       0, or -errno (-14 EFAULT, -12 ENOMEM, -22 EINVAL), or null: nobody knows what became of it
    value        read, write: what was read or written; every write has a value of its own; populate: how many of its pages,
                 from the first one on, were brought in
    incarnation  read, write: number of the fresh frame that was used, a new one each time a page gets a frame;
                 0 for the zero page. Before the first write a frame holds its incarnation.
    aux          mmap, mprotect: 1 if writable; gup_fast, populate: 1 to write
    present      walk: the pages that it saw; age: those that it found young
"""

from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct

from ptstress.errors import UsageError
from ptstress.history import FILE_NAME, History, decode_history, operation_starts, validate
from ptstress.layout import PAGES_PER_LINE, present_pages
from ptstress.operation import WITH_MODE
from ptstress.vocabulary import ACCESSES, BITS, EVENT_DTYPE, OPERATIONS, STATUS_UNKNOWN, Verb

SCHEMA = "ptstress.history/1"
MAX_WALK_PAGES = PAGES_PER_LINE * 0xFFFF
_READ_ONLY, _WRITABLE, _OPEN, _GUARDED = 2, 4, 8, 16


class JsonOperation(Struct, omit_defaults=True):
    """One operation; see the module."""

    worker: int
    verb: str
    start: int
    t0: int
    t1: int
    status: int | None
    end: int | None = None
    value: int = 0
    incarnation: int = 0
    aux: int = 0
    present: list[int] | None = None


class JsonMap(Struct, omit_defaults=True):
    """One mapping before the first operation. ``writable`` null: either; ``guarded``: guards lie on all of its pages, null: on
    some."""

    start: int
    end: int
    writable: bool | None
    guarded: bool | None = False

    @property
    def states(self) -> int:
        """As in ``History.maps``."""
        protection = {True: _WRITABLE, False: _READ_ONLY, None: _WRITABLE | _READ_ONLY}[self.writable]
        return protection | {False: 0, True: _GUARDED, None: _GUARDED | _OPEN}[self.guarded]


class JsonPage(Struct):
    """One page that is present; incarnation 0: the zero page."""

    page: int
    incarnation: int = 0
    value: int = 0


class JsonStart(Struct):
    """The address space before the first operation."""

    maps: list[JsonMap] = []
    pages: list[JsonPage] = []


class JsonHistory(Struct, omit_defaults=True):
    """A whole history; see the module."""

    schema: str
    operations: list[JsonOperation]
    start: JsonStart = msgspec.field(default_factory=JsonStart)
    final: list[JsonPage] | None = None
    task_pages: int = 0
    geometry: list[int] = []
    made_by: str = ""
    known: bool = True


def to_json(history: History) -> bytes:
    """The history as JSON, one line for each operation, by t0."""
    operations = [_operation(ring, int(at), worker) for worker, ring in enumerate(history.rings) for at in operation_starts(ring)]
    operations.sort(key=lambda op: op.t0)
    head = JsonHistory(
        SCHEMA, [],
        JsonStart([_map(*(int(n) for n in row)) for row in history.maps], _pages(history.pages)),
        None if history.final is None else _pages(history.final), history.task_pages, list(history.geometry), history.made_by,
        history.known)
    text = msgspec.json.encode(head)
    lines = b",\n".join(msgspec.json.encode(op) for op in operations)
    return text.replace(b'"operations":[]', b'"operations":[\n' + lines + b"\n]", 1) + b"\n"


def _map(start: int, end: int, states: int) -> JsonMap:
    guarded = None if states & _GUARDED and states & _OPEN else bool(states & _GUARDED)
    return JsonMap(start, end, None if states & _READ_ONLY and states & _WRITABLE else bool(states & _WRITABLE), guarded)


def _operation(ring: np.ndarray, at: int, worker: int) -> JsonOperation:
    e = ring[at]
    verb = Verb(int(e["verb"]))
    present = [int(p) for p in present_pages(ring, at)] if verb in BITS and e["lines"] else None
    status = None if e["status"] == STATUS_UNKNOWN else int(e["status"])
    return JsonOperation(
        worker, verb.label, int(e["start"]), int(e["t0"]), int(e["t1"]), status, int(e["end"]), int(e["value"]),
        int(e["incarnation"]), int(e["aux"]) if verb in WITH_MODE else 0, present)


def _pages(rows: np.ndarray) -> list[JsonPage]:
    return [JsonPage(*(int(n) for n in row)) for row in rows]


def from_json(data: bytes, where: str) -> History:
    """Read JSON. Raises ``UsageError`` that names the object which is wrong."""
    try:
        h = msgspec.json.decode(data, type=JsonHistory)
    except msgspec.ValidationError as error:
        raise UsageError(f"{where}: {error}") from None
    except msgspec.DecodeError as error:
        raise UsageError(f"{where}: no JSON: {error}") from None
    if h.schema != SCHEMA:
        raise UsageError(f"{where}: schema {h.schema!r}: expected {SCHEMA!r}")
    rings: dict[int, list[np.ndarray]] = {}
    for i, op in enumerate(h.operations):
        try:
            rings.setdefault(op.worker, []).append(_lines(op))
        except (ValueError, OverflowError) as error:
            raise UsageError(f"{where}: operations[{i}]: {error}") from None
    try:
        maps = _rows(sorted((m.start, m.end, m.states) for m in h.start.maps))
        pages, final = (_rows(sorted((p.page, p.incarnation, p.value) for p in rows or ())) for rows in (h.start.pages, h.final))
    except OverflowError:
        raise UsageError(f"{where}: start, final: expected numbers from 0 to 2^64 - 1") from None
    return History(
        tuple(np.concatenate(rings[w]) if w in rings else np.zeros(0, EVENT_DTYPE) for w in range(max(rings, default=-1) + 1)),
        maps, pages, None if h.final is None else final, h.task_pages, tuple(h.geometry), h.made_by, h.known)


def _rows(rows: list[tuple[int, int, int]]) -> np.ndarray:
    return np.array(rows, np.uint64).reshape(-1, 3)


def _lines(op: JsonOperation) -> np.ndarray:
    """The recorded lines of one operation. Raises ``ValueError`` or ``OverflowError``."""
    names = {verb.label: verb for verb in OPERATIONS}
    if op.verb not in names:
        raise ValueError(f"verb {op.verb!r}: expected one of {', '.join(names)}")
    if not 0 <= op.worker < 64:
        raise ValueError(f"worker {op.worker}: expected a number from 0 to 63")
    verb, end = names[op.verb], op.start + 1 if op.end is None else op.end
    numbers = {"start": op.start, "end": end, "t0": op.t0, "t1": op.t1, "value": op.value, "incarnation": op.incarnation}
    for name, number in numbers.items():
        if not 0 <= number < 1 << 64:
            raise ValueError(f"{name} {number}: expected a number from 0 to 2^64 - 1")
    if verb in ACCESSES and end != op.start + 1:
        raise ValueError(f"{op.verb} of pages {op.start} to {end}: expected one page")
    status = STATUS_UNKNOWN if op.status is None else op.status
    present = op.present if verb in BITS and status == 0 else None
    if verb in BITS and status == 0 and present is None:
        raise ValueError(f"a {op.verb} that succeeded: expected the field `present`")
    rows = np.zeros(1, EVENT_DTYPE) if present is None else _walk_lines(op.start, end, present)
    aux = op.aux if present is None else len(present)
    rows[0] = (op.t0, op.t1, op.start, end, op.value, op.incarnation, 0, status, verb, len(rows) - 1, aux)
    return rows


def _walk_lines(start: int, end: int, present: list[int]) -> np.ndarray:
    count = max(end - start, 0)
    if count > MAX_WALK_PAGES:
        raise ValueError(f"a walk of {count} pages: expected at most {MAX_WALK_PAGES}")
    if len(set(present)) != len(present) or any(not start <= page < end for page in present):
        raise ValueError(f"present: expected pages from {start} to {end - 1}, each once")
    lines = (count + PAGES_PER_LINE - 1) // PAGES_PER_LINE
    bits = np.zeros(lines * PAGES_PER_LINE, np.uint8)
    bits[[page - start for page in present]] = 1
    rows = np.zeros(1 + lines, EVENT_DTYPE)
    rows[1:] = np.packbits(bits, bitorder="little").view(EVENT_DTYPE)
    return rows




def load_history(path: Path) -> History:
    """Read a history of either form, or that of a failure folder, and look whether it can be one. Raises ``UsageError``."""
    if path.is_dir():
        path = path / FILE_NAME
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    where = str(path)
    history = from_json(data, where) if data.lstrip()[:1] == b"{" else decode_history(data, where)
    validate(history, where)
    return history
