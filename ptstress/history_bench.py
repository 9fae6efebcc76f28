"""What checking a history costs: legal ones of several shapes, from arrays in memory to the verdict, on one core."""

import time
from collections.abc import Iterator

import numpy as np

from ptstress.bench import Row, measured
from ptstress.engine import load_history_checker
from ptstress.history import History, no_rows
from ptstress.vocabulary import EVENT_DTYPE, Verb

OPERATIONS, QUICK_OPERATIONS = 1_000_000, 50_000
WORKERS = 4
PAGES = 4096
FRESH = 1 << 63
STEP, HALF = 10, 15                 # effects are STEP apart, operations reach HALF to both sides: three at once
WEIGHTS = (0.5, 0.45, 0.05)         # read, write, dontneed
REPEATS = 5


def history_rows(quick: bool) -> Iterator[Row]:
    """Rates of the checker. Raises ``UnsupportedError`` if it is not there, ``RuntimeError`` if it errs."""
    count, repeats = (QUICK_OPERATIONS, 1) if quick else (OPERATIONS, REPEATS)
    note = f"{count:,} operations, from arrays to the verdict, CPU time of one thread"
    yield measured("history, many pages", _rates(many_pages(count), repeats), "M/s", at_least=5, note=note)
    yield measured("history, one hot page", _rates(one_page(count), repeats), "M/s", at_least=1, note=note)
    yield measured("history, ranges over tables", _rates(many_pages(count, range_pages=512), repeats), "M/s", note=note)


def _rates(history: History, repeats: int) -> list[float]:
    """Millions of operations per second, of each repetition."""
    check = load_history_checker().check
    count = sum(map(len, history.rings))
    rates = []
    for _ in range(repeats):
        begin = time.thread_time()
        found = check(list(history.rings), history.maps, history.pages)
        rates.append(count / 1e6 / (time.thread_time() - begin))
        if found["nr_violations"] or found["undecided"] or found["unchecked"]:
            raise RuntimeError(f"a legal history was judged {found}")
    return rates


def one_page(operations: int, seed: int = 1) -> History:
    """All workers on page 0."""
    return _history(np.zeros(operations, np.uint64), seed, 1)


def many_pages(operations: int, seed: int = 1, range_pages: int = 1, pages: int = PAGES) -> History:
    """Workers meet on one page after the other, of ``pages``, a power of two. ``range_pages``: what a dontneed covers,
    anywhere around its page.
    """
    return _history((np.arange(operations) >> 3 & pages - 1).astype(np.uint64), seed, range_pages)


def _history(page: np.ndarray, seed: int, range_pages: int) -> History:
    """Operations take effect one after the other, so that what each one sees follows from those before it."""
    rng = np.random.default_rng(seed)
    n = len(page)
    number = np.arange(n)
    verb = rng.choice((int(Verb.READ), int(Verb.WRITE), int(Verb.DONTNEED)), n, p=WEIGHTS)
    ranges = verb == Verb.DONTNEED
    first = np.where(ranges, np.maximum(page.astype(np.int64) - rng.integers(0, range_pages, n), 0), page.astype(np.int64))
    last = np.where(ranges, first + range_pages, first + 1)
    discarded = _last_discards(page, first, last, ranges, range_pages)
    order = np.lexsort((number, page))
    seen = np.empty(n, np.int64)
    # Within one page the latest write so far; -1 before any, also where the sorted array goes on to the next page.
    latest = np.maximum.accumulate(np.where(verb[order] == Verb.WRITE, order + page[order].astype(np.int64) * n, -1))
    seen[order] = np.where(latest // n == page[order].astype(np.int64), latest % n, -1)
    before = np.empty(n, np.int64)
    before[order] = np.concatenate([[-1], seen[order][:-1]])
    before[order[np.flatnonzero(np.diff(page[order])) + 1]] = -1
    fresh = (verb == Verb.WRITE) & (before <= discarded)
    # Incarnations: the number of the write that made the frame.
    made = np.maximum.accumulate(np.where(fresh[order], order + page[order].astype(np.int64) * n, -1))
    frame = np.empty(n, np.int64)
    frame[order] = made % n
    framed = ~ranges & (seen > discarded)
    e = np.zeros(n, EVENT_DTYPE)
    middle = np.uint64(2 * HALF) + number.astype(np.uint64) * np.uint64(STEP)
    e["t0"], e["t1"] = middle - np.uint64(HALF), middle + np.uint64(HALF)
    e["start"], e["end"], e["verb"] = first, last, verb
    e["incarnation"] = np.where(framed, frame.astype(np.uint64) | np.uint64(FRESH), 0)
    e["value"] = np.where(framed, seen + 1, 0)
    maps = np.array([(0, 2 * PAGES, 4)], np.uint64)
    return History(tuple(np.ascontiguousarray(e[w::WORKERS]) for w in range(WORKERS)), maps, no_rows())


def _last_discards(page: np.ndarray, first: np.ndarray, last: np.ndarray, ranges: np.ndarray, range_pages: int) -> np.ndarray:
    """For each operation the number of the latest discard of its page before it, -1 if there was none."""
    latest = np.full(2 * PAGES + range_pages, -1, np.int64)
    found = np.full(len(page), -1, np.int64)
    at = 0
    for i in (*np.flatnonzero(ranges), len(page)):
        found[at:i] = latest[page[at:i].astype(np.int64)]
        if i < len(page):
            latest[first[i] : last[i]] = i
        at = i
    return found
