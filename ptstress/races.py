"""What ThreadSanitizer wrote about a data race, as one line."""

import re
from collections.abc import Callable
from dataclasses import dataclass

_ACCESS = re.compile(
    r"^  (?:Previous )?(atomic )?(read|write) of size (\d+) at 0x([0-9a-f]+) by (?:thread (T\d+)|(main thread))", re.IGNORECASE
)
_FRAME = re.compile(r"^    #\d+ (\S+) (\S+)")
_NAME = re.compile(r"^  Thread (T\d+) '([^']*)'")


@dataclass(frozen=True)
class Access:
    """One of the two accesses: of ``size`` bytes at an address. ``where``: function and place in the source, "" if forgotten."""

    marked: bool
    kind: str
    size: int
    address: int
    who: str
    where: str


def first_race(report: str, name_of: Callable[[str], tuple[str, str]]) -> tuple[Access, ...]:
    """The accesses of the first race of a report: two, or none if there is no race in it. The later one comes first.

    ``name_of``: (module, function) of a function's name in C; what has no module is a helper of C, and passed over.
    """
    race = report.split("WARNING: ThreadSanitizer: data race")[1:2]
    lines = race[0].splitlines() if race else []
    names = {found[1]: found[2] for line in lines if (found := _NAME.match(line))}
    return tuple(
        Access(
            marked=bool(found[1]), kind=found[2].lower(), size=int(found[3]), address=int(found[4], 16),
            who=names.get(found[5], found[5] or found[6]), where=_where(lines[at + 1 :], name_of),
        )
        for at, line in enumerate(lines) if (found := _ACCESS.match(line))
    )


def _where(lines: list[str], name_of: Callable[[str], tuple[str, str]]) -> str:
    """The innermost function of the engine in the stack that ``lines`` begin with."""
    for line in lines:
        found = _FRAME.match(line)
        if found is None:
            break
        module, function = name_of(found[1])
        if module:
            return f"{function} ({found[2]})"
    return ""


def race_text(report: str, name_of: Callable[[str], tuple[str, str]], describe: Callable[[int], str]) -> str:
    """``data race on frame 3: plain write by CPU0 in f (cy/mm/frame.pxd:12), unordered with the marked read before it by …``.

    ``describe``: what lies at an address.
    """
    accesses = first_race(report, name_of)
    if len(accesses) != 2:
        return "data race"
    later, earlier = (
        f"{'marked' if a.marked else 'plain'} {a.kind} by {a.who}" + (f" in {a.where}" if a.where else "") for a in accesses
    )
    return f"data race on {describe(accesses[0].address)}: {later}, not ordered behind the {earlier}"
