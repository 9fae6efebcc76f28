"""What a hunt says in the end: a row for each bug, mode and policy, the silence of the clean engine, totals, the verdict."""

from collections import Counter
from collections.abc import Iterable, Sequence
from math import inf, isfinite

from msgspec import Struct

from ptstress.compare_statistics import Estimate, estimate
from ptstress.errors import ExitCode
from ptstress.exploring import ExploreFailure
from ptstress.hunt_wire import DIRECTED, Attempt, Repeated, Scenario

#: The clean engine must be silent for so many times the executions that the bug took, and for so many at least.
CLEAN_TIMES = 100
CLEAN_LEAST = 1000


class Row(Struct):
    """A bug in a mode under a policy. ``seeds``: how many there were to be tried.

    ``clean``: how many times the median of executions to the first find the clean engine was silent; ``None``: to the end of all
    schedules, or nothing was found.
    """

    bug: str
    mode: str
    scenario: Scenario
    seeds: int
    attempts: list[Attempt] = []
    repeated: Repeated | None = None
    executions: Estimate | None = None
    seconds: Estimate | None = None
    clean: float | None = None

    @property
    def found(self) -> int:
        """From how many seeds."""
        return sum(attempt.found for attempt in self.attempts)

    @property
    def every(self) -> bool:
        """From every seed."""
        return self.found == self.seeds

    @property
    def median(self) -> float:
        """Executions to the first find, of the seeds that had one."""
        found = estimate([attempt.executions for attempt in self.attempts if attempt.found])
        return found.median if found else 0.0

    @property
    def oracles(self) -> list[str]:
        """Who found it, most often first."""
        return [name for name, _ in Counter(a.oracle for a in self.attempts if a.found).most_common()]

    @property
    def wrong(self) -> list[str]:
        """Who reported something that the bug should not lead to."""
        return sorted({a.oracle for a in self.attempts if a.oracle and not a.found})

    def close(self, silence: "Silent | None") -> None:
        """Fill in what follows from the attempts."""
        self.executions = _to_first(self.attempts, "executions")
        self.seconds = _to_first(self.attempts, "seconds")
        if silence and silence.run and self.median and not silence.exhausted:
            self.clean = round(silence.executions / self.median, 1)


class Silent(Struct):
    """A scenario without any bug. ``asked``: how many executions it was to have; ``run``: whether it had its turn.

    ``exhausted``: there was nothing more to run, from any seed.
    """

    scenario: Scenario
    asked: int = CLEAN_LEAST
    run: bool = False
    executions: int = 0
    seconds: float = 0.0
    exhausted: bool = False
    failure: ExploreFailure | None = None
    crash: str = ""

    @property
    def silent(self) -> bool:
        """Nothing was reported."""
        return self.failure is None and not self.crash

    @property
    def enough(self) -> bool:
        """For as long as was asked for."""
        return self.run and (self.exhausted or self.executions >= self.asked)

    def covers(self, row: Row) -> bool:
        """For long enough for one of its bugs."""
        return self.run and (self.exhausted or self.executions >= asked_for([row]))


class PolicyTotal(Struct):
    """Of a policy in a mode: bugs that were found from every seed, from some, and not at all, and what that took."""

    policy: str
    mode: str
    bugs: int
    every: int
    found: int
    missed: list[str]
    executions: int
    seconds: float


class HuntSummary(Struct):
    """All of it. ``reasons``: why it is no pass."""

    verdict: str
    exit_code: int
    reasons: list[str]
    bugs: int
    policies: list[str]
    modes: list[str]
    seeds: int
    seed: int
    duration_s: float
    stop_reason: str
    totals: list[PolicyTotal]
    rows: list[Row]
    clean: list[Silent]
    results: str = ""
    schema: str = "ptstress.bugs/1"


def asked_for(rows: Iterable[Row]) -> int:
    """Executions that the clean engine has to be silent for."""
    return max([CLEAN_LEAST, *(round(CLEAN_TIMES * row.median) for row in rows)])


def total(policy: str, mode: str, rows: Sequence[Row]) -> PolicyTotal:
    """The sum of the rows of a policy and a mode."""
    mine = [row for row in rows if row.scenario.policy == policy and row.mode == mode]
    attempts = [attempt for row in mine for attempt in row.attempts]
    return PolicyTotal(
        policy, mode, len(mine), sum(row.every for row in mine), sum(row.found > 0 for row in mine),
        [row.bug for row in mine if not row.found], sum(a.executions for a in attempts),
        round(sum(a.seconds for a in attempts), 3),
    )


def reasons_of(rows: Sequence[Row], clean: Sequence[Silent], stop_reason: str) -> list[str]:
    """Why a hunt is no proof that each bug would be found. The first policy must find all directed, from every seed."""
    first = rows[0].scenario.policy if rows else ""
    missed = [f"{row.bug} {row.found} of {row.seeds}" for row in rows
              if row.mode == DIRECTED and row.scenario.policy == first and not row.every]
    seen = {(row.bug, row.mode) for row in rows if row.found}
    never = list(dict.fromkeys(f"{row.bug} {row.mode}" for row in rows if (row.bug, row.mode) not in seen))
    again = [f"{row.bug} {row.mode} {row.scenario.policy}" for row in rows
             if row.found and not (row.repeated and row.repeated.always)]
    wrong = list(dict.fromkeys(f"{row.bug} {' '.join(row.wrong)}" for row in rows if row.wrong))
    silence = {silent.scenario: silent for silent in clean}
    short = [f"{row.bug} {row.mode} {row.scenario.policy}" for row in rows if not silence[row.scenario].covers(row)]
    reasons = [
        ("stopped before the end", [""] if stop_reason else []),
        (f"not found from every seed, directed under {first}", missed),
        ("found from no seed under any policy", never),
        ("not repeated each time", again),
        ("a report that is no right one", wrong),
        ("the clean engine ran too few executions for", short),
    ]
    return [f"{text}: {', '.join(names)}".rstrip(": ") for text, names in reasons if names]


def verdict_of(reasons: Sequence[str], clean: Sequence[Silent]) -> tuple[str, ExitCode]:
    """A clean engine that is not silent is the worst; what was not found makes all the rest doubtful."""
    if not all(s.silent for s in clean):
        return "violation", ExitCode.VIOLATION
    return ("unknown", ExitCode.UNTRUSTWORTHY) if reasons else ("pass", ExitCode.PASS)


def _to_first(attempts: Sequence[Attempt], field: str) -> Estimate | None:
    """With an interval. Attempts in vain count as longer than all others; nothing is known of a median that is one of them."""
    value = estimate([getattr(a, field) if a.found else inf for a in attempts])
    return value if value and isfinite(value.median) else None
