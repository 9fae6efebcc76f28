"""Messages between the processes of a fuzz campaign: msgpack, each behind its length.

    coordinator  ─ one for each worker ─→  worker  ─ one ─→  executor
    merges, reports                        draws, mutates, shrinks     owns engine and threads

Whoever reads waits with a time limit; nobody waits for ever for a process that hangs.
"""

import os
import select
import sys
from collections.abc import Callable

import msgspec
from msgspec import Struct

from ptstress.errors import PtstressError
from ptstress.fuzz_example import Failure, FuzzExample, Signature, Trial

_LENGTH_BYTES = 4


class Run(Struct, tag="run"):
    """To an executor: run these, one ``Trial`` for each. ``deepen``: look longer where something new is seen."""

    examples: list[FuzzExample]
    deepen: bool = False


class Polish(Struct, tag="polish"):
    """To an executor: find a schedule of few preemptions, repeat it, tell its story. Answer: a ``Failure``."""

    failure: Failure


class Race(Struct, tag="race"):
    """To an executor: run this on threads so many times, or so long. Answer: ``Raced``."""

    example: FuzzExample
    times: int
    seconds: float


class Refused(Struct, tag="refused"):
    """From an executor: what was asked for cannot be run here."""

    error: str
    exit_code: int


class Ran(Struct, tag="ran"):
    """From an executor."""

    trial: Trial


class Polished(Struct, tag="polished"):
    """From an executor."""

    failure: Failure


class Raced(Struct, tag="raced"):
    """From an executor: how many races there were, and how many failed."""

    races: int
    failed: int


Request = Run | Polish | Race
Answer = Ran | Polished | Raced | Refused


class Assignment(Struct, tag="assignment"):
    """To a worker, first: what it does. ``share`` of ``shares``: no two workers draw the same programs."""

    parent: int
    seed: int
    share: int
    shares: int
    schemes: list[str]
    geometries: list[tuple[int, ...]]
    bugs: list[str]
    knobs: dict[str, int | str]
    seconds: float
    schedules: int
    rounds: int
    race_every: int
    shrink_s: float
    hang_s: float
    database: str


class Known(Struct, tag="known"):
    """To a worker: somebody else has this failure already."""

    signature: Signature


class Stop(Struct, tag="stop"):
    """To a worker: end now."""


class Share(Struct):
    """What was run under one scheme. ``digests``: of programs that the worker had not run under it before."""

    programs: int = 0
    executions: int = 0
    digests: list[int] = []


class Progress(Struct, tag="progress"):
    """From a worker: what came since its last message. ``schemes``: what of it under each."""

    schemes: dict[str, Share]
    programs: int
    executions: int
    operations: int
    points: int
    unknown: int
    pairs: list[tuple[str, str]]
    overlaps: list[tuple[int, int, int]]
    restarts: int
    corpus: int


class Found(Struct, tag="found"):
    """From a worker: a failure, as it was found or, ``final``, as it is shrunk. ``raw``: as it was found."""

    raw: Signature
    failure: Failure
    final: bool


class Again(Struct, tag="again"):
    """From a worker: ``count`` more of a failure that is known."""

    raw: Signature
    count: int


class Done(Struct, tag="done"):
    """From a worker, last. ``error``: why it could not go on; empty if nothing was wrong."""

    error: str = ""
    exit_code: int = 0


ToWorker = Assignment | Known | Stop
FromWorker = Progress | Found | Again | Done


class Closed(PtstressError):
    """The other side is gone."""


class Reader:
    """Frames from a descriptor, which is read without blocking."""

    def __init__(self, fd: int, kind: object) -> None:
        self.fd = fd
        self.decoder = msgspec.msgpack.Decoder(kind)
        self.buffer = bytearray()
        os.set_blocking(fd, False)

    def fill(self, seconds: float) -> bool:
        """Wait so long for bytes. Whether there were some. Raises ``Closed`` at the end of the stream."""
        if not select.select([self.fd], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self.fd, 1 << 20)
        except BlockingIOError:
            return False
        if not data:
            raise Closed("the other side is gone")
        self.buffer += data
        return True

    def next(self) -> object | None:
        """The next whole frame among the bytes that are there, or ``None``."""
        if len(self.buffer) < _LENGTH_BYTES:
            return None
        end = _LENGTH_BYTES + int.from_bytes(self.buffer[:_LENGTH_BYTES], "little")
        if len(self.buffer) < end:
            return None
        frame = self.decoder.decode(self.buffer[_LENGTH_BYTES:end])
        del self.buffer[:end]
        return frame

    def wait(self, poll_s: float, give_up: Callable[[], bool]) -> object | None:
        """The next frame; ``None`` when ``give_up``, asked every ``poll_s``, says so. Raises ``Closed``."""
        while (frame := self.next()) is None:
            if give_up():
                return None
            self.fill(poll_s)
        return frame


def take_stdout() -> int:
    """A descriptor of stdout for messages alone: what anybody prints goes to stderr from now on."""
    fd = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return fd


def send(fd: int, message: Struct) -> None:
    """Write one frame. Raises ``Closed`` if nobody reads any more."""
    data = msgspec.msgpack.encode(message)
    view = memoryview(len(data).to_bytes(_LENGTH_BYTES, "little") + data)
    try:
        while view:
            view = view[os.write(fd, view) :]
    except BrokenPipeError:
        raise Closed("the other side is gone") from None
