"""The data oracle keeps what many pages share apart from what a page has alone; both must be judged alike."""

import numpy as np
import pytest

from ptstress import _history
from ptstress.history import History
from ptstress.history_bench import many_pages
from ptstress.vocabulary import EVENT_DTYPE, Verb

OPERATIONS, PAGES = 24_000, 512
#: A range of so many pages stands with each of its pages, a longer one with their group.
SMALL_PAGES = 4
WALK_PAGES, WALKS = 5, 3


def judge(rings: list[np.ndarray], maps: np.ndarray) -> tuple[int, list[tuple[int, ...]]]:
    """Number of violations, and the first ones in some order."""
    found = _history.check(rings, maps, [], search=False)
    assert not found["unchecked"]
    return found["nr_violations"], sorted((v["invariant"], v["page"], v["a"], v["b"]) for v in found["violations"])


def in_pieces(ring: np.ndarray) -> np.ndarray:
    """The same ring with each dontneed in pieces that begin and end when it did."""
    length = np.where(ring["verb"] == Verb.DONTNEED, ring["end"] - ring["start"], 1).astype(np.int64)
    pieces = -(-length // SMALL_PAGES)
    out = np.repeat(ring, pieces)
    at = (np.arange(len(out)) - np.repeat(np.cumsum(pieces) - pieces, pieces)).astype(np.uint64) * np.uint64(SMALL_PAGES)
    ends = out["end"].copy()
    out["start"] += at
    out["end"] = np.where(out["verb"] == Verb.DONTNEED, np.minimum(out["start"] + np.uint64(SMALL_PAGES), ends), ends)
    return out


def some_walks(history: History, rng: np.random.Generator) -> np.ndarray:
    """The ring of a worker whose walks report anything."""
    ring = np.zeros(2 * WALKS, EVENT_DTYPE)
    for walk, instant in zip(ring[::2], sorted(rng.choice(history.rings[0]["t0"], WALKS, replace=False)), strict=True):
        walk["t0"], walk["t1"], walk["verb"], walk["lines"] = instant, instant + 7, Verb.WALK, 1
        walk["start"] = rng.integers(PAGES - WALK_PAGES)
        walk["end"] = walk["start"] + WALK_PAGES
    bits = rng.integers(1 << WALK_PAGES, size=WALKS)
    ring.view(np.uint64).reshape(2 * WALKS, -1)[1::2, 0] = bits
    ring["aux"][::2] = [int(b).bit_count() for b in bits]
    return ring


@pytest.mark.parametrize("range_pages", [16, 120, 512])
def test_ranges_count_on_each_of_their_pages(range_pages: int) -> None:
    """A legal history, one that lacks a dontneed, and one with walks, with whole ranges and with ranges in pieces."""
    rng = np.random.default_rng(range_pages)
    history = many_pages(OPERATIONS, range_pages, range_pages, PAGES)
    assert judge(list(history.rings), history.maps) == (0, [])
    assert judge([in_pieces(r) for r in history.rings], history.maps) == (0, [])
    lost = seen = 0
    for _ in range(6):
        first = history.rings[0]
        gone = rng.choice(np.flatnonzero(first["verb"] == Verb.DONTNEED))
        walks = some_walks(history, rng)
        rings = [np.delete(first, gone), *history.rings[1:]]
        found = judge([*rings, walks], history.maps)
        assert found == judge([*map(in_pieces, rings), walks], history.maps)
        lost += judge(rings, history.maps)[0]
        seen += found[0]
    assert 0 < lost < seen
