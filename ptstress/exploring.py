"""The verb ``explore``: schedules of small programs on a build that has schedule points."""

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from msgspec import Struct

from ptstress.causality import causality_lines
from ptstress.driver import Stopper
from ptstress.engine import load_engine, load_explorer
from ptstress.errors import ExitCode, UsageError
from ptstress.evidence import Causality, Odds, Shrunk, odds_lines, shrunk_lines
from ptstress.failure_folder import failure_files
from ptstress.generator import generate
from ptstress.lab import KNOBS, MAX_STEPS, PREEMPTIONS, TREES, Lab, invariants_of
from ptstress.outcome_table import OutcomeCount
from ptstress.program import Program, parse
from ptstress.results import ResultsFolder
from ptstress.schedule import Replay, encode
from ptstress.schemes import unmodelled
from ptstress.units import format_count, format_geometry

#: Schedules of each generated program before the next one. First many programs are looked at, because
#: most bugs show in any of some programs; a long exploration looks deeper into each, which is also faster.
FIRST_SCHEDULES = 2
DEEPER_EVERY = 256
MOST_DEEPER = 7
DEFAULT_GEOMETRY = "2x2x2x4"
POLICIES = ("random", "pct", "pos", "dfs", "dpor", "states")


@dataclass(frozen=True)
class ExploreRequest:
    """The command line of ``explore``. ``program``: a file or text; ``None``: generated ones.

    ``preemptions``: in one execution, at most, of the policy dfs.
    """

    program: str | None
    scheme: str
    geometry: tuple[int, ...]
    bugs: tuple[str, ...]
    executions: int | None
    seconds: float | None
    seed: int
    policy: str
    preemptions: int = PREEMPTIONS
    knobs: tuple[tuple[str, int | str], ...] = KNOBS
    build: str = "sched"


class ExploreFailure(Struct):
    """The first failure. ``executions_to_first``: how many executions it took, itself included. ``headline``: see ``headline``.

    ``invariants``: numbers of those that were reported as broken, each once, in that order. ``shrunk``, ``odds``, ``causality``:
    if somebody wanted to know; then all but ``executions_to_first`` is of the simpler failure.
    """

    oracle: str
    invariants: list[int]
    replay: str
    executions_to_first: int
    program: str
    what: str
    story: list[str]
    headline: str
    expected: list[str]
    shrunk: Shrunk | None = None
    odds: Odds | None = None
    causality: Causality | None = None


class ExploreSummary(Struct):
    """What an exploration saw. Of the policy dfs: ``preemptions``, the bound, and ``stores``, how plain stores waited.

    Of policies that end: ``cut``, executions that were given up because all that could follow had been explored, and
    ``estimate``, about how many executions there are in all. ``outcomes``: of the one program; ``None``: there were many.
    ``states``: that the policy states has told apart.
    """

    verdict: str
    exit_code: int
    scheme: str
    geometry: str
    bugs: list[str]
    seed: int
    policy: str
    programs: int
    executions: int
    seconds: float
    executions_per_second: float
    points_mean: float
    distinct: int
    exhausted: bool
    stop_reason: str
    failures: list[ExploreFailure]
    preemptions: int | None = None
    stores: str = ""
    cut: int = 0
    estimate: int | None = None
    states: int | None = None
    notes: list[str] = []
    outcomes: OutcomeCount | None = None
    build: str = "sched"
    schema: str = "ptstress.explore/1"


@dataclass(frozen=True)
class Found:
    """A failure: an execution, as the explorer describes it, of a program."""

    program: Program
    execution: dict


class Total:
    """Sums over programs, and how long it all took."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.programs = self.executions = self.points = self.distinct = self.cut = 0
        self.done = 0.0             # part of the tree of the last program
        self.states: int | None = None      # of the last program
        self.exhausted = False
        self.outcomes: OutcomeCount | None = None
        self.stop_reason = "executions"

    def add(self, result: dict) -> None:
        """One program more."""
        self.programs += 1
        self.executions += result["executions"]
        self.points += result["points"]
        self.distinct += result["distinct"]
        self.cut += result["outcomes"]["cut"]
        self.done = result["done"]
        self.states = result["states"]
        self.exhausted = result["exhausted"]
        self.stop_reason = result["stop_reason"]

    def summary(self, request: ExploreRequest, failure: ExploreFailure | None) -> ExploreSummary:
        """Of an exploration that ended with ``failure``, or without one."""
        # A planted bug that was not found, a program that was not explored to its end as it was to be: silence proves nothing.
        ends = request.program is not None and request.policy in TREES
        doubted = request.bugs or (ends and not self.exhausted)
        code = ExitCode.VIOLATION if failure else ExitCode.UNTRUSTWORTHY if doubted else ExitCode.PASS
        verdict = {ExitCode.VIOLATION: "violation", ExitCode.UNTRUSTWORTHY: "unknown"}.get(code, "pass")
        return ExploreSummary(
            verdict=verdict, exit_code=code, scheme=request.scheme,
            geometry=format_geometry(request.geometry), bugs=list(request.bugs), seed=request.seed,
            policy=request.policy, programs=self.programs, executions=self.executions, seconds=round(self.seconds, 3),
            executions_per_second=round(self.executions / self.seconds, 1) if self.seconds else 0.0,
            points_mean=round(self.points / self.executions, 1) if self.executions else 0.0, distinct=self.distinct,
            exhausted=self.exhausted, stop_reason=self.stop_reason, failures=[failure] if failure else [],
            preemptions=request.preemptions if request.policy == "dfs" else None,
            stores=_stores(request) if request.policy == "dfs" else "",
            cut=self.cut, estimate=round(self.executions / self.done) if ends and self.done else None,
            states=self.states, build=request.build, outcomes=self.outcomes,
            notes=[note for note in [unmodelled([request.scheme])] if note],
        )


def explore(request: ExploreRequest, on_progress: Callable[[str], None]) -> ExploreSummary:
    """Look for a failing schedule until one is found or the limits are reached."""
    lab = lab_for(request)
    with Stopper() as stopper:
        total, found = search(lab, request, lambda: stopper.requests > 0, on_progress)
        failure = describe(lab, found, total.executions) if found else None
    return total.summary(request, failure)


def lab_for(request: ExploreRequest) -> Lab:
    """The machine that a request asks for. Raises ``PtstressError``."""
    return Lab(request.scheme, request.geometry, request.bugs, dict(request.knobs), request.seed, request.build)


def search(
    lab: Lab, request: ExploreRequest, stopped: Callable[[], bool], on_progress: Callable[[str], None] = lambda line: None
) -> tuple[Total, Found | None]:
    """The search of ``explore``, and the failure that ended it. ``stopped`` is asked every 50 ms, and between programs.

    ``lab``: of a request that differs in program, limits, seed and policy at most; it still holds what was found.
    """
    fixed = read_program(request.program) if request.program is not None else None
    total = Total()
    begin = last_line = time.monotonic()
    for index, program in _programs(fixed, request):
        total.seconds = time.monotonic() - begin
        left = _left(request, total.executions, total.seconds)
        if left is None:
            break
        if stopped():
            total.stop_reason = "stopped"
            break
        # A drawn program gets few executions: in the time that its outcomes take, many others are looked at.
        lab.load(program, judged=fixed is not None)
        result = lab.explorer.explore(
            policy=request.policy, seed=_mixed(request.seed, index), max_steps=MAX_STEPS,
            preemption_bound=request.preemptions,
            executions=left[0] if fixed else min(left[0] or _schedules(index), _schedules(index)),
            seconds=left[1], progress=lambda _: stopped(),
        )
        total.add(result)
        total.outcomes = lab.outcomes() if fixed else None
        total.seconds = time.monotonic() - begin
        if result["failure"]:
            return total, Found(program, result["failure"])
        if fixed:
            break
        if time.monotonic() - last_line > 5:
            last_line = time.monotonic()
            on_progress(f"executions: {format_count(total.executions)}  programs: {total.programs}  failures: 0")
    return total, None


def describe(lab: Lab, found: Found, executions: int) -> ExploreFailure:
    """What ``search`` has just found, as a string that repeats it and as a story."""
    return describe_record(lab, lab.record(found.program, found.execution), executions)


def describe_record(lab: Lab, record: Replay, executions: int) -> ExploreFailure:
    """A failing execution of the loaded program, as a string that repeats it and as a story."""
    told = lab.explain(record)
    broken = invariants_of(record.outcome, lab.view.reports())
    return ExploreFailure(
        told.oracle, broken, encode(record), executions, record.program, told.what, list(told.story), told.headline,
        list(told.expected),
    )


def seed_for_stores(stores: str) -> int:
    """The first seed under which plain stores are ``late`` or ``eager`` in every execution of an exploration by "dfs"."""
    stores_of = load_explorer().stores_of
    return next(seed for seed in count(1) if stores_of(_mixed(seed, 0)) == stores)


def keep_failure(summary: ExploreSummary, base: Path) -> Path:
    """Write what was found into a results folder; returns it. Raises ``UsageError`` if it cannot be written."""
    folder = ResultsFolder(base)
    folder.write_testid(f"ptstress replay '{summary.failures[0].replay}'", summary.seed, load_engine(summary.build).flags())
    for failure in summary.failures:
        about = f"found by explore, policy {summary.policy}, seed {summary.seed}, at execution {failure.executions_to_first}"
        known = [*shrunk_lines(failure.shrunk), *odds_lines(failure.odds), *causality_lines(failure.causality)]
        told, files = failure_files(failure.replay, [about, *known])
        folder.write_failure(told.oracle, files)
    folder.write_summary(summary)
    return folder.path


def read_program(text: str) -> Program:
    """A program from a file of that name, or from the text itself. Raises ``UsageError``."""
    if ":" in text:
        return parse(text, "<command line>")
    try:
        return parse(Path(text).read_text(encoding="utf-8"), text)
    except OSError as error:
        form = "expected a file or text such as 'prefix: mmap(p0..p4); t0: write(p0)'"
        raise UsageError(f"program {text!r}: {form}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{text}: expected UTF-8 text") from None


def _stores(request: ExploreRequest) -> str:
    """How plain stores waited in every execution of an exploration by "dfs"."""
    return load_explorer().stores_of(_mixed(request.seed, 0)) if request.build == "sched" else "eager"


def _programs(fixed: Program | None, request: ExploreRequest) -> Iterator[tuple[int, Program]]:
    if fixed is not None:
        yield 0, fixed
        return
    index = 0
    while True:
        yield index, generate(_mixed(request.seed, index), request.geometry)
        index += 1


def _schedules(index: int) -> int:
    return FIRST_SCHEDULES << min(index // DEEPER_EVERY, MOST_DEEPER)


def _mixed(seed: int, index: int) -> int:
    """A seed for the program number ``index``: two seeds share no programs."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{index}".encode(), digest_size=7).digest())


def _left(request: ExploreRequest, executions: int, seconds: float) -> tuple[int | None, float | None] | None:
    """Executions and seconds that are left, or ``None`` if none are."""
    left_executions = None if request.executions is None else request.executions - executions
    left_seconds = None if request.seconds is None else request.seconds - seconds
    over = (left_executions is not None and left_executions <= 0) or (left_seconds is not None and left_seconds <= 0)
    return None if over else (left_executions, left_seconds)
