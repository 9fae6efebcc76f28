"""Operations on one page as bars over time, one line for each; dashed: what is no part of the contradiction.

    worker 0  write: frame 1, value 0x64   |===|
    worker 2  dontneed: done                |-------|
    worker 1  read: the zero page                |==|  <--
"""

import errno
from collections.abc import Sequence
from dataclasses import dataclass

from ptstress.operation import PROTECTING
from ptstress.vocabulary import ACCESSES, STATUS_UNKNOWN, Verb

MAX_BAR = 72
MAX_STEP = 4


@dataclass(frozen=True)
class Drawn:
    """One operation on the page. ``seen``: what a walk saw; ``beside``: it is only shown for what it explains."""

    worker: int
    verb: Verb
    t0: int
    t1: int
    status: int
    incarnation: int = 0
    value: int = 0
    aux: int = 0
    seen: bool = False
    beside: bool = False


def draw(ops: Sequence[Drawn], marked: int | None = None) -> list[str]:
    """The picture, by t0; distances are ranks of times, not times. ``marked``: operation that shows the contradiction."""
    stamps = sorted({t for op in ops for t in (op.t0, op.t1)})
    column = {t: i for i, t in enumerate(stamps)}
    step = max(1, min(MAX_STEP, MAX_BAR // max(len(stamps), 1)))
    names = frame_names(ops)
    labels = [f"worker {op.worker}  {text_of(op, names)}" for op in ops]
    width = max(map(len, labels), default=0)
    lines = []
    for i, (op, label) in enumerate(zip(ops, labels, strict=True)):
        begin, end = (step * column[t] for t in (op.t0, op.t1))
        bar = "|" if begin == end else "|" + ("-" if op.beside else "=") * (end - begin - 1) + "|"
        lines.append(f"{label:<{width}}  {' ' * begin}{bar}{'  <--' if i == marked else ''}")
    return lines


def frame_names(ops: Sequence[Drawn]) -> dict[int, str]:
    """Frames are numbered as they appear."""
    frames = dict.fromkeys(op.incarnation for op in ops if op.incarnation)
    return {incarnation: f"frame {i}" for i, incarnation in enumerate(frames, start=1)}


def text_of(op: Drawn, names: dict[int, str]) -> str:
    """``read: frame 1, value 0x64``."""
    name = op.verb.label
    if op.status == STATUS_UNKNOWN:
        return f"{name}: outcome unknown"
    if op.status:
        return f"{name}: {errno.errorcode.get(-op.status, op.status)}"
    if op.verb in ACCESSES:
        if not op.incarnation:
            return f"{name}: the zero page"
        return f"{name}: {names[op.incarnation]}, " + ("as it was made" if op.value == op.incarnation else f"value {op.value:#x}")
    if op.verb is Verb.WALK:
        return f"{name}: {'present' if op.seen else 'absent'}"
    if op.verb is Verb.AGE:
        return f"{name}: {'young' if op.seen else 'old or absent'}"
    if op.verb is Verb.POPULATE:
        return f"{name}: done, for {'writing' if op.aux else 'reading'}"
    if op.verb in PROTECTING:
        return f"{name}: {'writable' if op.aux else 'read-only'}"
    return f"{name}: done"
