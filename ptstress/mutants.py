"""The mutation score of the oracles: how many of the engine's mutants they kill, and why the others live.

``mutants.toml`` beside this module says of mutants that nobody can kill why that is so; of orderings ``ptstress.orderings`` says
it too. Each entry must still fit: one that names no mutant, or one that was killed, is an error in it and is shown.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from msgspec import Struct
from msgspec.structs import replace

from ptstress.bugs import BUGS
from ptstress.driver import Stopper
from ptstress.errors import ExitCode, UsageError
from ptstress.lab import KNOBS, MAX_STEPS, Lab
from ptstress.mutant import Mutant
from ptstress.mutant_build import built, load_mutants, mutants_of_engine
from ptstress.mutant_hunt import FURTHER, ROUNDS, Round, Verdict, hunt, profile
from ptstress.mutant_jobs import GEOMETRY, Job, all_jobs
from ptstress.mutant_operators import OPERATORS
from ptstress.orderings import find_places, reason_of
from ptstress.program import parse
from ptstress.texttable import aligned
from ptstress.tomlfile import load_toml
from ptstress.units import format_count, format_seconds
from ptstress.workload import Strict

#: What the score must be at least.
WANTED = 0.9
#: Executions with a planted bug that both engines must repeat step by step.
TRACES = 6
_TELL_EVERY_S = 10.0


class Reason(Strict):
    """Why mutants live. ``mutants``: beginnings of their keys (``Mutant.key``).

    ``equivalent``: no program and no schedule can tell them from the engine. Otherwise something could, which is not modelled or
    which the explorer cannot see, as ``because`` says.
    """

    because: str
    mutants: list[str]
    equivalent: bool = False

    def fits(self, mutant: Mutant) -> bool:
        """Whether it is about this one."""
        return any(mutant.key.startswith(begin) for begin in self.mutants)

    def stale(self, mutants: Iterable[Mutant]) -> list[str]:
        """Its keys that no mutant has."""
        return [begin for begin in self.mutants if not any(m.key.startswith(begin) for m in mutants)]


class Reasons(Strict):
    """The file."""

    reason: list[Reason] = []


class Hunted(Struct):
    """A mutant, and how many executions it was hunted for."""

    id: str
    file: str
    line: int
    function: str
    text: str
    change: str
    executions: int


class Survivor(Hunted):
    """A mutant that lived. ``because``: why nobody can kill it; empty: nobody knows. ``reached``: by how many jobs."""

    reached: int
    equivalent: bool = False
    because: str = ""


class Killed(Hunted):
    """A mutant that an oracle found. ``replay``: the execution, for an engine with this mutant."""

    by: str
    invariant: int
    what: str
    label: str
    scheme: str
    policy: str
    program: str
    replay: str
    again: bool
    story: list[str] = []


class OperatorRow(Struct):
    """One operator, over all of its places. ``explained``: of those that survived and are not equivalent."""

    operator: str
    name: str
    places: int = 0
    killed: int = 0
    equivalent: int = 0
    explained: int = 0
    unexplained: int = 0
    executions: int = 0


class Control(Struct):
    """The engine of the mutants with none of them: what it reported, and whether its traces are those of the ``sched`` build."""

    executions: int
    failures: list[str]
    traces: int
    same_traces: int


class MutantsSummary(Struct):
    """All of them. ``score``: killed of those that are not equivalent. ``wrong``: what does not fit in ``mutants.toml``."""

    verdict: str
    exit_code: int
    score: float
    places: int
    seed: int
    executions: int
    seconds: float
    control: Control
    operators: list[OperatorRow]
    oracles: dict[str, int]
    survivors: list[Survivor]
    killed: list[Killed]
    wrong: list[str]
    stopped: bool = False
    schema: str = "ptstress.mutants/1"


@dataclass(frozen=True)
class MutantsRequest:
    """The command line. ``names``: operators such as M11 or mutants such as M11.04; none: all."""

    names: tuple[str, ...]
    workers: int
    seed: int


def measure_mutants(request: MutantsRequest, tell: Callable[[str], None]) -> MutantsSummary:
    """Hunt the mutants. Raises ``UsageError`` for an unknown name, ``UnsupportedError`` if nothing can be compiled here."""
    mutants = mutants_of_engine()
    chosen = choose(mutants, request.names)
    reasons = [*load_reasons(), *ordering_reasons(mutants)]
    if not built():
        tell("mutants  building an engine with all of them: minutes, once for each state of the engine")
    engine = load_mutants()
    jobs = all_jobs(request.seed)
    begin = time.monotonic()
    with Stopper() as stopper:
        tell(f"mutants  {len(chosen)}, after a control without any")
        control, seen = _control(engine, jobs, request.seed, lambda: stopper.requests > 0)
        verdicts: list[Verdict] = []
        if not control.failures and control.same_traces == control.traces and not stopper.requests:
            found = hunt(engine, chosen, jobs, seen, request.seed, request.workers, lambda: stopper.requests > 0,
                         lambda mutant: _rounds(reason_for(mutant, reasons)), story=len(chosen) == 1)
            verdicts = list(_told(found, len(chosen), tell))
        stopped = stopper.requests > 0
    whole = not request.names and not stopped
    return summarize(chosen, verdicts, control, reasons, request.seed, time.monotonic() - begin, whole, stopped)


def choose(mutants: list[Mutant], names: Iterable[str]) -> list[Mutant]:
    """Those of these operators or ids, or all. Raises ``UsageError``."""
    wanted = set(names)
    found = [m for m in mutants if not wanted or m.id in wanted or m.operator in wanted]
    for name in names:
        if not any(name in (m.id, m.operator) for m in mutants):
            raise UsageError(f"mutant {name!r}: expected an operator, M01 to M15, or one such as {mutants[0].id}")
    return found


def load_reasons(path: Path | None = None) -> list[Reason]:
    """What is known of survivors: of the packaged file, or of another one. Raises ``UsageError``."""
    reasons, _ = load_toml(path or Path(__file__).with_name("mutants.toml"), Reasons)
    return reasons.reason


def ordering_reasons(mutants: Iterable[Mutant]) -> list[Reason]:
    """Why orderings may go, as ``explore --weaken`` knows it: something else keeps the same promise."""
    places = find_places()
    found = []
    for mutant in mutants:
        known = [reason_of(p) for p in places if (f"{p.module}.pxd", p.function) == (mutant.file, mutant.function)]
        if mutant.operator == "M14" and known and all(known):
            found.append(Reason(known[0], [mutant.key], equivalent=True))
    return found


def reason_for(mutant: Mutant, reasons: Iterable[Reason]) -> Reason | None:
    """Why it lives, if it does: the first that fits."""
    return next((r for r in reasons if r.fits(mutant)), None)


def _rounds(reason: Reason | None) -> Sequence[Round]:
    """What is called equivalent is given up sooner."""
    return ROUNDS if reason and reason.equivalent else (*ROUNDS, *FURTHER)


def summarize(
    mutants: list[Mutant], verdicts: Iterable[Verdict], control: Control, reasons: list[Reason], seed: int, seconds: float,
    whole: bool, stopped: bool,
) -> MutantsSummary:
    """Add up. ``whole``: all mutants were hunted, so that each reason must fit."""
    by_number = {m.number: m for m in mutants}
    rows = {operator: OperatorRow(operator, name) for operator, name, _ in OPERATORS}
    survivors: list[Survivor] = []
    killed: list[Killed] = []
    oracles: Counter[str] = Counter()
    wrong = []
    verdicts = sorted(verdicts, key=lambda v: v.number)
    for verdict in verdicts:
        mutant = by_number[verdict.number]
        row = rows[mutant.operator]
        row.places += 1
        row.executions += verdict.executions
        reason = reason_for(mutant, reasons)
        where = (mutant.id, mutant.file, mutant.line, mutant.function, mutant.text, mutant.change,
                 verdict.executions)
        if verdict.by:
            row.killed += 1
            oracles[verdict.by] += 1
            killed.append(Killed(*where, verdict.by, verdict.invariant, verdict.what, verdict.label,
                                 verdict.scheme, verdict.policy, verdict.program, verdict.replay, verdict.again, verdict.story))
            if reason and reason.equivalent:
                wrong.append(f"{mutant.id} was killed by {verdict.by}, and is called equivalent: {reason.because}")
            continue
        row.equivalent += bool(reason and reason.equivalent)
        row.explained += bool(reason and not reason.equivalent)
        row.unexplained += reason is None
        survivors.append(Survivor(*where, verdict.reached, bool(reason and reason.equivalent),
                                  reason.because if reason else ""))
    if whole:
        wrong += [f"no mutant is called {begin!r}" for reason in reasons for begin in reason.stale(mutants)]
    places, equivalent = sum(r.places for r in rows.values()), sum(r.equivalent for r in rows.values())
    score = len(killed) / (places - equivalent) if places > equivalent else 0.0
    control = replace(control, failures=control.failures + [v.control for v in verdicts if v.control])
    broken = control.failures or control.same_traces < control.traces
    good = score >= WANTED and not wrong and not any(r.unexplained for r in rows.values()) and not stopped
    code = ExitCode.VIOLATION if broken else ExitCode.PASS if good else ExitCode.UNTRUSTWORTHY
    verdict_text = {ExitCode.VIOLATION: "violation", ExitCode.PASS: "pass"}.get(code, "unknown")
    return MutantsSummary(
        verdict_text, code, round(score, 4), places, seed, sum(r.executions for r in rows.values()), round(seconds, 1), control,
        [row for row in rows.values() if row.places], dict(oracles.most_common()), survivors, killed, wrong, stopped,
    )


def mutant_lines(s: MutantsSummary) -> list[str]:
    """The last screen."""
    alive = sum(r.explained + r.unexplained for r in s.operators)
    equivalent = sum(r.equivalent for r in s.operators)
    lines = [
        f"verdict: {s.verdict.upper()} (exit {int(s.exit_code)})  mutants: {len(s.killed)} of {s.places - equivalent} killed, "
        f"score {s.score:.1%}" + (", stopped" if s.stopped else ""),
        f"executions: {format_count(s.executions)} in {format_seconds(s.seconds)}  equivalent: {equivalent}  survivors: {alive}",
        f"control: {format_count(s.control.executions)} executions without a mutant, "
        f"{len(s.control.failures) or 'none'} failed; {s.control.same_traces} of {s.control.traces} traces as those of sched",
        *(f"control failed: {failure}" for failure in s.control.failures[:5]), "",
        *operator_table(s.operators), "",
        "killed by: " + ", ".join(f"{oracle} {count}" for oracle, count in s.oracles.items()),
    ]
    unexplained = [v for v in s.survivors if not v.because]
    if unexplained:
        lines += ["", f"{len(unexplained)} survivors without a reason:"]
        lines += [f"  {v.id}  {v.file}:{v.line} {v.function}: {v.text} -> {v.change}"
                  + ("" if v.reached else "  (never reached)") for v in unexplained]
    explained = Counter(v.because for v in s.survivors if v.because and not v.equivalent)
    if explained:
        lines += ["", "survivors with a reason:"]
        lines += [f"  {count} x {because}" for because, count in explained.most_common()]
    lines += [f"mutants.toml: {text}" for text in s.wrong]
    if len(s.killed) == 1 and s.killed[0].story:
        lines += ["", *s.killed[0].story]
    return lines


def operator_table(rows: list[OperatorRow]) -> list[str]:
    """A line for each operator."""
    table = [["operator", "places", "killed", "equivalent", "explained", "unexplained"]]
    table += [[f"{r.operator} {r.name}", str(r.places), str(r.killed), str(r.equivalent), str(r.explained), str(r.unexplained)]
              for r in rows]
    sums = [sum(getattr(r, field) for r in rows) for field in ("places", "killed", "equivalent", "explained", "unexplained")]
    return aligned([*table, ["all", *map(str, sums)]])


def _told(found: Iterable[Verdict], of: int, tell: Callable[[str], None]) -> Iterable[Verdict]:
    last, killed = time.monotonic(), 0
    for number, verdict in enumerate(found, start=1):
        killed += bool(verdict.by)
        if time.monotonic() - last > _TELL_EVERY_S:
            last = time.monotonic()
            tell(f"mutants  {number} of {of}, {killed} killed")
        yield verdict


def _control(
    engine: ModuleType, jobs: list[Job], seed: int, stopped: Callable[[], bool]
) -> tuple[Control, list[dict[int, float]]]:
    """Without a mutant: all jobs a little, then as many executions as a mutant that survives gets, then some traces."""
    measured = profile(engine, jobs, seed, stopped)
    nobody = Mutant("", "", "", 0, "", "")
    everywhere = [{0: sum(of_job.values())} for of_job in measured.seen]
    hunted = list(hunt(engine, [nobody], jobs[: len(everywhere)], everywhere, seed, 1, stopped, lambda _: _rounds(None)))
    failures = measured.failures + [f"{v.label} under {v.scheme}: {v.what}" for v in hunted if v.by]
    numbers = range(0, len(BUGS), len(BUGS) // TRACES)[:TRACES]
    same = [] if stopped() else [_same_trace(engine, number, seed) for number in numbers]
    executions = measured.executions + sum(v.executions for v in hunted)
    return Control(executions, failures, len(same), sum(same)), measured.seen


def _same_trace(engine: ModuleType, number: int, seed: int) -> bool:
    """Whether a planted bug shows in the same execution, step by step, in the ``sched`` build and in this one."""
    bug = BUGS[number]
    engine.mutant_switch(0)
    program = parse(bug.program, "<bug>")
    theirs, ours = (Lab(bug.scheme, GEOMETRY, (bug.id,), dict(KNOBS), seed) for _ in range(2))
    ours.engine = engine
    theirs.load(program)
    ours.load(program)
    found = theirs.explorer.explore(policy="random", seed=seed, max_steps=MAX_STEPS, executions=5000)["failure"]
    if found is None:
        return False
    again = ours.explorer.replay(
        found["choices"], found["seed"], trace=False, max_steps=found["max_steps"], steps_only=found["steps_only"])
    return again["outcome"] == found["outcome"] and again["hash"] == found["hash"]
