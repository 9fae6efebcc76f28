"""The VMAs of the model: which pages are mapped how. Split and merge as Linux does it.

A VMA gets an ``anon_vma`` at its first write fault. Two neighbours merge if they adjoin, allow the
same, and have not two different anon_vmas; in mmap and in mprotect. Source: mm/vma.c (vma_merge_new_range,
vma_merge_existing_range, vma_modify, find_mergeable_anon_vma).
"""

from bisect import bisect_left, bisect_right
from typing import NamedTuple


class Vma:
    """Pages ``[start, end)``. ``anon_vma``: 0: none yet; only equality of two numbers has a meaning.

    ``marked``: tables of it may be empty."""

    __slots__ = ("anon_vma", "end", "marked", "start", "writable")

    def __init__(self, start: int, end: int, writable: bool, anon_vma: int = 0, marked: bool = False) -> None:
        self.start = start
        self.end = end
        self.writable = writable
        self.anon_vma = anon_vma
        self.marked = marked

    def row(self) -> tuple[int, int, bool, int]:
        """``(start, end, writable, anon_vma)``."""
        return self.start, self.end, self.writable, self.anon_vma


class Hole(NamedTuple):
    """What an unmap took away: VMAs in ``[start, end)``, and the room up to the neighbours, ``[floor, ceiling)``."""

    start: int
    end: int
    floor: int
    ceiling: int


class VmaSet:
    """VMAs in order of address, without overlaps. ``limit``: pages of the address space."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.vmas: list[Vma] = []
        self._starts: list[int] = []
        self._next_anon_vma = 1

    def __len__(self) -> int:
        return len(self.vmas)

    def copy(self) -> "VmaSet":
        """An independent copy."""
        other = VmaSet(self.limit)
        other.vmas = [Vma(*vma.row(), vma.marked) for vma in self.vmas]
        other._starts = self._starts.copy()
        other._next_anon_vma = self._next_anon_vma
        return other

    def find(self, page: int) -> Vma | None:
        """The VMA that holds ``page``."""
        i = bisect_right(self._starts, page) - 1
        return self.vmas[i] if i >= 0 and page < self.vmas[i].end else None

    def overlapping(self, start: int, end: int) -> list[Vma]:
        """VMAs that hold a page of ``[start, end)``, in order."""
        first, last = self._slice(start, end)
        return self.vmas[first:last]

    def punches_hole(self, start: int, end: int) -> bool:
        """Whether removing ``[start, end)`` leaves one VMA more: both its ends stay."""
        vma = self.find(start)
        return vma is not None and vma.start < start and end < vma.end

    def remove(self, start: int, end: int) -> Hole | None:
        """Unmap ``[start, end)``; VMAs that stick out are split. ``None``: nothing was mapped there."""
        first, last = self._slice(start, end)
        if first == last:
            return None
        head, tail = self.vmas[first], self.vmas[last - 1]
        kept = []
        if head.start < start:
            kept.append(Vma(head.start, start, head.writable, head.anon_vma, head.marked))
        if tail.end > end:
            kept.append(Vma(end, tail.end, tail.writable, tail.anon_vma, tail.marked))
        before = self.vmas[first - 1].end if first else 0
        behind = self.vmas[last].start if last < len(self.vmas) else self.limit
        self._splice(first, last, kept)
        return Hole(
            start=max(start, head.start),
            end=min(end, tail.end),
            floor=start if head.start < start else before,
            ceiling=end if tail.end > end else behind,
        )

    def insert(self, start: int, end: int, writable: bool) -> None:
        """Map ``[start, end)``, where nothing is mapped; merge with the neighbours that allow it."""
        new = Vma(start, end, writable)
        at = bisect_left(self._starts, start)
        prev = self.vmas[at - 1] if at else None
        succ = self.vmas[at] if at < len(self.vmas) else None
        left = prev is not None and _mergeable(prev, new)
        right = succ is not None and _mergeable(new, succ)
        if left and right:
            # Both go with the new VMA, which has no anon_vma, but perhaps not with each other.
            right = _compatible(prev, succ)
        if left:
            new.start, new.anon_vma, new.marked = prev.start, prev.anon_vma, prev.marked
        if right:
            new.end, new.anon_vma, new.marked = succ.end, new.anon_vma or succ.anon_vma, new.marked or succ.marked
        self._splice(at - left, at + right, [new])

    def protect(self, vma: Vma, start: int, end: int, writable: bool, max_vmas: int | None) -> bool:
        """Let ``[start, end)`` of ``vma``, where ``vma.writable`` is not ``writable``, be so.

        What the neighbours can take over they do; otherwise it becomes a VMA of its own. Returns ``False``, and
        changes nothing, if there would be more than ``max_vmas`` then.
        """
        at = bisect_left(self._starts, vma.start)
        new = Vma(start, end, writable, vma.anon_vma, vma.marked)
        head = [Vma(vma.start, start, vma.writable, vma.anon_vma, vma.marked)] if vma.start < start else []
        tail = [Vma(end, vma.end, vma.writable, vma.anon_vma, vma.marked)] if end < vma.end else []
        prev = self.vmas[at - 1] if at and not head else None
        succ = self.vmas[at + 1] if at + 1 < len(self.vmas) and not tail else None
        left = prev is not None and _mergeable(prev, new)
        right = succ is not None and _mergeable(new, succ) and not (left and not _compatible(prev, succ))
        if not (left or right) and max_vmas is not None and len(self.vmas) + len(head) + len(tail) > max_vmas:
            return False
        if right:
            new.end, new.anon_vma, new.marked = succ.end, succ.anon_vma or new.anon_vma, new.marked or succ.marked
        if left:
            new.start, new.anon_vma, new.marked = prev.start, prev.anon_vma or new.anon_vma, new.marked or prev.marked
        self._splice(at - left, at + 1 + right, [*head, new, *tail])
        return True

    def prepare_anon(self, vma: Vma) -> None:
        """Give ``vma`` an anon_vma: that of the next or the previous VMA if they adjoin, or a new one.

        Whether they allow the same does not matter: mprotect may change that.
        """
        if vma.anon_vma:
            return
        at = bisect_left(self._starts, vma.start)
        prev = self.vmas[at - 1] if at else None
        succ = self.vmas[at + 1] if at + 1 < len(self.vmas) else None
        if succ is not None and succ.anon_vma and succ.start == vma.end:
            vma.anon_vma = succ.anon_vma
        elif prev is not None and prev.anon_vma and prev.end == vma.start:
            vma.anon_vma = prev.anon_vma
        else:
            vma.anon_vma = self._next_anon_vma
            self._next_anon_vma += 1

    def _slice(self, start: int, end: int) -> tuple[int, int]:
        first = bisect_right(self._starts, start) - 1
        if first < 0 or self.vmas[first].end <= start:
            first += 1
        return first, max(first, bisect_left(self._starts, end))

    def _splice(self, first: int, last: int, vmas: list[Vma]) -> None:
        self.vmas[first:last] = vmas
        self._starts[first:last] = [vma.start for vma in vmas]


def _mergeable(a: Vma, b: Vma) -> bool:
    return a.end == b.start and a.writable == b.writable and _compatible(a, b)


def _compatible(a: Vma, b: Vma) -> bool:
    return not a.anon_vma or not b.anon_vma or a.anon_vma == b.anon_vma
