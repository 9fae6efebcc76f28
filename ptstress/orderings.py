"""The orderings that the engine relies on, as its headers say: each ``[PT-nnn]`` label and the accesses that it stands at."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ptstress import get_include
from ptstress.errors import UsageError
from ptstress.weaken_reasons import REASONS

#: What may order something. Whatever else carries a label only explains it.
_ORDERS = re.compile(
    r"\b(smp_store_release|smp_load_acquire|smp_test_acquire|xchg_acquire|xchg_or_membarrier|membarrier_all_cpus|xchg|cmpxchg|"
    r"atomic_add_return|atomic_add_mb|smp_mb|smp_mb__after_spinlock|smp_rmb|smp_wmb)(?:32)?\(")
_LABEL = re.compile(r"\[(PT-\d{3})\]")
_FUNCTION = re.compile(r"^cdef inline [^(]*?(\w+)\(")
#: A comment stands above the access that it is about, at most so many lines of code away.
_NEAR = 3
#: Floors whose accesses make no schedule points of the engine.
_APART = ("explore", "history")


@dataclass(frozen=True)
class Place:
    """One access that a label stands at: ``line`` of ``module``, such as ``cy/sync/rcu``. ``access``: its primitive.

    ``nth``: which one of this label in the function, from 1.
    """

    label: str
    module: str
    function: str
    line: int
    access: str
    nth: int = 1

    @property
    def where(self) -> str:
        """``sync/rcu: rcu_read_lock:93``."""
        return f"{self.module.removeprefix('cy/')}: {self.function}:{self.line}"


def reason_of(place: Place) -> str:
    """Why nothing is expected to catch it; empty: something is."""
    return REASONS.get((place.label, name_of(place)), "")


def name_of(place: Place) -> str:
    """The name by which reasons know it: of its function, with ``/2`` for the second of its label there."""
    return place.function if place.nth == 1 else f"{place.function}/{place.nth}"


def find_places(labels: Iterable[str] = (), root: Path | None = None) -> list[Place]:
    """The accesses of these labels, or of all, by label and then as they stand. Raises ``UsageError``.

    ``root``: the folder of ``cy``; the headers that this package brings if there is none.
    """
    headers = sorted(((root or Path(get_include())) / "cy").rglob("*.pxd"))
    places = [place for path in headers if path.parent.name not in _APART
              for place in _places(f"cy/{path.parent.name}/{path.stem}", path.read_text(encoding="utf-8").splitlines())]
    known = sorted({place.label for place in places})
    for label in labels:
        if label not in known:
            raise UsageError(f"ordering {label!r}: expected one of {', '.join(known)}")
    wanted = set(labels) or set(known)
    return sorted((p for p in places if p.label in wanted), key=lambda p: (p.label, p.module, p.line))


def _places(module: str, lines: list[str]) -> list[Place]:
    """Labels on a line of code mean its accesses; those of a comment inside a function, the next access below it."""
    found: list[Place] = []
    function, above, left = "", [], 0       # above: labels of comments, for the next `left` lines of code
    for number, line in enumerate(lines, start=1):
        code, _, comment = line.partition("#")
        labels = _LABEL.findall(comment)
        if match := _FUNCTION.match(code):
            function, above = match[1], []
        if not code.strip():
            if code and labels:             # indented
                above, left = above + labels, _NEAR
            continue
        access = _ORDERS.search(code)
        if access and not match:
            for label in dict.fromkeys(labels + above):
                nth = 1 + sum((p.label, p.function) == (label, function) for p in found)
                found.append(Place(label, module, function, number, access[1], nth))
            above = []
        left -= 1
        above = above if left > 0 else []
    return found
