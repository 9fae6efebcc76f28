"""The smallest part of a history that shows a violation of one page, found with the checker itself.

Operations that are left out are not forgotten: they may have been done, or a part of them, or nothing. So what is left
contradicts itself whatever the others did. Those that ended before the first one that is left, and accesses beside
them, become a few operations that may have done anything.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ptstress.history import History, operation_starts
from ptstress.layout import PAGES_PER_LINE, is_write
from ptstress.vocabulary import ACCESSES, BITS, EVENT_DTYPE, STATUS_UNKNOWN, Verb

Check = Callable[..., dict]
NEVER = (1 << 64) - 1
BUDGET_S = 5.0
_PAGES_PER_WORD = 64


@dataclass(frozen=True)
class PageHistory:
    """What concerns one page. ``ops``: one line for each operation, by t0, ranges cut to the page; ``seen``: what walks
    saw of it; ``worker``, ``origin``: who did it, and its first line in that worker's ring.
    """

    page: int
    ops: np.ndarray
    seen: np.ndarray
    worker: np.ndarray
    origin: np.ndarray
    maps: np.ndarray
    pages: np.ndarray
    final: np.ndarray | None


@dataclass(frozen=True)
class Window:
    """Operations that contradict each other, by t0, and what the checker said about them."""

    chosen: np.ndarray
    result: dict
    with_final: bool


def page_history(history: History, page: int) -> PageHistory:
    """Everything that concerns ``page``."""
    parts = []
    for worker, ring in enumerate(history.rings):
        starts = operation_starts(ring)
        ops = ring[starts]
        access = np.isin(ops["verb"], ACCESSES)
        here = np.where(access, ops["start"] == page, (ops["start"] <= page) & (ops["end"] > page))
        starts = starts[here]
        parts.append((_cut(ring[starts], page), _seen(ring, starts, page), np.full(len(starts), worker), starts))
    if not parts:
        parts = [(np.zeros(0, EVENT_DTYPE), np.zeros(0, bool), np.zeros(0, int), np.zeros(0, int))]
    ops, seen, worker, origin = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(ops["t0"], kind="stable")
    maps = history.maps[(history.maps[:, 0] <= page) & (history.maps[:, 1] > page)].copy()
    maps[:, 0], maps[:, 1] = page, page + 1
    final = None if history.final is None else history.final[history.final[:, 0] == page]
    return PageHistory(
        page, ops[order], seen[order], worker[order], origin[order], maps, history.pages[history.pages[:, 0] == page], final)


def _cut(ops: np.ndarray, page: int) -> np.ndarray:
    """The operations, on this page only. One that met a hole somewhere keeps a second page, where that can have been."""
    ops = ops.copy()
    met_hole = np.isin(ops["verb"], (Verb.DONTNEED, Verb.FREE, Verb.GUARD_REMOVE)) & (ops["status"] < 0)
    met_hole &= ops["end"] - ops["start"] > 1
    # How far a populate came: to this page or not. Of one that did not come so far nothing is known here.
    populate = ops["verb"] == Verb.POPULATE
    short = populate & (ops["status"] != 0) & (page > ops["start"] + ops["value"])
    ops["status"] = np.where(short, STATUS_UNKNOWN, ops["status"])
    ops["value"] = np.where(populate, page < ops["start"] + ops["value"], ops["value"])
    ops["start"] = np.where(met_hole & (page > 0), page - 1, page)
    ops["end"] = np.where(met_hole & (page == 0), page + 2, page + 1)
    return ops


def _seen(ring: np.ndarray, starts: np.ndarray, page: int) -> np.ndarray:
    """Whether each walk saw the page."""
    seen = np.zeros(len(starts), bool)
    words = np.ascontiguousarray(ring).view(np.uint64).reshape(len(ring), ring.itemsize >> 3)
    for i in np.flatnonzero(np.isin(ring["verb"][starts], BITS) & (ring["lines"][starts] != 0)):
        bit = page - int(ring["start"][starts[i]])
        line, at = divmod(bit, PAGES_PER_LINE)
        seen[i] = int(words[starts[i] + 1 + line, at // _PAGES_PER_WORD]) >> (at % _PAGES_PER_WORD) & 1
    return seen


def smallest_window(p: PageHistory, check: Check, budget_s: float = BUDGET_S) -> Window | None:
    """As few operations as can be found in ``budget_s``; None if the page alone shows no violation."""
    search = _Search(p, check, time.monotonic() + budget_s)
    everything = np.arange(len(p.ops))
    best = search.violates(everything, False) or search.violates(everything, True)
    if best is None:
        return None
    if not best.with_final:
        best = search.shorten_end(best)
        best = search.shorten_begin(best)
    return search.remove_chunks(best)


class _Search:
    def __init__(self, p: PageHistory, check: Check, deadline: float) -> None:
        self.p = p
        self.check = check
        self.deadline = deadline

    def violates(self, chosen: np.ndarray, with_final: bool) -> Window | None:
        """The window of these operations, if they contradict each other whatever the others did."""
        p = self.p
        left_out = np.ones(len(p.ops), bool)
        left_out[chosen] = False
        ghosts = self._ghosts(p.ops[chosen], p.ops[left_out], with_final) if left_out.any() else p.ops[:0]
        ring = _ring(np.concatenate([p.ops[chosen], ghosts]), np.concatenate([p.seen[chosen], np.zeros(len(ghosts), bool)]))
        result = self.check([ring], p.maps, p.pages, p.final if with_final else None)
        return Window(chosen, result, with_final) if result["nr_violations"] else None

    def _ghosts(self, real: np.ndarray, left: np.ndarray, with_final: bool) -> np.ndarray:
        """What stands for the operations that are left out."""
        page = self.p.page
        first = int(real["t0"].min(initial=NEVER))
        last = NEVER - 1 if with_final else int(real["t1"].max(initial=0))
        left = left[(left["t0"] <= last) & ~np.isin(left["verb"], BITS)]
        before = left["t1"] < first
        access, marks = np.isin(left["verb"], ACCESSES), np.isin(left["verb"], (Verb.FREE, Verb.POPULATE))
        # Ranges beside the window may or may not have come by; those before it, once in each way, but a free
        # marks, and a populate installs, for all time.
        parts = [left[~access & (~before | marks)]]
        if (~access & before & ~marks).any():
            parts += [_ghost(Verb.MMAP, 1, max(first - 1, 1), page, aux=aux) for aux in (0, 1)]
        if (before & (left["verb"] == Verb.GUARD_INSTALL)).any():
            parts.append(_ghost(Verb.GUARD_INSTALL, 1, max(first - 1, 1), page))
        wanted = real["value"][np.isin(real["verb"], ACCESSES)]
        if with_final and self.p.final is not None:
            wanted = np.concatenate([wanted, self.p.final[:, 2]])
        for verb, same in ((Verb.READ, left[access & ~is_write(left)]), (Verb.WRITE, left[is_write(left)])):
            if len(same):
                parts.append(_ghost(verb, int(same["t0"].min()), min(int(same["t1"].max()), last), page))
        parts.append(left[is_write(left) & (left["incarnation"] != 0) & np.isin(left["value"], wanted)])
        ghosts = np.concatenate(parts)
        ghosts["status"] = STATUS_UNKNOWN
        return ghosts

    def shorten_end(self, best: Window) -> Window:
        """Leave out what began after the operation that shows it."""
        order = np.argsort(self.p.ops["t1"][best.chosen], kind="stable")
        low, high = 0, len(order)
        while high - low > 1 and time.monotonic() < self.deadline:
            middle = (low + high) // 2
            found = self.violates(np.sort(best.chosen[order[:middle]]), False)
            if found:
                high, kept = middle, found
                best, order = kept, np.argsort(self.p.ops["t1"][kept.chosen], kind="stable")
            else:
                low = middle
        return best

    def shorten_begin(self, best: Window) -> Window:
        """Leave out what came long before."""
        count = 8
        while count < len(best.chosen) and time.monotonic() < self.deadline:
            found = self.violates(best.chosen[-count:], False)
            if found:
                return found
            count *= 4
        return best

    def remove_chunks(self, best: Window) -> Window:
        """Delta debugging (Zeller & Hildebrandt, Simplifying and isolating failure-inducing input, 2002)."""
        size = max(len(best.chosen) // 2, 1)
        while time.monotonic() < self.deadline:
            at, smaller = 0, False
            while at < len(best.chosen) and time.monotonic() < self.deadline:
                found = self.violates(np.delete(best.chosen, np.s_[at : at + size]), best.with_final)
                if found:
                    best, smaller = found, True
                else:
                    at += size
            if size == 1 and not smaller:
                break
            size = max(min(size, len(best.chosen)) // 2, 1)
        return best


def _ghost(verb: Verb, t0: int, t1: int, page: int, aux: int = 0) -> np.ndarray:
    rows = np.zeros(1, EVENT_DTYPE)
    rows[0] = (t0, t1, page, page + 1, 0, 0, 0, STATUS_UNKNOWN, verb, 0, aux)
    return rows


def _ring(ops: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """The operations as one worker's lines, by t0; a walk of one page gets its line of bits again."""
    order = np.argsort(ops["t0"], kind="stable")
    ops, seen = ops[order], seen[order]
    walks = np.isin(ops["verb"], BITS) & (ops["lines"] != 0)
    at = np.arange(len(ops)) + np.concatenate([[0], np.cumsum(walks)[:-1]]) if len(ops) else np.zeros(0, int)
    lines = np.zeros(len(ops) + int(walks.sum()), EVENT_DTYPE)
    lines[at] = ops
    lines["lines"][at] = walks
    lines["aux"][at[walks]] = seen[walks]
    lines["t0"][at[walks] + 1] = seen[walks]        # the first 64 bits of the line
    return lines
