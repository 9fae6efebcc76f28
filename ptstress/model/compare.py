"""Model against engine: the whole state, and a run followed operation by operation."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ptstress.model.result import Observation, agree, is_incarnation
from ptstress.model.space import AddressSpace
from ptstress.model.spaces import AddressSpaces
from ptstress.model.tables import UNNAMED
from ptstress.operation import Op
from ptstress.pages import mm_of, page_text
from ptstress.vocabulary import LEVEL_NAMES, Verb

PAGE_ZERO, PAGE_ANON, PAGE_GUARD = 1, 2, 3


class Follower:
    """Does in the model what was done elsewhere, compares results, and learns the stamps chosen there."""

    def __init__(self, space: AddressSpace | AddressSpaces) -> None:
        self.space = space
        self._stamps: set[int] = set()

    def follow(self, op: Op, seen: Observation) -> str | None:
        """Do ``op``. Returns ``None`` if the model agrees, or the first difference."""
        predicted = self.space.apply(op)
        why = agree(op, predicted, seen)
        if why is None and op.accesses and (op.writes or predicted.fresh) and seen.status == 0:
            chosen = [*([seen.value] if op.writes else []), *([seen.incarnation] if predicted.fresh else [])]
            used = [stamp for stamp in chosen if stamp in self._stamps]
            if used:
                return f"{op}: stamp {used[0]:#x} was used before, expected each to be unique"
            self._stamps.update(chosen)
            self.space.learn(op.start, seen.incarnation, seen.value)
        return why


def compare(space: AddressSpace | AddressSpaces, snapshot: Mapping[str, Any], tables: bool = True) -> str | None:
    """Compare with ``Machine.snapshot()``. Returns ``None`` if equal, or the first difference.

    ``tables``: and the tables that are left; ``False``: nothing says which.
    """
    parts = list(space.parts())
    return _compare_contents(parts, snapshot) or (_compare_all_tables(parts, space, snapshot) if tables else None)


def _compare_contents(parts: list[tuple[int, AddressSpace]], snapshot: Mapping[str, Any]) -> str | None:
    return (
        next(filter(None, (_compare_vmas(first, part, snapshot["vmas"]) for first, part in parts)), None)
        or _compare_pages(parts, snapshot["pages"])
        or _compare_number("rss", "pages", int(snapshot["rss"]), sum(part.rss for _, part in parts))
    )


def _compare_all_tables(
    parts: list[tuple[int, AddressSpace]], space: AddressSpace | AddressSpaces, snapshot: Mapping[str, Any]
) -> str | None:
    return _compare_tables(parts, snapshot["tables"]) or _compare_number(
        "page tables", "bytes", int(snapshot["table_bytes"]), space.table_bytes)


def _compare_number(what: str, unit: str, found: int, expected: int) -> str | None:
    return None if found == expected else f"{what}: {found} {unit}, expected {expected}"


def _compare_vmas(first: int, space: AddressSpace, rows: np.ndarray) -> str | None:
    """``first``: the first global page of the mm."""
    mine = [r for r in rows if mm_of(int(r["start"])) == mm_of(first)]
    found = sorted((int(r["start"]) - first, int(r["end"]) - first, bool(r["writable"]), int(r["anon_vma"])) for r in mine)
    expected = [vma.row() for vma in space.vmas.vmas]
    name = f" of m{mm_of(first)}" if first else ""
    if [row[:3] for row in found] != [row[:3] for row in expected]:
        return f"VMAs{name}: {_vma_text(found)}, expected {_vma_text(expected)}"
    # Only which VMAs share an anon_vma has a meaning, not its number.
    pairs = {(f[3], e[3]) for f, e in zip(found, expected, strict=True)} | {(0, 0)}
    if len({f for f, _ in pairs}) != len(pairs) or len({e for _, e in pairs}) != len(pairs):
        return f"anon_vmas{name}: {_vma_text(found)}, expected {_vma_text(expected)}"
    return None


def _vma_text(rows: list[tuple[int, int, bool, int]]) -> str:
    texts = [f"p{s}..p{e} {'rw' if w else 'ro'}{f' anon_vma {a}' if a else ''}" for s, e, w, a in rows]
    return f"[{', '.join(texts)}]"


def _compare_pages(parts: list[tuple[int, AddressSpace]], rows: np.ndarray) -> str | None:
    found = {int(r["page"]): (int(r["state"]), int(r["incarnation"]), int(r["value"])) for r in rows if r["state"]}
    expected = {
        first + p: (PAGE_ANON if i else PAGE_ZERO, i, v) for first, part in parts for p, (i, v) in part.tables.pages()
    }
    expected |= {first + p: (PAGE_GUARD, 0, 0) for first, part in parts for p in part.tables.guards()}
    for page in sorted(found.keys() | expected.keys()):
        if found.get(page) != expected.get(page) and not _is_unnamed(found.get(page), expected.get(page)):
            return f"{page_text(page)}: {_page_text(found.get(page))}, expected {_page_text(expected.get(page))}"
    return None


def _is_unnamed(found: tuple[int, int, int] | None, expected: tuple[int, int, int] | None) -> bool:
    """Whether a frame was expected that nobody has accessed, and such a one was found."""
    return found is not None and expected == (PAGE_ANON, *UNNAMED) and found[1] == found[2] and is_incarnation(found[1])


def _page_text(page: tuple[int, int, int] | None) -> str:
    if page is None:
        return "none"
    if page[0] == PAGE_GUARD:
        return "guard marker"
    return "zero page" if page[0] == PAGE_ZERO else f"incarnation {page[1]:#x} value {page[2]:#x}"


def _compare_tables(parts: list[tuple[int, AddressSpace]], rows: np.ndarray) -> str | None:
    found = {(int(r["level"]), int(r["page"])): int(r["present"]) for r in rows}
    expected = {(level, first + page): present for first, part in parts for level, page, present in part.tables.rows()}
    for key in sorted(found.keys() | expected.keys()):
        if found.get(key) != expected.get(key) and key[0] < parts[0][1].geometry.table_levels:
            name = f"{LEVEL_NAMES[key[0]]} of {page_text(key[1])}"
            return f"{name}: {_table_text(found.get(key))}, expected {_table_text(expected.get(key))}"
    return None


def _table_text(present: int | None) -> str:
    return "none" if present is None else f"{present} entries in use"
