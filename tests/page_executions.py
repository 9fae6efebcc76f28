"""Every execution of one page, by brute force: what the history checker must agree with.

Nothing here knows the engine or the checker. A history is a list of ``Op``; ``possible`` tries every order of every
step of every operation: reads and writes, by hardware and through pins, mmap, munmap, mprotect, dontneed, free, memory
pressure and walks, with their failures, holes, the zero page, fresh frames, and translations that live on until a flush.
"""

from collections.abc import Iterator
from errno import EFAULT, ENOMEM
from random import Random
from typing import NamedTuple

import numpy as np
from page_events import FRESH, event

from ptstress.vocabulary import ACCESSES, Verb

PAGE = 7
HOLE, READ_ONLY, WRITABLE = "hole", "ro", "rw"


class Op(NamedTuple):
    """One operation on the page. ``frame`` 0: the zero page. ``seen``: what a walk saw. ``worker``: who did it.

    ``writable``: what mmap and mprotect make of the page, and whether a gup_fast stores.
    """

    t0: int
    t1: int
    verb: Verb
    worker: int
    status: int = 0
    frame: int = 0
    value: int = 0
    seen: bool = False
    writable: bool = True


class State(NamedTuple):
    """The page, and how far each operation is.

    ``era``: which period of being writable this is. A translation that allows stores is one of its era, another one has
    era None. ``living``: (what it maps, era, operation whose return ends it). ``cleaned``: (frame, free that made it
    clean and has not flushed yet); until then a TLB may have it as dirty. ``pressed``: frames that memory pressure took.
    """

    mapping: str
    era: int = -1
    entry: tuple = ("none",)
    lazy: bool = False                      # a free marked the frame, and no store made its entry dirty since
    cleaned: frozenset = frozenset()
    pressed: frozenset = frozenset()
    living: frozenset = frozenset()
    contents: frozenset = frozenset()       # (frame, value) of those that were installed
    hooked: frozenset = frozenset()         # accesses that have their translation
    done: frozenset = frozenset()


Start = tuple[str, int | None, int]
"""Mapping; frame, 0 for the zero page, or None for nothing; value."""


def possible(ops: list[Op], start: Start = (WRITABLE, None, 0), final: tuple | None = None) -> bool:
    """Is there an execution? ``final``: (frame, value), (0, 0) for the zero page, ("none",), or None: nobody looked."""
    stamps = sorted([(op.t0, False, i) for i, op in enumerate(ops)] + [(op.t1, True, i) for i, op in enumerate(ops)])
    mapping, frame, value = start
    entry = ("none",) if frame is None else ("frame", frame) if frame else ("zero", -1)
    first = State(mapping, entry=entry, lazy=True, contents=frozenset({(frame, value)} if frame else ()))
    stack, known = [(0, first)], set()
    while stack:
        at, state = stack.pop()
        if (at, state) in known:
            continue
        known.add((at, state))
        if at == len(stamps):
            if _ends_as(state, final):
                return True
            continue
        stamp, ends, i = stamps[at]
        if not ends:
            stack.append((at + 1, state))
        elif i in state.done:
            gone = {x[:2] for x in state.living if x[2] == i}
            living = frozenset(x for x in state.living if x[:2] not in gone)
            stack.append((at + 1, state._replace(living=living, cleaned=frozenset(x for x in state.cleaned if x[1] != i))))
        for k, op in enumerate(ops):
            if op.t0 < stamp or (op.t0 == stamp and ends):
                if op.t1 >= stamp:
                    stack += [(at, after) for after in _steps(ops, k, state)]
    return False


def _ends_as(state: State, final: tuple | None) -> bool:
    if final is None:
        return True
    if final == ("none",):
        return state.entry == ("none",)
    if final[0] == 0:
        return state.entry[0] == "zero"
    return state.entry == ("frame", final[0]) and (final[0], final[1]) in state.contents


def _steps(ops: list[Op], i: int, state: State) -> Iterator[State]:
    """Where operation i can take the page by one step of its own."""
    op = ops[i]
    if op.verb in ACCESSES:
        yield from _access(ops, i, state)
    elif i in state.done:
        return
    elif op.verb is Verb.WALK:
        if op.seen == (state.entry != ("none",)):
            yield _done(state, i)
    elif op.verb is Verb.DONTNEED:
        if (op.status == 0) == (state.mapping != HOLE):
            yield _done(_visited(state, i) if op.status == 0 else state, i)
    elif op.verb is Verb.FREE:
        frame = state.entry[0] == "frame"
        yield _done(state, i)._replace(lazy=frame, cleaned=state.cleaned | ({(state.entry, i)} if frame else set()))
    elif op.verb is Verb.DISCARD:
        yield _done(state, i)
        if state.entry[0] == "frame" and state.lazy:
            yield _done(_ended(state, i), i)._replace(pressed=state.pressed | {state.entry})
    elif op.verb is Verb.MUNMAP:
        yield _done(_visited(state, i), i)._replace(mapping=HOLE)
    elif op.verb is Verb.MPROTECT:
        if op.status != 0:
            yield _done(state, i)
        if state.mapping != HOLE:
            yield _done(_protected(state, i, op.writable), i)
    elif op.status == 0:
        yield _done(_visited(state, i), i)._replace(mapping=WRITABLE if op.writable else READ_ONLY, era=i)
    else:
        yield _done(state, i)
        yield _done(_visited(state, i), i)._replace(mapping=HOLE)


def _done(state: State, i: int) -> State:
    return state._replace(done=state.done | {i})


def _visited(state: State, i: int) -> State:
    """Discard i comes by; its flush will also end what others took away before."""
    return _ended(state._replace(living=state.living | {(*x[:2], i) for x in state.living}), i)


def _ended(state: State, i: int) -> State:
    """Operation i ends what the page holds; its flush ends all translations of that."""
    if state.entry == ("none",):
        return state
    eras = {None, *([state.era] if state.mapping == WRITABLE else ()), *(x[1] for x in state.living if x[0] == state.entry)}
    return state._replace(entry=("none",), lazy=False, living=state.living | {(state.entry, era, i) for era in eras})


def _protected(state: State, i: int, writable: bool) -> State:
    """Mprotect i; translations that allow stores, also to what others ended, live until it returns if it forbids them."""
    if writable:
        return state if state.mapping == WRITABLE else state._replace(mapping=WRITABLE, era=i)
    old = {(what, era, i) for what, era, _ in state.living if era is not None}
    new = {(state.entry, state.era, i)} if state.mapping == WRITABLE else set()
    return state._replace(mapping=READ_ONLY, living=state.living | old | new)


def _access(ops: list[Op], i: int, state: State) -> Iterator[State]:
    op = ops[i]
    writes = stores(op)
    if not writes and state.entry == ("none",) and state.mapping != HOLE:
        # Each zero period is one of its own: what a discard ended may live beside the next one.
        yield state._replace(entry=("zero", len(state.done) * 100 + len(state.living)))
    if writes and state.entry[0] in ("none", "zero") and state.mapping == WRITABLE:
        used = {frame for frame, _ in state.contents}
        named = {o.frame for o in ops if o.frame} - used
        yield state._replace(entry=("frame", -1), lazy=False)       # one that no operation names
        for frame in named:
            yield state._replace(entry=("frame", frame), lazy=False, contents=state.contents | {(frame, FRESH | frame)})
    if i in state.done:
        return
    if op.status == -EFAULT:
        if state.mapping == HOLE or (writes and state.mapping == READ_ONLY):
            yield _done(state, i)
    elif op.status == -ENOMEM:
        if state.mapping == WRITABLE or (not writes and state.mapping == READ_ONLY):
            yield _done(state, i)
    else:
        if i not in state.hooked:
            yield from _translations(op, i, state)
        if i in state.hooked:
            held = dict(state.contents)
            if op.frame == 0 or (not writes and held[op.frame] == op.value):
                yield _done(state, i)
            elif writes:
                held[op.frame] = op.value
                yield _done(state, i)._replace(contents=frozenset(held.items()))


def _translations(op: Op, i: int, state: State) -> Iterator[State]:
    """The access gets a translation: through the entry, which a store makes dirty, or from a TLB."""
    writes, hooked = stores(op), state._replace(hooked=state.hooked | {i})
    name = ("frame", op.frame) if op.frame else ("zero",)
    was_dirty = not writes or any(what == name for what, _ in state.cleaned)
    if state.entry[:len(name)] == name and (not writes or state.mapping == WRITABLE):
        yield hooked if was_dirty else hooked._replace(lazy=False)
    if op.verb is Verb.GUP_FAST and state.entry[:len(name)] != name:
        return
    for what, era, _ in state.living:
        if what[:len(name)] != name or (writes and era is None):
            continue
        if what == state.entry:
            yield hooked if was_dirty else hooked._replace(lazy=False)
        elif was_dirty or what not in state.pressed:
            yield hooked


def stores(op: Op) -> bool:
    """Does the access store?"""
    return op.verb is Verb.WRITE or (op.verb is Verb.GUP_FAST and op.writable)


#: Kinds of operations and how often they are drawn, by flavour of history.
FLAVOURS = (
    {"read": 5, "write": 5},
    {"read": 4, "write": 4, "dontneed": 3},
    {"read": 6, "write": 2, "dontneed": 3},
    {"read": 3, "write": 3, "dontneed": 2, "walk": 3},
    {"read": 3, "write": 4, "munmap": 1, "mmap": 2, "dontneed": 1},
    {"read": 2, "write": 2, "munmap": 2, "mmap": 2, "walk": 1, "dontneed": 1, "faulting": 3},
    {"read": 3, "write": 3, "dontneed": 2, "failing": 2, "hole": 1, "munmap": 1, "mmap": 1, "nomap": 1},
    {"read": 3, "write": 4, "free": 3, "discard": 4},
    {"read": 2, "write": 4, "free": 2, "discard": 2, "dontneed": 1, "walk": 1, "gup_fast": 1},
    {"read": 2, "write": 2, "gup_fast": 4, "dontneed": 2, "mmap": 1, "discard": 1},
    {"read": 2, "write": 5, "mprotect": 4, "faulting": 2},
    {"read": 1, "write": 4, "mprotect": 3, "dontneed": 2, "free": 1, "discard": 2},
    {"write": 4, "gup_fast": 2, "mprotect": 3, "munmap": 1, "mmap": 1, "noprotect": 2},
)


def random_history(rng: Random, most: int = 8) -> tuple[list[Op], Start, tuple | None]:
    """Two to ``most`` operations of up to four workers, in any overlap; what is seen is mostly something that was there."""
    flavour = rng.choice(FLAVOURS)
    kinds = rng.choices(list(flavour), list(flavour.values()), k=rng.randint(2, most))
    workers = rng.randint(1, 4)
    owner = [rng.randrange(workers) for _ in kinds]
    stamps = _stamps(rng, owner)
    start: Start = rng.choice([(WRITABLE, None, 0)] * 4 + [(WRITABLE, 0, 0), (WRITABLE, 1, 90), (HOLE, None, 0), (READ_ONLY, 0, 0), (READ_ONLY, 1, 90)])
    if "free" in flavour and start[0] == HOLE:
        start = (WRITABLE, None, 0)     # that a free met none is not asked beside changes of the mapping
    frames = rng.randint(1, 3)
    first = 2 if start[1] else 1
    writes = {i: (rng.randint(1, first + frames - 1), 100 + i) for i, kind in enumerate(kinds) if kind in ("write", "gup_fast")}
    pins = {i: rng.random() < 0.6 for i, kind in enumerate(kinds) if kind == "gup_fast"}
    writes = {i: write for i, write in writes.items() if pins.get(i, True)}
    seen = [*writes.values()] * 3 + [(frame, FRESH | frame) for frame, _ in writes.values()] + [(0, 0)] * 2
    seen += [(1, 90)] * 2 if start[1] else []
    ops = []
    for i, kind in enumerate(kinds):
        times = (*stamps[i],)
        if i in writes:
            ops.append(Op(*times, Verb[kind.upper()], owner[i], 0, *writes[i]))
        elif kind == "gup_fast":
            ops.append(Op(*times, Verb.GUP_FAST, owner[i], 0, *rng.choice(seen), writable=False))
        elif kind == "read":
            ops.append(Op(*times, Verb.READ, owner[i], 0, *rng.choice(seen)))
        elif kind == "walk":
            ops.append(Op(*times, Verb.WALK, owner[i], seen=rng.random() < 0.5))
        elif kind == "mmap":
            ops.append(Op(*times, Verb.MMAP, owner[i], writable=rng.random() < 0.7))
        elif kind == "mprotect":
            ops.append(Op(*times, Verb.MPROTECT, owner[i], writable=rng.random() < 0.5))
        elif kind in ("nomap", "noprotect"):
            ops.append(Op(*times, Verb.MMAP if kind == "nomap" else Verb.MPROTECT, owner[i], -ENOMEM))
        elif kind == "hole":
            ops.append(Op(*times, Verb.DONTNEED, owner[i], -ENOMEM))
        elif kind in ("faulting", "failing"):
            status = -EFAULT if kind == "faulting" else -ENOMEM
            ops.append(Op(*times, rng.choice((Verb.READ, Verb.WRITE)), owner[i], status))
        else:
            ops.append(Op(*times, Verb[kind.upper()], owner[i]))
    ends = [None] * 3 + [("none",), (0, 0)] + list(writes.values())
    return ops, start, rng.choice(ends)


def lived_history(rng: Random, most: int = 8) -> tuple[list[Op], Start, tuple | None]:
    """As ``random_history``, but what is seen was seen: operations act one after the other. Every other one is then damaged."""
    ops, start, _ = random_history(rng, most)
    mapping, frame, value = start
    entry, made = (None if frame is None else (frame, value)), {1} if start[1] else set()
    marked = True
    seen: list[tuple[int, int]] = [(0, 0)]
    order = sorted(range(len(ops)), key=lambda i: rng.uniform(ops[i].t0, ops[i].t1))
    for i in order:
        op = ops[i]
        if op.verb in ACCESSES:
            writes = stores(op)
            if mapping == HOLE or (writes and mapping == READ_ONLY):
                ops[i] = op._replace(status=-EFAULT, frame=0, value=0)
                continue
            if writes and (entry is None or entry[0] == 0):
                frame = next(f for f in (2, 3, 4, 5, 6, 7, 8, 9, 10) if f not in made)
                made.add(frame)
                entry = (frame, 100 + i)
            entry = (entry[0], 100 + i) if writes else entry or (0, 0)
            marked = marked and not writes
            seen.append(entry)
            ops[i] = op._replace(status=0, frame=entry[0], value=entry[1])
        elif op.verb is Verb.WALK:
            ops[i] = op._replace(seen=entry is not None)
        elif op.verb is Verb.DONTNEED:
            ops[i] = op._replace(status=0 if mapping != HOLE else -ENOMEM)
            entry = None
        elif op.verb is Verb.MPROTECT:
            ops[i] = op._replace(status=0 if mapping != HOLE else -ENOMEM)
            mapping = HOLE if mapping == HOLE else WRITABLE if op.writable else READ_ONLY
        elif op.verb is Verb.FREE:
            marked = True
        elif op.verb is Verb.DISCARD:
            entry = None if marked and entry and entry[0] and rng.random() < 0.8 else entry
        else:
            entry = None
            mapping = HOLE if op.verb is Verb.MUNMAP or op.status else WRITABLE if op.writable else READ_ONLY
    if rng.random() < 0.5:
        i = rng.randrange(len(ops))
        frame, value = rng.choice(seen)
        damaged = {
            Verb.READ: {"frame": frame, "value": value, "status": 0}, Verb.WRITE: {"frame": frame or 2, "value": 100 + i, "status": 0},
            Verb.WALK: {"seen": not ops[i].seen}}
        damaged[Verb.GUP_FAST] = damaged[Verb.WRITE if stores(ops[i]) else Verb.READ]
        ops[i] = ops[i]._replace(**damaged.get(ops[i].verb, {"status": 0}))
    return ops, start, rng.choice([None, None, ("none",) if entry is None else entry])


def _stamps(rng: Random, owner: list[int]) -> list[list[int]]:
    """Intervals that do not overlap for one owner: a shuffle of everybody's begins and ends, each in its order."""
    queues = {w: [i for i, o in enumerate(owner) if o == w for _ in range(2)] for w in set(owner)}
    spans: list[list[int]] = [[] for _ in owner]
    now, lazy = 1, rng.random() < 0.5
    last = rng.choice(sorted(queues))
    while queues:
        w = last if lazy and last in queues and rng.random() < 0.6 else rng.choice(sorted(queues))
        last = w
        spans[queues[w].pop(0)].append(now)
        now += rng.choice((1, 1, 1, 0))
        if not queues[w]:
            del queues[w]
    return spans


def rings_of(ops: list[Op]) -> list[np.ndarray]:
    """The history as the engine would have recorded it: one ring for each worker."""
    rings: dict[int, list[np.ndarray]] = {}
    for op in sorted(ops, key=lambda op: (op.t0, op.t1)):
        seen = None if op.verb is not Verb.WALK else [PAGE] * op.seen
        access = op.verb in ACCESSES
        row = event(
            op.verb, op.t0, op.t1, PAGE, inc=FRESH | op.frame if access and op.frame else 0, value=op.value, status=op.status,
            aux=int(op.writable) if op.verb in (Verb.MMAP, Verb.MPROTECT, Verb.GUP_FAST) else 0, present=seen)
        rings.setdefault(op.worker, []).append(row)
    return [np.concatenate(ring) for _, ring in sorted(rings.items())]


def rows_of(start: Start) -> tuple[np.ndarray, np.ndarray]:
    """The start as ``maps`` and ``pages`` of the checker."""
    mapping, frame, value = start
    states = {HOLE: [], READ_ONLY: [(0, 1024, 2)], WRITABLE: [(0, 1024, 4)]}[mapping]
    pages = [] if frame is None else [(PAGE, FRESH | frame if frame else 0, value)]
    return np.array(states, np.uint64).reshape(-1, 3), np.array(pages, np.uint64).reshape(-1, 3)


def final_rows(final: tuple | None) -> np.ndarray | None:
    """The end as ``final`` of the checker."""
    if final is None:
        return None
    rows = [] if final == ("none",) else [(PAGE, FRESH | final[0] if final[0] else 0, final[1])]
    return np.array(rows, np.uint64).reshape(-1, 3)
