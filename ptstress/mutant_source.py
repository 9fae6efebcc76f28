"""The text of the engine as functions and statements, as far as mutants need it.

The headers of ``cy/`` are written in one manner: ``cdef inline`` functions, one statement a line or one over several lines in
parentheses, suites on lines of their own. This is a reader of that manner, not of Cython.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

#: Floors whose files are mutated: what the oracles judge. Not those that hold the oracles, and not what all is built on.
FLOORS = ("sync", "mm", "core", "ops", "reclaim", "protect")
_HEADER = re.compile(r"cdef inline [\w \*]*?\**(\w+)\((.*)\) noexcept nogil:$")
_BLOCK = re.compile(r"(if|elif|else|while|for)\b(.*):$")


@dataclass
class Statement:
    """One statement: its lines (indices into the file, last included), its text on one line, and what it governs."""

    first: int
    last: int
    indent: int
    text: str
    keyword: str = ""                       # of a block: if, elif, else, while, for
    suite: list["Statement"] = field(default_factory=list)
    inside: list["Statement"] = field(default_factory=list, repr=False)     # the suite that it is in
    parent: "Statement | None" = field(default=None, repr=False)            # what governs that suite

    @property
    def simple(self) -> bool:
        """Not a block, not a declaration, and nothing that leaves the suite."""
        return not self.keyword and not re.match(r"(cdef|return|break|continue|pass)\b", self.text)

    @property
    def condition(self) -> str:
        """Of an ``if``, ``elif`` or ``while``."""
        return self.text[len(self.keyword) : -1].strip()

    @property
    def end(self) -> int:
        """The last line of its suite."""
        return self.suite[-1].end if self.suite else self.last

    def neighbour(self, by: int) -> "Statement | None":
        """The statement ``by`` places behind it in its suite. Where a planted bug would leave it out that is the suite around."""
        at = next(i for i, other in enumerate(self.inside) if other is self) + by
        if 0 <= at < len(self.inside):
            return self.inside[at]
        return self.parent.neighbour(by) if self.parent and self.parent.text.startswith("if not BUG(") else None

    def walk(self) -> Iterator["Statement"]:
        """It and all that it governs, in the order of the text."""
        yield self
        for statement in self.suite:
            yield from statement.walk()

    def leaves(self) -> bool:
        """Whether something in it returns, or goes on with or ends a loop outside of it."""
        return any(re.match(r"(return|break|continue)\b", s.text) for s in self.walk())


@dataclass
class Function:
    """One function; ``comment``: the contract above it; ``body``: its statements."""

    file: str
    name: str
    parameters: str
    comment: str
    body: list[Statement]

    def statements(self) -> Iterator[Statement]:
        """All, in the order of the text."""
        for statement in self.body:
            yield from statement.walk()

    def variable(self, declared: str) -> bool:
        """Whether it declares such a parameter or variable, as in ``mm *m``."""
        name = re.escape(declared)
        return bool(re.search(rf"\b{name}\b", self.parameters)
                    or any(re.match(rf"cdef {name}\b", s.text) for s in self.statements()))


@dataclass
class Source:
    """One file of the engine: its name from the folder that holds ``cy``, its lines, its functions."""

    name: str
    lines: list[str]
    functions: list[Function]


def engine_files(root: Path) -> list[Path]:
    """The files below ``root``/cy that are mutated."""
    return sorted(path for floor in FLOORS for path in (root / "cy" / floor).glob("*.pxd") if path.name != "__init__.pxd")


def read_source(root: Path, path: Path) -> Source:
    """Read one file below ``root``."""
    return parse_source(str(path.relative_to(root)), path.read_text(encoding="utf-8"))


def parse_source(name: str, text: str) -> Source:
    """Read the text of a file. Raises ``ValueError`` where it is not written in the engine's manner."""
    lines = text.split("\n")
    functions = []
    at = 0
    while at < len(lines):
        if lines[at].startswith("cdef inline "):
            function, at = _function(name, lines, at)
            functions.append(function)
        else:
            at += 1
    return Source(name, lines, functions)


def code_of(line: str) -> str:
    """The line without its comment. There is no ``#`` in the engine's strings."""
    return line.split("#", 1)[0].rstrip()


def _function(name: str, lines: list[str], at: int) -> tuple[Function, int]:
    comment = at
    while comment > 0 and lines[comment - 1].startswith("#"):
        comment -= 1
    header, last = _joined(lines, at)
    found = _HEADER.match(header)
    if not found:
        raise ValueError(f"{name}:{at + 1}: expected 'cdef inline ... noexcept nogil:', found {header!r}")
    flat = []
    end = last + 1
    while end < len(lines) and (not code_of(lines[end]) or lines[end].startswith(" ")):
        if code_of(lines[end]):
            text, stop = _joined(lines, end)
            block = _BLOCK.match(text)
            flat.append(Statement(end, stop, len(lines[end]) - len(lines[end].lstrip()), text, block[1] if block else ""))
            end = stop
        elif not lines[end] and end + 1 < len(lines) and not lines[end + 1].startswith(" "):
            break
        end += 1
    body: list[Statement] = []
    _nest(flat, body)
    return Function(name, found[1], found[2], "\n".join(lines[comment:at]), body), end


def _joined(lines: list[str], at: int) -> tuple[str, int]:
    """The statement that begins in a line, as one, and its last line."""
    text, last = code_of(lines[at]).strip(), at
    while text.endswith("\\") or text.count("(") + text.count("[") > text.count(")") + text.count("]"):
        last += 1
        text = text.removesuffix("\\").rstrip() + " " + code_of(lines[last]).strip()
    return text, last


def _nest(flat: list[Statement], body: list[Statement]) -> None:
    """Sort statements into the suites that their indentation says."""
    above: list[Statement] = []
    for statement in flat:
        while above and above[-1].indent >= statement.indent:
            above.pop()
        statement.parent = above[-1] if above else None
        statement.inside = above[-1].suite if above else body
        statement.inside.append(statement)
        above.append(statement)
