"""One example of a fuzz campaign: everything that an execution of it depends on, and what came of it.

An example is drawn as a whole before anything starts. It is plain data: it crosses to the process that
runs it as msgpack, and lies in the example database as JSON that a person can read.
"""

import hashlib
from collections.abc import Mapping

import msgspec
from msgspec import Struct

from ptstress.errors import UsageError
from ptstress.program import Program, parse
from ptstress.units import format_finding

#: The file of a failure folder that holds its example.
EXAMPLE = "example.json"

Knobs = dict[str, int | str]


class FuzzExample(Struct, frozen=True):
    """A program and how it is run: explored under ``executions`` schedules, and ``rounds`` times on threads.

    ``geometry``: index bits, level 0 first. ``seed`` decides schedules, ages of stores and rare paths.
    """

    program: Program
    scheme: str
    geometry: tuple[int, ...]
    knobs: Knobs
    seed: int
    executions: int
    rounds: int = 0
    bugs: tuple[str, ...] = ()

    def digest(self) -> int:
        """63 bits of program and geometry: equal for equal programs, whatever runs them."""
        text = f"{self.geometry} {self.program.text()}"
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1


class Signature(Struct, frozen=True, order=True):
    """What makes two failures the same one. ``where``: verbs or places; ``what``: without its numbers."""

    oracle: str
    invariant: int
    where: str
    what: str

    def __str__(self) -> str:
        """``use-after-free I04 in dontneed: table a was detached and holds an entry: b``."""
        where = f" in {self.where}" if self.where else ""
        return f"{format_finding(self.oracle, self.invariant)}{where}: {self.what}"


class Failure(Struct, frozen=True):
    """One failed example. ``example`` repeats it; ``replay`` is a replay string, empty if there is none:
    then it came on threads, or killed or hung its process. ``headline``: empty until it is polished. ``story``: lines.
    ``repeats``: ``fibres 10/10``.
    """

    signature: Signature
    detail: str
    example: FuzzExample
    replay: str = ""
    story: tuple[str, ...] = ()
    repeats: str = ""
    headline: str = ""

    @property
    def name(self) -> str:
        """The same for the same failure: the headline, or before there is one, what is known without a trace."""
        return self.headline or str(self.signature)


class Trial(Struct):
    """What came of one example. ``pairs``: of accesses, that were new to the process that ran it, each as two
    places. ``overlaps``: verb, verb, how often they met on one table. ``unknown``: races that the model
    could neither explain nor refute.
    """

    executions: int = 0
    operations: int = 0
    points: int = 0
    unknown: int = 0
    pairs: list[tuple[str, str]] = []
    overlaps: list[tuple[int, int, int]] = []
    failure: Failure | None = None


class _Spelled(Struct):
    program: str
    scheme: str
    geometry: tuple[int, ...]
    knobs: Knobs
    seed: int
    executions: int
    rounds: int
    bugs: tuple[str, ...]


def spell(example: FuzzExample) -> bytes:
    """The example as JSON, its program as text."""
    fields = msgspec.structs.asdict(example)
    return msgspec.json.encode(_Spelled(**{**fields, "program": example.program.text()}))


def read_example(data: bytes, source: str) -> FuzzExample:
    """The example of ``spell``. Raises ``UsageError``."""
    try:
        spelled = msgspec.json.decode(data, type=_Spelled)
    except msgspec.MsgspecError as error:
        raise UsageError(f"{source}: expected an example of a fuzz campaign: {error}") from None
    fields = msgspec.structs.asdict(spelled)
    return FuzzExample(**{**fields, "program": parse(spelled.program, source)})


def explored_signature(oracle: str, what: str, reports: list[dict], outcome: str) -> Signature:
    """The signature of an explored execution that failed; ``reports`` as shared memory holds them."""
    if not reports:
        return Signature(oracle, 0, outcome, what)
    first: Mapping = reports[0]
    return Signature(oracle, int(first["invariant"]), str(first["verb"]), str(first["what"]))
