"""Every execution of one page, by brute force: what the history checker must agree with.

Nothing here knows the engine or the checker. A history is a list of ``Op``; ``possible`` tries every order of every
step of every operation: reads and writes, by hardware and through pins, mmap, munmap, mprotect, dontneed, free, memory
pressure, guards, walks and ages, with their failures, holes, the zero page, fresh frames, and translations that live on until
a flush.
"""

from collections.abc import Iterator
from errno import EFAULT, ENOMEM
from typing import NamedTuple

from page_events import FRESH

from ptstress.vocabulary import ACCESSES, BITS, Verb

PAGE = 7
HOLE, READ_ONLY, WRITABLE = "hole", "ro", "rw"
NONE, GUARD = ("none",), ("guard",)
GUARDED = -1


class Op(NamedTuple):
    """One operation on the page. ``frame`` 0: the zero page. ``seen``: what a walk or an age saw. ``worker``: who did it.

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
    entry: tuple = NONE
    lazy: bool = False                      # a free marked the frame, and no store made its entry dirty since
    cleaned: frozenset = frozenset()
    pressed: frozenset = frozenset()
    living: frozenset = frozenset()
    contents: frozenset = frozenset()       # (frame, value) of those that were installed
    hooked: frozenset = frozenset()         # accesses that have their translation
    done: frozenset = frozenset()


Start = tuple[str, int | None, int]
"""Mapping; frame, 0 for the zero page, None for nothing, or GUARDED; value."""


def possible(ops: list[Op], start: Start = (WRITABLE, None, 0), final: tuple | None = None) -> bool:
    """Is there an execution? ``final``: (frame, value), (0, 0) for the zero page, NONE, or None: nobody looked."""
    stamps = sorted([(op.t0, False, i) for i, op in enumerate(ops)] + [(op.t1, True, i) for i, op in enumerate(ops)])
    end_of = {i: at for at, (_, ends, i) in enumerate(stamps) if ends}
    mapping, frame, value = start
    entry = NONE if frame is None else GUARD if frame == GUARDED else ("frame", frame) if frame else ("zero", -1)
    first = State(mapping, entry=entry, lazy=True, contents=frozenset({(frame, value)} if entry[0] == "frame" else ()))
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
            if (op.t0 < stamp or (op.t0 == stamp and ends)) and at <= end_of[k]:
                stack += [(at, after) for after in _steps(ops, k, state)]
    return False


def _ends_as(state: State, final: tuple | None) -> bool:
    if final is None:
        return True
    if final == NONE:
        return not _present(state)
    if final[0] == 0:
        return state.entry[0] == "zero"
    return state.entry == ("frame", final[0]) and (final[0], final[1]) in state.contents


def _present(state: State) -> bool:
    return state.entry not in (NONE, GUARD)


def _steps(ops: list[Op], i: int, state: State) -> Iterator[State]:
    """Where operation i can take the page by one step of its own."""
    op = ops[i]
    if op.verb in ACCESSES:
        yield from _access(ops, i, state)
    elif op.verb is Verb.GUARD_INSTALL:
        yield from _installed(op, i, state)
    elif i in state.done:
        return
    elif op.verb is Verb.WALK:
        if op.seen == _present(state):
            yield _done(state, i)
    elif op.verb is Verb.AGE:
        if not op.seen or _present(state):
            yield _done(state, i)
    elif op.verb is Verb.GUARD_REMOVE:
        if (op.status == 0) == (state.mapping != HOLE):
            yield _done(_opened(state), i)
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
        yield _done(_visited(_opened(state), i), i)._replace(mapping=HOLE)
    elif op.verb is Verb.MPROTECT:
        if op.status != 0:
            yield _done(state, i)
        if state.mapping != HOLE:
            yield _done(_protected(state, i, op.writable), i)
    elif op.status == 0:
        yield _done(_visited(_opened(state), i), i)._replace(mapping=WRITABLE if op.writable else READ_ONLY, era=i)
    else:
        yield _done(state, i)
        yield _done(_visited(_opened(state), i), i)._replace(mapping=HOLE)


def _done(state: State, i: int) -> State:
    return state._replace(done=state.done | {i})


def _opened(state: State) -> State:
    return state._replace(entry=NONE) if state.entry == GUARD else state


def _installed(op: Op, i: int, state: State) -> Iterator[State]:
    """A guard_install zaps and marks in any order, as often as it likes. Who leaves or finds a guard ends all translations."""
    if i not in state.done and op.status != 0:
        yield _done(state, i)
    if i not in state.done and state.entry == GUARD:
        yield _done(_flushed(state, i), i)
    if state.mapping != HOLE and state.entry == NONE:
        yield _done(_flushed(state, i), i)._replace(entry=GUARD)
    elif state.mapping != HOLE:
        yield _ended(state, i)


def _visited(state: State, i: int) -> State:
    """Discard i comes by."""
    return _ended(_flushed(state, i), i)


def _flushed(state: State, i: int) -> State:
    """The flush of operation i will also end what others took away before."""
    return state._replace(living=state.living | {(*x[:2], i) for x in state.living})


def _ended(state: State, i: int) -> State:
    """Operation i ends what the page holds; its flush ends all translations of that."""
    if not _present(state):
        return state
    eras = {None, *([state.era] if state.mapping == WRITABLE else ()), *(x[1] for x in state.living if x[0] == state.entry)}
    return state._replace(entry=NONE, lazy=False, living=state.living | {(state.entry, era, i) for era in eras})


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
    if not writes and state.entry == NONE and state.mapping != HOLE:
        # Each zero period is one of its own: what a discard ended may live beside the next one, as long as somebody looks.
        living = {what for what, *_ in state.living if what[0] == "zero"}
        if len(living) <= sum(o.verb in BITS or (o.verb in ACCESSES and o.status == 0 and o.frame == 0) for o in ops):
            yield state._replace(entry=next(("zero", n) for n in range(len(ops) + 2) if ("zero", n) not in living))
    if writes and state.entry[0] in ("none", "zero") and state.mapping == WRITABLE:
        used = {frame for frame, _ in state.contents}
        named = {o.frame for o in ops if o.frame} - used
        yield state._replace(entry=("frame", -1), lazy=False)       # one that no operation names
        for frame in named:
            yield state._replace(entry=("frame", frame), lazy=False, contents=state.contents | {(frame, FRESH | frame)})
    if i in state.done:
        return
    if op.status == -EFAULT:
        if state.mapping == HOLE or (writes and state.mapping == READ_ONLY) or state.entry == GUARD:
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
