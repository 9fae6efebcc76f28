"""What a fuzz campaign saw: the sum of what its workers say, and the object that ``--json`` prints."""

import time
from collections import Counter
from collections.abc import Iterable

from msgspec import Struct, structs

from ptstress.errors import ExitCode
from ptstress.fuzz_example import Failure, Signature
from ptstress.fuzz_wire import Again, Found, Progress
from ptstress.results import Overlaps
from ptstress.vocabulary import Verb

TENTHS = 10


class FuzzWorker(Struct):
    """One worker. ``distinct``: programs that it ran once or more; ``restarts``: of its executor."""

    number: int
    programs: int = 0
    distinct: int = 0
    executions: int = 0
    operations: int = 0
    corpus: int = 0
    restarts: int = 0
    lost: int = 0


class FuzzScheme(Struct):
    """What all workers ran under one scheme. ``distinct``: programs, in union; ``failures``: distinct ones."""

    name: str
    programs: int = 0
    distinct: int = 0
    executions: int = 0
    failures: int = 0


class Coverage(Struct):
    """Pairs of accesses that followed each other; ``growth``: how many at each tenth of the time."""

    pairs: int = 0
    growth: list[int] = []


class FuzzFailure(Struct):
    """One distinct failure; ``count``: how often it came. ``replay``: the command that repeats it."""

    signature: str
    oracle: str
    replay: str
    path: str
    program: str
    scheme: str
    what: str
    count: int
    repeats: str


class FuzzSummary(Struct):
    """A whole campaign."""

    verdict: str
    exit_code: int
    schemes: list[str]
    geometries: list[str]
    bugs: list[str]
    profile: str
    seed: int
    duration_s: float
    workers: list[FuzzWorker]
    programs: int
    distinct: int
    executions: int
    executions_per_second: float
    operations: int
    operations_per_second: float
    points: int
    unknown: int
    coverage: Coverage
    overlaps: Overlaps
    failures: list[FuzzFailure]
    stop_reason: str
    results: str
    database: str
    by_scheme: list[FuzzScheme] = []
    notes: list[str] = []
    schema: str = "ptstress.fuzz/1"


class Kept(Struct):
    """A failure in the campaign's memory. ``final``: shrunk."""

    failure: Failure
    final: bool = False
    count: int = 1


class Tally:
    """The sum so far. Failures are the same if they are when shrunk."""

    def __init__(self, workers: int) -> None:
        self.begin = time.monotonic()
        self.workers = [FuzzWorker(number) for number in range(workers)]
        self.schemes: dict[str, FuzzScheme] = {}
        self._run_by: list[set[int]] = [set() for _ in range(workers)]
        self._run_under: dict[str, set[int]] = {}
        self.pairs: set[tuple[str, str]] = set()
        self.overlaps: dict[tuple[int, int], int] = {}
        self.points = self.unknown = 0
        self.failures: dict[Signature, Kept] = {}
        self._curve: list[tuple[float, int]] = []

    def progress(self, number: int, p: Progress) -> None:
        """Take in what a worker did since its last message."""
        worker = self.workers[number]
        worker.programs += p.programs
        worker.executions += p.executions
        worker.operations += p.operations
        worker.restarts += p.restarts
        worker.corpus = p.corpus
        self.points += p.points
        self.unknown += p.unknown
        for name, share in p.schemes.items():
            self._run_by[number].update(share.digests)
            self._run_under.setdefault(name, set()).update(share.digests)
            scheme = self.schemes.setdefault(name, FuzzScheme(name))
            scheme.programs += share.programs
            scheme.executions += share.executions
            scheme.distinct = len(self._run_under[name])
        worker.distinct = len(self._run_by[number])
        before = len(self.pairs)
        self.pairs.update(p.pairs)
        if len(self.pairs) > before:
            self._curve.append((time.monotonic() - self.begin, len(self.pairs)))
        for a, b, n in p.overlaps:
            self.overlaps[a, b] = self.overlaps.get((a, b), 0) + n

    @property
    def distinct(self) -> int:
        """Programs, in the union of what all workers ran."""
        return len(set().union(*self._run_by))

    def by_scheme(self, names: Iterable[str]) -> list[FuzzScheme]:
        """What was run under each of these, and how much failed."""
        failed = Counter(kept.failure.example.scheme for kept in self.distinct_failures())
        shares = (self.schemes.get(name) or FuzzScheme(name) for name in names)
        return [structs.replace(share, failures=failed[share.name]) for share in shares]

    def found(self, message: Found) -> bool:
        """Take in a failure; whether nobody had it before."""
        kept = self.failures.get(message.raw)
        if kept is None:
            self.failures[message.raw] = Kept(message.failure, message.final)
            return True
        if message.final and (not kept.final or _size(message.failure) < _size(kept.failure)):
            kept.failure, kept.final = message.failure, True
        return False

    def again(self, message: Again) -> None:
        """Count a known failure."""
        if message.raw in self.failures:
            self.failures[message.raw].count += message.count

    def distinct_failures(self) -> list[Kept]:
        """The failures, each once, the first found first."""
        kept: dict[str, Kept] = {}
        for one in self.failures.values():
            same = kept.setdefault(one.failure.name, one)
            if same is not one:
                same.count += one.count
        return list(kept.values())

    def growth(self, duration_s: float) -> list[int]:
        """Pairs at each tenth of the time."""
        ends = [duration_s * tenth / TENTHS for tenth in range(1, TENTHS + 1)]
        return [max((n for at, n in self._curve if at <= end or end == ends[-1]), default=0) for end in ends]

    def met(self, duration_s: float) -> Overlaps:
        """Overlaps by pair of verbs, the most frequent first."""
        ordered = sorted(self.overlaps.items(), key=lambda item: -item[1])
        total = sum(self.overlaps.values())
        names = {f"{Verb(a).label}/{Verb(b).label}": n for (a, b), n in ordered}
        return Overlaps(total, round(total / duration_s, 1) if duration_s else 0.0, names)


def verdict_of(failures: int, overlaps: int, bugs: int, missing: int = 0) -> tuple[str, ExitCode]:
    """Verdict and exit code: a campaign in which nothing met, or that missed a planted bug, proves nothing.

    Nor does one in which so many schemes are ``missing`` executions that were asked for.
    """
    if failures:
        return "violation", ExitCode.VIOLATION
    if bugs or missing or not overlaps:
        return "unknown", ExitCode.UNTRUSTWORTHY
    return "pass", ExitCode.PASS


def _size(failure: Failure) -> tuple[int, int]:
    text = failure.example.program.text()
    return text.count("("), len(text)
