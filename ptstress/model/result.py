"""What an operation returned: as the model predicts it, and as it was observed.

The engine chooses the values that it writes and the incarnations of fresh frames; everything else is
predicted exactly. Incarnations have the top bit set, written values have it clear and are not 0; the
zero page reads as value 0, incarnation 0.
"""

from typing import NamedTuple

from ptstress.operation import Op
from ptstress.pages import page_text
from ptstress.vocabulary import Verb

STAMP_BIT = 1 << 63


class Result(NamedTuple):
    """Predicted. ``status``: 0 or -errno. ``bits``: walk, age: bit ``i`` set: page ``start + i`` is present, is young.

    ``fresh``: a new frame, whose incarnation is the engine's choice. ``maybe``: age: these bits may be set as well.
    """

    status: int
    value: int = 0
    incarnation: int = 0
    bits: int = 0
    fresh: bool = False
    maybe: int = 0


class Observation(NamedTuple):
    """Observed. As ``Result``; ``present`` is the count that a walk returned; ``t0``, ``t1``: start and end, 0: unknown."""

    status: int
    value: int = 0
    incarnation: int = 0
    present: int = 0
    bits: int = 0
    t0: int = 0
    t1: int = 0


def agree(op: Op, predicted: Result, seen: Observation) -> str | None:
    """``None`` if what was seen is what was predicted; otherwise what differs, for a reader."""
    if seen.status != predicted.status:
        return f"{op}: returned {seen.status}, expected {predicted.status}"
    if op.verb in (Verb.WALK, Verb.AGE):
        return _agree_bits(op, predicted, seen)
    if op.verb is Verb.POPULATE and seen.value != predicted.value:
        return f"{op}: brought in {seen.value} pages, expected {predicted.value}"
    if seen.status or not op.accesses:
        return None
    if predicted.fresh and not op.writes and seen.value != seen.incarnation:
        return f"{op}: read {seen.value:#x}, expected the stamp of a frame that was not written"
    if not predicted.fresh and not op.writes and seen.value != predicted.value:
        return f"{op}: read {seen.value:#x}, expected {predicted.value:#x}"
    if op.writes and not is_value(seen.value):
        return f"{op}: wrote {seen.value:#x}, expected a value that is not 0 and has the top bit clear"
    if predicted.fresh and not is_incarnation(seen.incarnation):
        return f"{op}: fresh frame of incarnation {seen.incarnation:#x}, expected the top bit set"
    if not predicted.fresh and seen.incarnation != predicted.incarnation:
        return f"{op}: used incarnation {seen.incarnation:#x}, expected {predicted.incarnation:#x}"
    return None


def is_value(stamp: int) -> bool:
    """Whether a write can have chosen this."""
    return 0 < stamp < STAMP_BIT


def is_incarnation(stamp: int) -> bool:
    """Whether a fresh frame can have this."""
    return STAMP_BIT <= stamp < STAMP_BIT << 1


def _agree_bits(op: Op, predicted: Result, seen: Observation) -> str | None:
    wrong = (seen.bits ^ predicted.bits) & ~predicted.maybe
    if wrong:
        page = (wrong & -wrong).bit_length() - 1
        is_set, is_clear = ("present", "absent") if op.verb is Verb.WALK else ("young", "old")
        found = is_set if seen.bits >> page & 1 else is_clear
        return f"{op}: saw {page_text(op.start + page)} {found}, expected the opposite"
    if seen.present != seen.bits.bit_count():
        return f"{op}: counted {seen.present} pages, expected {seen.bits.bit_count()}"
    return None
