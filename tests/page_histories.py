"""Histories for the data oracle: all small ones. Single events: ``page_events``.

Nothing here knows the engine. ``possible`` decides a small history of one page by trying every execution of an abstract
page. Legal histories of many pages: ``page_simulation``.
"""

from collections.abc import Iterator
from random import Random

from page_events import FRESH


def small_history(rng: Random, kinds: str, frames: int) -> tuple[list[tuple], tuple | None]:
    """Two to six operations on one page, in any overlap, for ``possible``; reads mostly of what is written."""
    names = {
        "r": "read", "w": "write", "f": "failed", "x": "refused", "d": "dontneed", "m": "free", "p": "discard", "n": "forbid",
        "y": "allow",
    }
    ends_frames = "d" in kinds or "p" in kinds
    drawn = rng.choices(kinds, k=rng.randint(2, 6))
    stamps = list(range(10, 10 + 2 * len(drawn)))
    for _ in range(rng.choice((len(drawn), 8 * len(drawn)))):
        i = rng.randrange(len(stamps) - 1)
        stamps[i], stamps[i + 1] = stamps[i + 1], stamps[i]
    writes = {i: (FRESH | rng.randint(1, frames), i + 1) for i, kind in enumerate(drawn) if kind == "w"}
    seen = [*writes.values(), *writes.values(), (FRESH | 1, FRESH | 1)] + [(0, 0)] * ends_frames
    held = {i: writes[i] if kind == "w" else rng.choice(seen) if kind == "r" else (0, 0) for i, kind in enumerate(drawn)}
    ends = [None, *writes.values()] + [("none",), ("zero",)] * ends_frames
    ops = [(*sorted(stamps[2 * i:2 * i + 2]), names[kind], *held[i]) for i, kind in enumerate(drawn)]
    return ops, rng.choice(ends)


def possible(ops: list[tuple], final: tuple | None) -> bool:
    """Has an always mapped, at first empty and writable page an execution with this history?

    ``ops``: (t0, t1, kind, incarnation, value), all stamps different; kinds are ``read``, ``write``, ``failed`` (a write
    that ran out of memory), ``refused`` (one that was not permitted), ``dontneed``, ``free``, ``discard``, ``forbid`` and
    ``allow`` (mprotect). An mprotect takes effect at once, when faults may go on; until then others may write.
    ``final``: (incarnation, value), ("none",), ("zero",) or None for any.
    """
    stamps = sorted([(op[0], True, i) for i, op in enumerate(ops)] + [(op[1], False, i) for i, op in enumerate(ops)])
    frames = sorted({op[3] for op in ops if op[3]} | ({final[0]} if final and isinstance(final[0], int) else set()))
    # Where in `stamps`; what the page holds; frames used up; translations that live until discards return; contents;
    # accesses that have their translation; operations that took effect; may it be written; whether the page is free and
    # clean; frames that a free made clean without having flushed yet.
    start = (0, "none", frozenset(), frozenset(), tuple((f, f) for f in frames), frozenset(), frozenset())
    stack = [(*start, True, False, frozenset())]
    seen = set()
    while stack:
        state = stack.pop()
        if state in seen:
            continue
        seen.add(state)
        at, entry, used, stale, contents, hooked, done, writable, lazy, marked = state
        if at == len(stamps):
            if final is None or final == (_name(entry),) or (entry, dict(contents).get(entry)) == final:
                return True
            continue
        _, begins, i = stamps[at]
        if begins:
            stack.append((at + 1, *state[1:]))
        elif i in done:
            flushed = {what for what, who in stale if who == i}
            left = frozenset(s for s in stale if s[0] not in flushed)
            unflushed = frozenset(m for m in marked if m[1] != i)
            stack.append((at + 1, entry, used, left, contents, hooked, done, writable, lazy, unflushed))
        for i in [i for i, op in enumerate(ops) if op[0] < stamps[at][0] <= op[1]]:
            stack += _steps(ops, i, state, frames)
    return False


def _name(entry: object) -> object:
    return "zero" if isinstance(entry, tuple) else entry


def _steps(ops: list[tuple], i: int, state: tuple, frames: list[int]) -> Iterator[tuple]:
    """States that operation i, which is running, can lead to by itself."""
    at, entry, used, stale, contents, hooked, done, writable, lazy, marked = state
    _, _, kind, frame, value = ops[i]
    if kind in ("forbid", "allow"):
        if i not in done:
            yield *state[:6], done | {i}, kind == "allow", lazy, marked
        return
    if kind in ("dontneed", "free", "discard"):
        if i not in done:
            yield _visit(kind, i, state)
        if kind == "discard" and i not in done:
            yield *state[:6], done | {i}, writable, lazy, marked     # memory pressure need not take it
        return
    if entry == "none":
        yield at, ("zero", len(done)), *state[2:]
    if kind != "read" and writable and _name(entry) in ("none", "zero"):
        for new in set(frames) - used:
            yield at, new, used | {new}, *state[3:8], False, marked
    if kind in ("failed", "refused"):
        if writable == (kind == "failed"):
            yield *state[:6], done | {i}, writable, lazy, marked
        return
    if i in done or (kind == "write" and not writable and i not in hooked):
        return
    # A translation: the entry's, which a write makes dirty; or one that a TLB still has, for a write with D.
    has_dirty = any(what == frame for what, _ in marked)
    if (frame or "zero") == _name(entry):
        yield *state[:5], hooked | {i}, done, writable, lazy and kind == "read", marked
    cached = {_name(what) for what, who in stale if kind == "read" or has_dirty or ops[who][2] != "discard"}
    if (frame or "zero") in cached or (has_dirty and frame == entry):
        yield *state[:5], hooked | {i}, done, writable, lazy, marked
    if i in hooked:
        held = dict(contents)
        if kind == "write":
            held[frame] = value
        if frame == 0 or held[frame] == value:
            yield at, entry, used, stale, tuple(sorted(held.items())), hooked, done | {i}, writable, lazy, marked


def _visit(kind: str, i: int, state: tuple) -> tuple:
    """The state after range operation i has visited the page."""
    at, entry, used, stale, contents, hooked, done, writable, lazy, marked = state
    if kind == "free":
        found = {(entry, i)} if isinstance(entry, int) else set()
        return at, entry, used, stale, contents, hooked, done | {i}, writable, bool(found), marked | found
    if kind == "discard" and not lazy:
        return at, entry, used, stale, contents, hooked, done | {i}, writable, lazy, marked
    # The flush of a dontneed also covers what others cleared before it came.
    found = {(what, i) for what, _ in stale if kind == "dontneed"} | ({(entry, i)} if entry != "none" else set())
    return at, "none", used, stale | found, contents, hooked, done | {i}, writable, False, marked
