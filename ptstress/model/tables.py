"""The page tables of the model: every table at every level, and the pages in the pte_tables.

A table is known by its level and its number: the first page that it maps, divided by the pages that a
table of its level maps. Tables are made by faults, and freed with the last VMA in their span or, pte_tables
only, by a reclaim policy.
"""

from collections.abc import Iterable, Iterator

from ptstress.model.geometry import COUNTED_LEVELS, Geometry
from ptstress.model.result import STAMP_BIT
from ptstress.model.vma import Hole
from ptstress.vocabulary import TABLE_BYTES

#: A page: ``(incarnation, value)``.
Page = tuple[int, int]
#: The zero page: present, the same for all, never written.
ZERO: Page = (0, 0)
#: A frame that was made and not accessed yet: nobody has seen which one it is. No stamp is so large: incarnations wrap.
UNNAMED: Page = (STAMP_BIT << 1, STAMP_BIT << 1)


class Tables:
    """All tables below the pgd. ``rss``: pages that are present and not the zero page."""

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self.rss = 0
        self._shifts = geometry.shifts[: geometry.table_levels]
        self._pte_shift = geometry.shifts[0]
        self._pte: dict[int, dict[int, Page]] = {}
        # Pages given to FREE and not written since, by table.
        self._lazy: dict[int, set[int]] = {}
        # Pages that hold a guard marker, by table. They are not present.
        self._guards: dict[int, set[int]] = {}
        # Tables above level 0, by level - 1: number -> entries in use.
        self._upper: list[dict[int, int]] = [{} for _ in self._shifts[1:]]

    def copy(self) -> "Tables":
        """An independent copy."""
        other = Tables(self.geometry)
        other.rss = self.rss
        other._pte = {number: table.copy() for number, table in self._pte.items()}
        other._lazy = {number: pages.copy() for number, pages in self._lazy.items()}
        other._guards = {number: pages.copy() for number, pages in self._guards.items()}
        other._upper = [level.copy() for level in self._upper]
        return other

    @property
    def table_bytes(self) -> int:
        """Bytes of all pte, pmd and pud tables."""
        return TABLE_BYTES * sum(map(len, (self._pte, *self._upper[: COUNTED_LEVELS - 1])))

    def count(self, level: int) -> int:
        """Tables of one level."""
        return len(self._upper[level - 1]) if level else len(self._pte)

    def rows(self) -> Iterator[tuple[int, int, int]]:
        """``(level, first page, entries in use)`` of each table."""
        for number, table in self._pte.items():
            yield 0, number << self._pte_shift, len(table) + len(self._guards.get(number, ()))
        for level, tables in enumerate(self._upper, start=1):
            for number, used in tables.items():
                yield level, number << self._shifts[level], used

    def pages(self) -> Iterator[tuple[int, Page]]:
        """Every present page."""
        for table in self._pte.values():
            yield from table.items()

    def get(self, page: int) -> Page | None:
        """What is mapped at ``page``. ``None``: nothing."""
        table = self._pte.get(page >> self._pte_shift)
        return table.get(page) if table is not None else None

    def present(self, start: int, end: int) -> Iterator[int]:
        """Present pages of ``[start, end)``."""
        for number in self._numbers(self._pte, self._pte_shift, start, end):
            table = self._pte[number]
            if len(table) <= end - start:
                yield from (page for page in table if start <= page < end)
            else:
                yield from (page for page in range(start, end) if page in table)

    def set(self, page: int, entry: Page) -> None:
        """Map ``page``; its tables are made, from the top down, if they are missing."""
        table = self._make_table(page)
        self.rss += (entry[0] != 0) - (table.get(page, ZERO)[0] != 0)
        table[page] = entry
        self.unmark_lazy(page)

    def rename(self, page: int, entry: Page) -> None:
        """The frame that is mapped at ``page`` turned out to be ``entry``."""
        self._pte[page >> self._pte_shift][page] = entry

    def unmark_lazy(self, page: int) -> None:
        """``page`` counts as written."""
        self._lazy.get(page >> self._pte_shift, set()).discard(page)

    def mark_lazy(self, start: int, end: int) -> None:
        """FREE: the frames of ``[start, end)`` may be dropped until they are written: until ``set``."""
        for page in self.present(start, end):
            number = page >> self._pte_shift
            if self._pte[number][page] != ZERO:
                self._lazy.setdefault(number, set()).add(page)

    def lazy(self, start: int, end: int) -> list[int]:
        """Pages of ``[start, end)`` that may be dropped."""
        numbers = self._numbers(self._lazy, self._pte_shift, start, end)
        return [page for number in numbers for page in self._lazy[number] if start <= page < end]

    def guards(self) -> Iterator[int]:
        """Every page with a guard marker."""
        for pages in self._guards.values():
            yield from pages

    def is_guarded(self, page: int) -> bool:
        """Whether ``page`` holds a guard marker."""
        return page in self._guards.get(page >> self._pte_shift, ())

    def guard(self, start: int, end: int) -> None:
        """Put guard markers into ``[start, end)``, where nothing is present; missing tables are made."""
        for page in range(start, end):
            self._make_table(page)
            self._guards.setdefault(page >> self._pte_shift, set()).add(page)

    def unguard(self, start: int, end: int) -> None:
        """Take the guard markers from ``[start, end)``. Tables stay."""
        for number in list(self._numbers(self._guards, self._pte_shift, start, end)):
            self._guards[number] = {page for page in self._guards[number] if not start <= page < end}
            if not self._guards[number]:
                del self._guards[number]

    def zap(self, start: int, end: int) -> None:
        """Unmap what is present in ``[start, end)``. Tables and guard markers stay."""
        for page in self.lazy(start, end):
            self._lazy[page >> self._pte_shift].discard(page)
        for number in self._numbers(self._pte, self._pte_shift, start, end):
            table = self._pte[number]
            first = number << self._pte_shift
            if start <= first and first + (1 << self._pte_shift) <= end:
                self.rss -= sum(entry[0] != 0 for entry in table.values())
                table.clear()
            elif end - start == 1:
                self.rss -= table.pop(start, ZERO)[0] != 0
            else:
                for page in [page for page in table if start <= page < end]:
                    self.rss -= table.pop(page)[0] != 0

    def reclaim(self, start: int, end: int, upper: bool) -> None:
        """Free the pte_tables whose whole span is in ``[start, end)``, where nothing is present, but those with a guard marker.

        ``upper``: and the tables above that have no entry left then.
        """
        inner_start, inner_end = _inner(start, end, self._pte_shift)
        for number in list(self._numbers(self._pte, self._pte_shift, inner_start, inner_end)):
            if number not in self._guards:
                self._free_table(number, upper)

    def _free_table(self, number: int, upper: bool) -> None:
        """Free a pte_table; ``upper``: and the tables above that have no entry left then."""
        page = number << self._pte_shift
        del self._pte[number]
        self._drop_entry(page, 1)
        if not upper:
            return
        for level, tables in enumerate(self._upper, start=1):
            number = page >> self._shifts[level]
            if tables[number]:
                return
            del tables[number]
            self._drop_entry(page, level + 1)

    def any_table(self, start: int, end: int) -> bool:
        """Whether a pte_table maps a page of ``[start, end)``."""
        return any(True for _ in self._numbers(self._pte, self._pte_shift, start, end))

    def free_empty(self, start: int, end: int, zero: bool, upper: bool) -> None:
        """Free the empty pte_tables that map a page of ``[start, end)``; ``zero``: or nothing but the zero page.
        ``upper``: as ``reclaim``."""
        for number in list(self._numbers(self._pte, self._pte_shift, start, end)):
            if number not in self._guards and all(zero and entry == ZERO for entry in self._pte[number].values()):
                self._free_table(number, upper)

    def free_behind(self, hole: Hole) -> None:
        """free_pgtables: free the tables of all levels in whose span no VMA is left."""
        for level, shift in enumerate(self._shifts):
            inner_start, inner_end = _inner(hole.floor, hole.ceiling, shift)
            tables = self._upper[level - 1] if level else self._pte
            lowest = (hole.start >> shift) << shift
            for number in list(self._numbers(tables, shift, max(inner_start, lowest), min(inner_end, hole.end))):
                del tables[number]
                self._drop_entry(number << shift, level + 1)

    def _make_table(self, page: int) -> dict[int, Page]:
        """The pte_table of ``page``, made with those above it if it is missing."""
        number = page >> self._pte_shift
        table = self._pte.get(number)
        if table is None:
            self._make_upper(page, 1)
            table = self._pte[number] = {}
        return table

    def _make_upper(self, page: int, level: int) -> None:
        """Make the tables of ``level`` and above for ``page``; count an entry in the one of ``level``."""
        if level == len(self._shifts):
            return
        tables = self._upper[level - 1]
        number = page >> self._shifts[level]
        if number not in tables:
            self._make_upper(page, level + 1)
        tables[number] = tables.get(number, 0) + 1

    def _drop_entry(self, page: int, level: int) -> None:
        if level < len(self._shifts):
            self._upper[level - 1][page >> self._shifts[level]] -= 1

    @staticmethod
    def _numbers(tables: dict, shift: int, start: int, end: int) -> Iterable[int]:
        """Numbers of the existing tables that map a page of ``[start, end)``."""
        if start >= end:
            return ()
        first, last = start >> shift, (end - 1) >> shift
        if first == last:
            return (first,) if first in tables else ()
        if last - first < len(tables):
            return (number for number in range(first, last + 1) if number in tables)
        return (number for number in tables if first <= number <= last)


def _inner(start: int, end: int, shift: int) -> tuple[int, int]:
    """The part of ``[start, end)`` that whole tables of ``1 << shift`` pages fill."""
    return ((start + (1 << shift) - 1) >> shift) << shift, (end >> shift) << shift
