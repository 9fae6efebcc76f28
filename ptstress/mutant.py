"""What a mutant is: one change of the engine's text, as edits of one file."""

from dataclasses import dataclass, field

from ptstress.mutant_source import Statement


@dataclass(frozen=True)
class Span:
    """Text that is put in place of columns [start, end) of a line; ``{n}`` in it is the mutant's number."""

    line: int
    start: int
    end: int
    text: str


@dataclass(frozen=True)
class Insert:
    """A statement before the given line, with that indentation."""

    line: int
    indent: int
    text: str


@dataclass(frozen=True)
class Call:
    """A call that is made in another way: ``slot`` says in which."""

    line: int
    start: int
    name: str
    slot: int


@dataclass
class Mutant:
    """One change. ``removed``, ``inserted``, ``spans``, ``calls``: what it is made of.

    ``weakened``: accesses that order nothing while it is on, as lines of its file; the engine itself sees to that.
    ``text`` is the statement that it is about and ``change`` what becomes of it; with operator, file and function they name it.
    """

    operator: str
    file: str
    function: str
    line: int
    text: str
    change: str
    removed: list[Statement] = field(default_factory=list)
    inserted: list[Insert] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    weakened: tuple[int, ...] = ()
    number: int = 0
    id: str = ""

    @property
    def key(self) -> str:
        """What it is called where reasons are kept: no line, no number."""
        return f"{self.operator} {self.file.removeprefix('cy/')} {self.function}: {self.text} -> {self.change}"
