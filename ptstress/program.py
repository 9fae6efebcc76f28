"""Concurrent programs as text that a person can read and write, and that round-trips.

    prefix: mmap(p0..p8); write(p3); t0: write(p3); dontneed(p0..p8) | t1: read(p3); suffix: walk(p0..p8)

A program is a list of sections; each begins with its label and holds operations in order. ``prefix``
runs alone, before the branches ``t0``, ``t1`` ... start together; ``suffix`` runs alone after they
have all ended. Prefix and suffix may be left out; there are 1 to 64 branches, in order. A branch may be
empty.

    statement   separated by ``;``, ``|`` or a new line, which mean the same
    read(p3) write(p3) gup_fast(p3)                     one page
    walk age munmap dontneed free discard mmap (p0..p8) pages from p0 up to, without, p8; or one page
    guard_install(p0..p8) guard_remove(p0..p8)          the same: guard markers
    mmap(p0..p8, ro)                                    read-only; writable otherwise
    mprotect(p0..p8, ro) mprotect(p0..p8, rw)           read-only, writable
    populate(p0..p8) populate(p0..p8, write)            fault in, for reading or for writing
    walk(p0..p8, sleep)                                 sleep in each table
    gup_fast(p3, write)                                 store through the pin; a load otherwise
    write(m1:p3) dontneed(m1:p0..p8)                    of mm 1 instead of mm 0
    exit(m0) scan(m0)                                   a whole mm
    # up to the end of the line is a comment
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from ptstress.errors import UsageError
from ptstress.operation import AWAKE, LOAD, READ_ONLY, SLEEPING, STORE, WRITABLE, Op, op_array
from ptstress.pages import global_page, local_page
from ptstress.vocabulary import ACCESSES, MAX_MMS, MM_SHIFT, OPERATIONS, WHOLE_MM, Verb

MAX_BRANCHES = 64
MAX_PAGE = 1 << MM_SHIFT

_VERBS = {verb.label: verb for verb in OPERATIONS}
_LABEL = re.compile(r"\s*([A-Za-z_]\w*)\s*:")
_OPERATION = re.compile(r"([A-Za-z_]\w*)\s*\(([^()]*)\)")
_PAGES = re.compile(r"(?:m(\d{1,3}):)?p(\d{1,20})(?:\s*\.\.\s*(?:m(\d{1,3}):)?p(\d{1,20}))?")
_OPERATION_FORM = "an operation such as write(p3), dontneed(p0..p8) or mmap(p0..p8, ro)"
#: What may stand behind the pages, and the ``arg`` that it means.
_ARGS = {
    Verb.MMAP: {"": WRITABLE, "ro": READ_ONLY, "rw": WRITABLE},
    Verb.MPROTECT: {"ro": READ_ONLY, "rw": WRITABLE},
    Verb.GUP_FAST: {"": LOAD, "write": STORE},
    Verb.POPULATE: {"": LOAD, "write": STORE},
    Verb.WALK: {"": AWAKE, "sleep": SLEEPING},
}
_VERB_FORM = f"one of {', '.join(_VERBS)}"


@dataclass(frozen=True)
class Program:
    """What runs before, at once, and after. Operations are in program order."""

    branches: tuple[tuple[Op, ...], ...]
    prefix: tuple[Op, ...] = ()
    suffix: tuple[Op, ...] = ()

    def text(self) -> str:
        """One line; ``parse`` reads it back as an equal program."""
        branches = " | ".join(_section(f"t{i}", ops) for i, ops in enumerate(self.branches))
        sections = [_section("prefix", self.prefix)] if self.prefix else []
        sections.append(branches)
        sections += [_section("suffix", self.suffix)] if self.suffix else []
        return "; ".join(sections)

    def arrays(self) -> tuple[np.ndarray, list[np.ndarray]]:
        """The prefix and each branch as arrays of ``OP_DTYPE``; branch ``i`` is worker ``i``."""
        return op_array(self.prefix), [op_array(ops, i) for i, ops in enumerate(self.branches)]

    def suffix_array(self) -> np.ndarray:
        """The suffix as an array of ``OP_DTYPE``."""
        return op_array(self.suffix)

    def operations(self) -> Iterator[Op]:
        """All operations: prefix, branches in order, suffix."""
        yield from self.prefix
        for branch in self.branches:
            yield from branch
        yield from self.suffix

    def end_page(self) -> int:
        """The first page behind all pages that the program names, whatever their mms."""
        ends = ((op.start, max(op.start + 1, op.end)) for op in self.operations())
        return max((end - start + local_page(start) for start, end in ends), default=0)

    def mms(self) -> int:
        """How many mms it needs. An only one cannot exit."""
        exits = any(op.verb is Verb.EXIT for op in self.operations())
        return max(max((op.mm for op in self.operations()), default=0) + 1, 2 if exits else 1)


def parse(text: str, source: str = "<program>") -> Program:
    """Read a program. Raises ``UsageError`` with file, line, what was found and what was expected."""
    return _Parser(source).parse(text)


def _section(label: str, ops: tuple[Op, ...]) -> str:
    return f"{label}: {'; '.join(str(op) for op in ops)}".rstrip()


class _Parser:
    def __init__(self, source: str) -> None:
        self.source = source
        self.line = 0
        self.sections: dict[str, list[Op]] = {}
        self.current = ""

    def parse(self, text: str) -> Program:
        for self.line, line in enumerate(text.splitlines() or [""], start=1):
            for statement in re.split(r"[;|]", line.partition("#")[0]):
                self._statement(statement)
        branches = [ops for label, ops in self.sections.items() if label[0] == "t"]
        if not branches:
            self._refuse("no branch", "at least 't0:' with its operations")
        return Program(
            branches=tuple(tuple(ops) for ops in branches),
            prefix=tuple(self.sections.get("prefix", ())),
            suffix=tuple(self.sections.get("suffix", ())),
        )

    def _statement(self, statement: str) -> None:
        match = _LABEL.match(statement)
        if match:
            self._open(match[1])
            statement = statement[match.end() :]
        statement = statement.strip()
        if statement:
            if not self.current:
                self._refuse(f"{statement!r} outside of a section", "a label first: 'prefix:' or 't0:'")
            self.sections[self.current].append(self._operation(statement))

    def _open(self, label: str) -> None:
        branches = sum(name[0] == "t" for name in self.sections)
        if label in self.sections:
            self._refuse(f"a second {label!r}", "each section once")
        if "suffix" in self.sections:
            self._refuse(f"{label!r} after 'suffix'", "the suffix last")
        if label == "prefix" and self.sections:
            self._refuse("'prefix' after a branch", "the prefix first")
        if label == "suffix" and not branches:
            self._refuse("'suffix' before any branch", "'t0:'")
        if label not in ("prefix", "suffix"):
            if branches == MAX_BRANCHES:
                self._refuse(f"more than {MAX_BRANCHES} branches", f"at most t{MAX_BRANCHES - 1}")
            if label != f"t{branches}":
                choice = f"'t{branches}'" + (" or 'suffix'" if branches else "" if self.sections else " or 'prefix'")
                self._refuse(f"section {label!r}", choice)
        self.sections[label] = []
        self.current = label

    def _operation(self, text: str) -> Op:
        match = _OPERATION.fullmatch(text)
        if match is None:
            self._refuse(f"{text!r}", _OPERATION_FORM)
        verb = _VERBS.get(match[1])
        if verb is None:
            self._refuse(f"operation {match[1]!r}", _VERB_FORM)
        pages, *modes = (part.strip() for part in match[2].split(","))
        start, end = self._pages(verb, pages)
        return Op(verb, start, end, self._arg(verb, modes))

    def _pages(self, verb: Verb, text: str) -> tuple[int, int]:
        if verb in WHOLE_MM:
            return self._mm(verb, text)
        match = _PAGES.fullmatch(text)
        one_page = verb in ACCESSES
        if match is None or (one_page and match[4] is not None):
            self._refuse(f"{text!r} in {verb.label}()", "one page such as p3" if one_page else "pages such as p0..p8 or p3")
        mm, start = int(match[1] or 0), int(match[2])
        end_mm, end = int(match[3] or mm), int(match[4]) if match[4] is not None else start + 1
        if max(start, end) > MAX_PAGE:
            self._refuse(f"page p{max(start, end)}", f"pages below p{MAX_PAGE}")
        if max(mm, end_mm) >= MAX_MMS:
            self._refuse(f"mm m{max(mm, end_mm)}", f"m0 to m{MAX_MMS - 1}")
        return global_page(mm, start), global_page(end_mm, end)

    def _mm(self, verb: Verb, text: str) -> tuple[int, int]:
        match = re.fullmatch(r"m(\d{1,3})", text)
        if match is None or int(match[1]) >= MAX_MMS:
            self._refuse(f"{text!r} in {verb.label}()", f"an mm, m0 to m{MAX_MMS - 1}")
        return (int(match[1]) << MM_SHIFT,) * 2

    def _arg(self, verb: Verb, modes: list[str]) -> int:
        known = _ARGS.get(verb, {"": 0})
        mode = ", ".join(modes)
        if mode not in known:
            words = [*(f"'{word}'" for word in known if word), *(["nothing"] if "" in known else [])]
            expected = f"{', '.join(words[:-1])} or {words[-1]} after the pages" if len(words) > 1 else "pages and nothing else"
            self._refuse(f"{mode!r} in {verb.label}()", expected)
        return known[mode]

    def _refuse(self, found: str, expected: str) -> NoReturn:
        raise UsageError(f"{self.source}:{self.line}: {found}: expected {expected}")
