"""Histories: what every worker did to one address space, in memory and as files.

A file is: 8 bytes ``PTSTHIST``, two little-endian numbers of 4 bytes (version, length of the header), the header as JSON
(``Header``), one zstandard frame, and 16 bytes of BLAKE2b over everything before. The frame holds the lines of all
workers, one after the other, column by column in the order of ``EVENT_DTYPE``, walk lines included; then ``maps``,
``pages`` and ``final`` as rows of three 8-byte numbers. ``history_json`` has the plain form.
"""

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import numpy as np
import zstandard
from msgspec import Struct

from ptstress.durable import Disk
from ptstress.errors import UsageError
from ptstress.layout import is_write, verb_name
from ptstress.pages import page_text, range_text
from ptstress.vocabulary import ACCESSES, EVENT_DTYPE, OPERATIONS, STATUS_UNKNOWN

MAGIC, VERSION = b"PTSTHIST", 1
FILE_NAME = "history.ptsh"
DIGEST_BYTES = 16
MAX_WORKERS = 64
MAX_PLAIN_BYTES = 1 << 36
_PREFIX = struct.Struct("<8sII")
LEVEL = 3


def no_rows() -> np.ndarray:
    """No mappings, or no pages."""
    return np.zeros((0, 3), np.uint64)


@dataclass(frozen=True)
class History:
    """One EVENT_DTYPE array for each worker, in program order, walk lines included.

    ``maps``: rows (start, end, states) of the mappings before the first operation, ascending; states: 2 read-only,
    4 writable, plus 16 if guards lie on its pages, 24 if on some of them. ``pages``: rows (page, incarnation, value) of
    the pages that were present then, incarnation 0 for the zero page. ``final``: the same after the last operation, None if
    nobody looked. ``task_pages``: size of the address space, 0 if not known. ``geometry``: index bits by level, from the PTE
    table up; empty if not known. ``known``: False if nobody knows what was there before: such a history cannot be judged.
    """

    rings: tuple[np.ndarray, ...]
    maps: np.ndarray = field(default_factory=no_rows)
    pages: np.ndarray = field(default_factory=no_rows)
    final: np.ndarray | None = None
    task_pages: int = 0
    geometry: tuple[int, ...] = ()
    made_by: str = ""
    known: bool = True


class Header(Struct):
    """What a file says about itself: lines of each worker, rows of each table (``final`` -1: none), bytes of the frame."""

    lines: list[int]
    maps: int
    pages: int
    final: int
    frame_bytes: int
    task_pages: int = 0
    geometry: list[int] = []
    made_by: str = ""
    known: bool = True


def encode_history(history: History) -> bytes:
    """The history as a file."""
    lines = np.concatenate([np.zeros(0, EVENT_DTYPE), *history.rings])
    columns = [np.ascontiguousarray(lines[name]).tobytes() for name in EVENT_DTYPE.names]
    tables = [np.ascontiguousarray(t, np.uint64) for t in (history.maps, history.pages, _final_rows(history))]
    plain = b"".join([*columns, *(t.tobytes() for t in tables)])
    frame = zstandard.ZstdCompressor(level=LEVEL).compress(plain)
    header = msgspec.json.encode(Header(
        [len(ring) for ring in history.rings], len(tables[0]), len(tables[1]), -1 if history.final is None else len(tables[2]),
        len(frame), history.task_pages, list(history.geometry), history.made_by, history.known))
    body = _PREFIX.pack(MAGIC, VERSION, len(header)) + header + frame
    return body + _digest(body)


def write_history(path: Path, history: History) -> None:
    """Write a file, whole or not at all. Raises ``UsageError``."""
    try:
        Disk().replace(path, encode_history(history))
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from None


def decode_history(data: bytes, where: str) -> History:
    """Read a file's bytes. Raises ``UsageError`` with ``where`` if they are no history, or not what was written."""
    if data[:8] != MAGIC:
        raise UsageError(f"{where}: no history: expected the file to begin with {MAGIC.decode()}, or a JSON object")
    if len(data) < _PREFIX.size:
        raise UsageError(f"{where}: cut off after {len(data)} bytes: expected a header")
    _, version, length = _PREFIX.unpack_from(data)
    if version != VERSION:
        raise UsageError(f"{where}: a history of version {version}: expected version {VERSION}")
    at = _PREFIX.size + length
    if len(data) < at:
        raise UsageError(f"{where}: cut off after {len(data)} bytes: expected a header of {length}")
    try:
        header = msgspec.json.decode(data[_PREFIX.size : at], type=Header)
    except msgspec.MsgspecError:
        raise UsageError(f"{where}: altered: its header cannot be read") from None
    expected = at + header.frame_bytes + DIGEST_BYTES
    if len(data) != expected:
        what = "cut off after" if len(data) < expected else "altered: it has"
        raise UsageError(f"{where}: {what} {len(data)} bytes: expected {expected}")
    if _digest(data[:-DIGEST_BYTES]) != data[-DIGEST_BYTES:]:
        raise UsageError(f"{where}: altered: its checksum is not that of its contents")
    return _unpack(header, data[at:-DIGEST_BYTES], where)


def _unpack(h: Header, frame: bytes, where: str) -> History:
    rows = [h.maps, h.pages, max(h.final, 0)]
    size = sum(h.lines) * EVENT_DTYPE.itemsize + 24 * sum(rows)
    if size > MAX_PLAIN_BYTES:
        raise UsageError(f"{where}: a history of {size} bytes: expected at most {MAX_PLAIN_BYTES}")
    try:
        plain = zstandard.ZstdDecompressor().decompress(frame, max_output_size=size + 1) if size else b""
    except zstandard.ZstdError as error:
        raise UsageError(f"{where}: altered: {error}") from None
    if len(plain) != size:
        raise UsageError(f"{where}: altered: {len(plain)} bytes inside: expected {size}")
    lines, at = np.zeros(sum(h.lines), EVENT_DTYPE), 0
    for name in EVENT_DTYPE.names:
        lines[name] = np.frombuffer(plain, EVENT_DTYPE[name], len(lines), at)
        at += len(lines) * EVENT_DTYPE[name].itemsize
    tables = []
    for count in rows:
        tables.append(np.frombuffer(plain, np.uint64, 3 * count, at).reshape(count, 3))
        at += 24 * count
    rings = tuple(np.split(lines, np.cumsum(h.lines)[:-1])) if h.lines else ()
    final = None if h.final < 0 else tables[2]
    return History(rings, tables[0], tables[1], final, h.task_pages, tuple(h.geometry), h.made_by, h.known)


def _final_rows(history: History) -> np.ndarray:
    return no_rows() if history.final is None else history.final


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def operation_starts(lines: np.ndarray) -> np.ndarray:
    """Index of the first line of each operation; one too many at the end if the last one is cut off."""
    more = np.flatnonzero(lines["lines"])
    parts, at = [], 0
    while True:
        # Lines of bits may look like anything: only what is reached from the front counts.
        next_walk = np.searchsorted(more, at)
        if next_walk == len(more):
            parts.append(np.arange(at, len(lines)))
            return np.concatenate(parts)
        head = int(more[next_walk])
        parts.append(np.arange(at, head + 1))
        at = head + 1 + int(lines["lines"][head])
        if at > len(lines):
            return np.concatenate([*parts, [at]])


def complete(history: History) -> History:
    """Give operations that were in flight an end behind everything, and the status of those nobody knows about.

    A store in flight names its value, but not yet its frame: that is where others found the value, if anybody did.
    """
    times = (ring[operation_starts(ring)][name] for ring in history.rings for name in ("t0", "t1"))
    end = max((int(column.max(initial=1)) for column in times), default=1)
    rings = []
    for ring in history.rings:
        ring = ring.copy()
        starts = operation_starts(ring)
        if len(starts) and starts[-1] < len(ring) and ring["t1"][starts[-1]] == 0:
            # Its begin may not be there yet either.
            before = ring["t1"][starts[-2]] if len(starts) > 1 else np.uint64(1)
            at = starts[-1]
            ring["t0"][at] = max(ring["t0"][at], before)
            ring["t1"][at], ring["status"][at] = end, STATUS_UNKNOWN
            if is_write(ring[at]):
                ring["incarnation"][at] = _frame_with(history, ring[at])
        rings.append(ring)
    return replace(history, rings=tuple(rings))


def _frame_with(history: History, store: np.void) -> int:
    """The incarnation in which an operation found the value of this store; 0 if none did."""
    for ring in history.rings:
        ops = ring[operation_starts(ring)]
        same = (ops["start"] == store["start"]) & (ops["value"] == store["value"]) & (ops["incarnation"] != 0)
        found = ops[np.isin(ops["verb"], ACCESSES) & same]
        if len(found):
            return int(found["incarnation"][0])
    return 0


def validate(history: History, where: str) -> None:
    """Raises ``UsageError`` if the history cannot be one: times, program order, verbs, values that are not unique."""
    if len(history.rings) > MAX_WORKERS:
        raise UsageError(f"{where}: {len(history.rings)} workers: expected at most {MAX_WORKERS}")
    written = [history.pages[:, 2][history.pages[:, 1] != 0]]
    for worker, ring in enumerate(history.rings):
        for problem in _ring_problems(ring):
            raise UsageError(f"{where}: worker {worker}, {problem}")
        ops = ring[operation_starts(ring)]
        writes = ops[is_write(ops) & (ops["incarnation"] != 0)]
        written.append(writes["value"])
    values, counts = np.unique(np.concatenate(written), return_counts=True)
    if (counts > 1).any():
        raise UsageError(
            f"{where}: value {int(values[counts > 1][0]):#x} is written twice: expected a value of its own for each write")


def _ring_problems(ring: np.ndarray) -> Iterator[str]:
    starts = operation_starts(ring)
    if len(starts) and starts[-1] > len(ring):
        yield f"operation {len(starts) - 2}: its lines are cut off"
        return
    ops = ring[starts]
    checks = (
        (~np.isin(ops["verb"], [int(v) for v in OPERATIONS]), "unknown verb: expected " + ", ".join(v.label for v in OPERATIONS)),
        (ops["t1"] < ops["t0"], "time runs backwards: expected t0 <= t1"),
        (ops["t0"] == 0, "t0 is 0: expected times from 1 on"),
    )
    for wrong, what in checks:
        for i in np.flatnonzero(wrong)[:1]:
            yield f"operation {i}: {_describe(ops[i])}: {what}"
    for i in np.flatnonzero(ops["t0"][1:] < ops["t0"][:-1])[:1] + 1:
        yield f"operation {i}: {_describe(ops[i])}: begins before the operation {i - 1} that it follows"
    for i in np.flatnonzero(ops["t0"][1:] < ops["t1"][:-1])[:1] + 1:
        yield f"operation {i}: {_describe(ops[i])}: overlaps with operation {i - 1} of the same worker"


def _describe(op: np.void) -> str:
    start, end = int(op["start"]), int(op["end"])
    where = page_text(start) if end == start + 1 else range_text(start, end)
    return f"{verb_name(int(op['verb']))}({where}) at {int(op['t0'])}..{int(op['t1'])}"
