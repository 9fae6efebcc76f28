"""Histories of one page for the history checker: drawn at random, lived, and as the engine would have recorded them.

What each of them means, and whether it has an execution: ``page_executions``.
"""

from errno import EFAULT, ENOMEM
from random import Random

import numpy as np
from page_events import FRESH, event
from page_executions import GUARDED, HOLE, NONE, PAGE, READ_ONLY, WRITABLE, Op, Start, stores

from ptstress.vocabulary import ACCESSES, BITS, Verb

#: Kinds of operations and how often they are drawn, by flavour of history.
FLAVOURS = (
    {"read": 5, "write": 5},
    {"read": 4, "write": 4, "dontneed": 3},
    {"read": 6, "write": 2, "dontneed": 3},
    {"read": 3, "write": 3, "dontneed": 2, "walk": 2, "age": 1},
    {"read": 3, "write": 4, "munmap": 1, "mmap": 2, "dontneed": 1},
    {"read": 2, "write": 2, "munmap": 2, "mmap": 2, "walk": 1, "dontneed": 1, "faulting": 3},
    {"read": 3, "write": 3, "dontneed": 2, "failing": 2, "hole": 1, "munmap": 1, "mmap": 1, "nomap": 1},
    {"read": 3, "write": 4, "free": 3, "discard": 4},
    {"read": 2, "write": 4, "free": 2, "discard": 2, "dontneed": 1, "walk": 1, "gup_fast": 1},
    {"read": 3, "write": 1, "failing": 3, "free": 2, "discard": 3, "walk": 3},
    {"read": 2, "write": 2, "gup_fast": 4, "dontneed": 2, "mmap": 1, "discard": 1},
    {"read": 2, "write": 5, "mprotect": 4, "faulting": 2},
    {"read": 1, "write": 4, "mprotect": 3, "dontneed": 2, "free": 1, "discard": 2},
    {"write": 4, "gup_fast": 2, "mprotect": 3, "munmap": 1, "mmap": 1, "noprotect": 2},
    {"read": 2, "write": 4, "guard_install": 3, "guard_remove": 2, "faulting": 2},
    {"read": 2, "write": 3, "guard_install": 3, "guard_remove": 2, "dontneed": 2, "walk": 1, "gup_fast": 1},
    {"read": 2, "write": 3, "guard_install": 3, "guard_remove": 1, "mprotect": 1, "munmap": 1, "mmap": 1, "faulting": 2},
    {"read": 2, "write": 3, "guard_install": 2, "noguard": 2, "munmap": 1, "mmap": 1, "free": 1, "discard": 1, "age": 1},
)


def random_history(rng: Random, most: int = 8) -> tuple[list[Op], Start, tuple | None]:
    """Two to ``most`` operations of up to four workers, in any overlap; what is seen is mostly something that was there."""
    flavour = rng.choice(FLAVOURS)
    kinds = rng.choices(list(flavour), list(flavour.values()), k=rng.randint(2, most))
    workers = rng.randint(1, 4)
    owner = [rng.randrange(workers) for _ in kinds]
    stamps = _stamps(rng, owner)
    start: Start = rng.choice([
        *[(WRITABLE, None, 0)] * 4, (WRITABLE, 0, 0), (WRITABLE, 1, 90), (HOLE, None, 0), (READ_ONLY, 0, 0), (READ_ONLY, 1, 90)])
    if "guard_install" in flavour and rng.random() < 0.3:
        start = (rng.choice((WRITABLE, READ_ONLY)), GUARDED, 0)
    if "free" in flavour and start[0] == HOLE:
        start = (WRITABLE, None, 0)     # that a free met none is not asked beside changes of the mapping
    frames = rng.randint(1, 3)
    first = 2 if start[1] == 1 else 1
    writes = {i: (rng.randint(1, first + frames - 1), 100 + i) for i, kind in enumerate(kinds) if kind in ("write", "gup_fast")}
    pins = {i: rng.random() < 0.6 for i, kind in enumerate(kinds) if kind == "gup_fast"}
    writes = {i: write for i, write in writes.items() if pins.get(i, True)}
    seen = [*writes.values()] * 3 + [(frame, FRESH | frame) for frame, _ in writes.values()] + [(0, 0)] * 2
    seen += [(1, 90)] * 2 if start[1] == 1 else []
    ops = []
    for i, kind in enumerate(kinds):
        times = (*stamps[i],)
        if i in writes:
            ops.append(Op(*times, Verb[kind.upper()], owner[i], 0, *writes[i]))
        elif kind == "gup_fast":
            ops.append(Op(*times, Verb.GUP_FAST, owner[i], 0, *rng.choice(seen), writable=False))
        elif kind == "read":
            ops.append(Op(*times, Verb.READ, owner[i], 0, *rng.choice(seen)))
        elif kind in ("walk", "age"):
            ops.append(Op(*times, Verb[kind.upper()], owner[i], seen=rng.random() < 0.5))
        elif kind == "mmap":
            ops.append(Op(*times, Verb.MMAP, owner[i], writable=rng.random() < 0.7))
        elif kind == "mprotect":
            ops.append(Op(*times, Verb.MPROTECT, owner[i], writable=rng.random() < 0.5))
        elif kind in ("nomap", "noprotect"):
            ops.append(Op(*times, Verb.MMAP if kind == "nomap" else Verb.MPROTECT, owner[i], -ENOMEM))
        elif kind == "noguard":
            ops.append(Op(*times, rng.choice((Verb.GUARD_INSTALL, Verb.GUARD_REMOVE)), owner[i], -ENOMEM))
        elif kind == "hole":
            ops.append(Op(*times, Verb.DONTNEED, owner[i], -ENOMEM))
        elif kind in ("faulting", "failing"):
            status = -EFAULT if kind == "faulting" else -ENOMEM
            ops.append(Op(*times, rng.choice((Verb.READ, Verb.WRITE)), owner[i], status))
        else:
            ops.append(Op(*times, Verb[kind.upper()], owner[i]))
    ends = [None] * 3 + [NONE, (0, 0)] + list(writes.values())
    return ops, start, rng.choice(ends)


def lived_history(rng: Random, most: int = 8) -> tuple[list[Op], Start, tuple | None]:
    """As ``random_history``, but what is seen was seen: operations act one after the other. Every other one is then damaged."""
    ops, start, _ = random_history(rng, most)
    mapping, frame, value = start
    entry, made = (None if frame in (None, GUARDED) else (frame, value)), {1} if frame == 1 else set()
    marked, guarded = True, frame == GUARDED
    seen: list[tuple[int, int]] = [(0, 0)]
    order = sorted(range(len(ops)), key=lambda i: rng.uniform(ops[i].t0, ops[i].t1))
    for i in order:
        op = ops[i]
        if op.verb in ACCESSES:
            writes = stores(op)
            if mapping == HOLE or (writes and mapping == READ_ONLY) or guarded:
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
        elif op.verb in (Verb.WALK, Verb.AGE):
            ops[i] = op._replace(seen=entry is not None)
        elif op.verb in (Verb.GUARD_INSTALL, Verb.GUARD_REMOVE):
            ops[i] = op._replace(status=0 if mapping != HOLE else -ENOMEM)
            guarded = op.verb is Verb.GUARD_INSTALL and mapping != HOLE
            entry = None if guarded else entry
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
            entry, guarded = None, False
            mapping = HOLE if op.verb is Verb.MUNMAP or op.status else WRITABLE if op.writable else READ_ONLY
    if rng.random() < 0.5:
        i = rng.randrange(len(ops))
        frame, value = rng.choice(seen)
        damaged = {
            Verb.READ: {"frame": frame, "value": value, "status": 0},
            Verb.WRITE: {"frame": frame or 2, "value": 100 + i, "status": 0},
            Verb.WALK: {"seen": not ops[i].seen}, Verb.AGE: {"seen": not ops[i].seen}}
        damaged[Verb.GUP_FAST] = damaged[Verb.WRITE if stores(ops[i]) else Verb.READ]
        ops[i] = ops[i]._replace(**damaged.get(ops[i].verb, {"status": 0}))
    return ops, start, rng.choice([None, None, NONE if entry is None else entry])


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
        seen = None if op.verb not in BITS else [PAGE] * op.seen
        access = op.verb in ACCESSES
        row = event(
            op.verb, op.t0, op.t1, PAGE, inc=FRESH | op.frame if access and op.frame else 0, value=op.value, status=op.status,
            aux=int(op.writable) if op.verb in (Verb.MMAP, Verb.MPROTECT, Verb.GUP_FAST) else 0, present=seen)
        rings.setdefault(op.worker, []).append(row)
    return [np.concatenate(ring) for _, ring in sorted(rings.items())]


def rows_of(start: Start) -> tuple[np.ndarray, np.ndarray]:
    """The start as ``maps`` and ``pages`` of the checker."""
    mapping, frame, value = start
    guards = 16 if frame == GUARDED else 0
    states = {HOLE: [], READ_ONLY: [(0, 1024, 2 + guards)], WRITABLE: [(0, 1024, 4 + guards)]}[mapping]
    pages = [] if frame in (None, GUARDED) else [(PAGE, FRESH | frame if frame else 0, value)]
    return np.array(states, np.uint64).reshape(-1, 3), np.array(pages, np.uint64).reshape(-1, 3)


def final_rows(final: tuple | None) -> np.ndarray | None:
    """The end as ``final`` of the checker."""
    if final is None:
        return None
    rows = [] if final == NONE else [(PAGE, FRESH | final[0] if final[0] else 0, final[1])]
    return np.array(rows, np.uint64).reshape(-1, 3)
