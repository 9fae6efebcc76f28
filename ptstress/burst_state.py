"""What an address space held when a burst began, in a memory file that parent and child share.

The rings tell what a burst did; only with this can it be judged again. The child writes it before each burst, and
adds what is there after the last one, so that it outlives a crash of the child.
"""

import os
import struct
from dataclasses import dataclass

import numpy as np

_HEADER = struct.Struct("<4Q")
_NONE = (1 << 64) - 1
_ROW_BYTES = 24
#: Larger address spaces would cost more than they tell.
MAX_ROWS = 1 << 18


@dataclass(frozen=True)
class BurstState:
    """``maps``, ``pages``: before burst number ``burst``; ``final``: pages after it, None if it did not end. See ``History``."""

    burst: int
    maps: np.ndarray
    pages: np.ndarray
    final: np.ndarray | None = None


def write_state(fd: int, state: BurstState | None) -> None:
    """Replace what the file holds; None, or too many rows: nothing is known."""
    os.pwrite(fd, _HEADER.pack(0, 0, 0, _NONE), 0)
    if state is None:
        return
    final = np.zeros((0, 3), np.uint64) if state.final is None else state.final
    tables = (state.maps, state.pages, final)
    if sum(map(len, tables)) > MAX_ROWS:
        return
    os.pwrite(fd, b"".join(table.tobytes() for table in tables), _HEADER.size)
    # Last, so that a crash in between leaves nothing rather than half of it.
    os.pwrite(fd, _HEADER.pack(state.burst, len(state.maps), len(state.pages), _NONE if state.final is None else len(final)), 0)


def read_state(fd: int) -> BurstState | None:
    """What the file holds, None if nothing."""
    header = os.pread(fd, _HEADER.size, 0)
    if len(header) < _HEADER.size:
        return None
    burst, *counts = _HEADER.unpack(header)
    if not burst:
        return None
    tables, at = [], _HEADER.size
    for count in counts:
        rows = 0 if count == _NONE else count
        data = os.pread(fd, rows * _ROW_BYTES, at)
        if len(data) < rows * _ROW_BYTES:
            return None
        tables.append(np.frombuffer(data, np.uint64).reshape(-1, 3))
        at += len(data)
    return BurstState(burst, tables[0], tables[1], None if counts[2] == _NONE else tables[2])
