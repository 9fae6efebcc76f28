"""A window of a run as a small program: the same operations, on few pages that share tables as the recorded ones do.

Pages that every operation of the window treats alike become one; tables that none touches go. Order stays: what lay
before something else still does, and the first and the last page of a table stay that.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ptstress.operation import Op, dontneed, free, guard_install, mmap, mprotect, read, write
from ptstress.pages import global_page, mm_of
from ptstress.program import Program
from ptstress.vocabulary import ACCESSES, MM_SHIFT, WHOLE_MM, Verb
from ptstress.window import PageBefore, Recorded, Window, page_before

#: A table of so many pages is walked in no time; one with more keeps only pages that somebody names.
ROOMY = 8
LEAST_PAGES, MOST_PAGES = 4, 64
_HAS_ARG = (Verb.MMAP, Verb.MPROTECT, Verb.GUP_FAST, Verb.POPULATE)


@dataclass(frozen=True)
class Small:
    """A program and the index bits of the geometry that it is for."""

    program: Program
    geometry: tuple[int, ...]


class Layout:
    """Where the pages of a window lie in a small address space; numbers are global, of recorded and of small mms."""

    def __init__(self, bits: Sequence[int], pages: Iterable[int], ranges: Iterable[tuple[int, int]]) -> None:
        self.bits = tuple(bits)
        self.size = 1 << bits[0]
        singles, spans = set(pages), set(ranges)
        named = singles | {page for span in spans for page in span}
        self.mms = sorted({mm_of(page) for page in named})
        self.tables = sorted({page >> bits[0] for page in named})
        #: Of each table: begin of each piece, and what comes behind the last one, as pages of the table.
        self.pieces = {table: self._cut(table, singles, spans) for table in self.tables}
        most = max(len(cuts) - 1 for cuts in self.pieces.values())
        self.width = min(bits[0], max(_bits_for(most), _bits_for(min(LEAST_PAGES, self.size))))
        self.paths, upper = self._number()
        self.geometry = (self.width, *upper)

    def first(self, page: int) -> int:
        """Where a page, or a range that begins there, begins."""
        return self._base(page) + self._slot(page)[0]

    def end(self, page: int) -> int:
        """Where a range ends whose last page this is."""
        return self._base(page) + self._slot(page)[1]

    def places(self) -> list[tuple[int, int, int]]:
        """(first recorded page, pages, small page) of every piece, ascending."""
        return [
            ((table << self.bits[0]) + cuts[i], cuts[i + 1] - cuts[i], self.first((table << self.bits[0]) + cuts[i]))
            for table, cuts in self.pieces.items() for i in range(len(cuts) - 1)
        ]

    def mm(self, page: int) -> int:
        """The small number of a page's mm."""
        return self.mms.index(mm_of(page))

    def _cut(self, table: int, singles: set[int], spans: set[tuple[int, int]]) -> list[int]:
        base = table << self.bits[0]
        inside = {page - base for page in singles if base <= page < base + self.size}
        edges = {e for first, last in spans for e in (first - base, last + 1 - base) if 0 < e < self.size}
        cuts = sorted({0, self.size} | edges | inside | {page + 1 for page in inside})
        if len(cuts) - 1 <= ROOMY:
            return cuts
        # Gaps go, but for those that an edge of a range needs.
        kept = [cut for cut in cuts[:-1] if cut in inside or cut in edges]
        return [0, *kept[1:], self.size] if kept else cuts

    def _slot(self, page: int) -> tuple[int, int]:
        """The slots of a page's piece in its table."""
        cuts = self.pieces[page >> self.bits[0]]
        at = page & (self.size - 1)
        piece = max(i for i in range(len(cuts) - 1) if cuts[i] <= at)
        last = piece == len(cuts) - 2
        return piece, 1 << self.width if last else piece + 1

    def _base(self, page: int) -> int:
        return global_page(self.mm(page), self.paths[page >> self.bits[0]] << self.width)

    def _number(self) -> tuple[dict[int, int], tuple[int, ...]]:
        """The small number of each table in its mm, and the index bits of the upper levels."""
        upper, shift = [], 0
        ranks: list[dict[int, int]] = []
        for width in self.bits[1:]:
            children = sorted({table >> shift for table in self.tables})
            shift += width
            rank: dict[int, int] = {}
            taken: dict[int, int] = {}
            for child in children:
                parent = child >> width
                rank[child] = taken.get(parent, 0)
                taken[parent] = rank[child] + 1
            ranks.append(rank)
            upper.append(max(1, _bits_for(max(taken.values()))))
        numbers = {}
        for table in self.tables:
            number, below, shift = 0, 0, 0
            for rank, width, small in zip(ranks, self.bits[1:], upper, strict=True):
                number |= rank[table >> shift] << below
                below += small
                shift += width
            numbers[table] = number
        return numbers, tuple(upper)


def small_program(recorded: Recorded, window: Window, bits: Sequence[int]) -> Small | None:
    """The window's operations behind a prefix that makes what was there before; None if it names too many pages."""
    members = window.members()
    ops = recorded.ops[members]
    singles = {int(op["start"]) for op in ops if int(op["verb"]) in ACCESSES}
    if window.focus >= 0:
        singles.add(window.focus)
    spans = {
        (int(op["start"]), int(op["end"]) - 1) for op in ops
        if int(op["verb"]) not in (*ACCESSES, *WHOLE_MM) and op["end"] > op["start"]
    }
    singles |= _touched_last(recorded, members, singles, spans)
    if not singles and not spans:
        return None
    layout = Layout(bits, singles, spans)
    if 1 << layout.width > MOST_PAGES:
        return None
    branches = tuple(tuple(_moved(layout, recorded.ops[i]) for i in branch) for branch in window.branches)
    return Small(Program(branches, tuple(_prefix(recorded, layout, members))), layout.geometry)


def _touched_last(recorded: Recorded, members: np.ndarray, singles: set[int], spans: set[tuple[int, int]]) -> set[int]:
    """Pages used last before operations that name none, each in its mm; a scan may look at any."""
    ops, found = recorded.ops, set()
    until = recorded.t0[members].min()
    named = {mm_of(page) for page in singles} | {mm_of(first) for first, _ in spans}
    used = np.flatnonzero((recorded.t1 <= until) & recorded.accesses)
    for op in ops[members]:
        if int(op["verb"]) in WHOLE_MM and (mm_of(int(op["start"])) not in named or not named):
            mine = used[recorded.start[used] >> MM_SHIFT == mm_of(int(op["start"]))]
            found |= {int(recorded.start[i]) for i in mine[-1:]}
    return found


def _moved(layout: Layout, op: np.void) -> Op:
    verb = Verb(int(op["verb"]))
    start = int(op["start"])
    if verb in WHOLE_MM:
        mm = layout.mms.index(mm_of(start)) if mm_of(start) in layout.mms else 0
        return Op(verb, mm << MM_SHIFT, mm << MM_SHIFT)
    last = max(start, int(op["end"]) - 1)
    end = layout.first(start) + 1 if verb in ACCESSES else layout.end(last)
    return Op(verb, layout.first(start), end, int(op["aux"]) & 1 if verb in _HAS_ARG else 0)


def _prefix(recorded: Recorded, layout: Layout, members: np.ndarray) -> list[Op]:
    """Maps as the pages were, then what they held."""
    states = [(small, _state(recorded, page, length, members)) for page, length, small in layout.places()]
    table = 1 << layout.width
    maps: list[list] = []
    for i, (small, state) in enumerate(states):
        end = states[i + 1][0] if i + 1 < len(states) and mm_of(states[i + 1][0]) == mm_of(small) else None
        if end is None:
            end = (small // table + 1) * table
        if not state.mapped:
            continue
        if maps and maps[-1][1] == small and maps[-1][2] == state.writable:
            maps[-1][1] = end
        else:
            maps.append([small, end, state.writable])
    ops = [mmap(start, end) for start, end, _ in _joined(maps)]
    for small, state in states:
        if state.mapped:
            ops += _filled(small, state.content)
    ops += [mprotect(start, end) for start, end, writable in maps if not writable]
    return ops


def _joined(maps: list[list]) -> list[list]:
    """Mapped in one go, whatever is allowed later."""
    joined: list[list] = []
    for start, end, writable in maps:
        if joined and joined[-1][1] == start:
            joined[-1][1] = end
        else:
            joined.append([start, end, writable])
    return joined


def _filled(page: int, content: str) -> list[Op]:
    if content == "zero":
        return [read(page)]
    if content == "guard":
        return [guard_install(page, page + 1)]
    if content == "dropped":
        return [write(page), dontneed(page, page + 1)]
    if content == "free":
        return [write(page), free(page, page + 1)]
    return [write(page)] if content == "written" else []


def _state(recorded: Recorded, page: int, length: int, members: np.ndarray) -> PageBefore:
    """Of one page of a piece: the one that was used last before the window."""
    of_window = recorded.ops[members]
    meets = of_window[(of_window["start"] < page + length) & (of_window["end"] > page)]
    until = int(meets["t0"].min()) if len(meets) else int(of_window["t0"].min())
    start = recorded.start
    inside = recorded.accesses & (start >= page) & (start < page + length) & (recorded.t1 <= until)
    inside[members] = False
    used = np.flatnonzero(inside)
    chosen = int(start[used[-1]]) if len(used) else page
    return page_before(recorded, chosen, until, members)


def _bits_for(count: int) -> int:
    """Index bits of a table of at least so many entries."""
    return max(count - 1, 0).bit_length()
