"""The verb ``compare``: workloads under several schemes in turns, each run checked, and what they cost side by side."""

import os
import platform
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
from msgspec import structs

from ptstress import __version__
from ptstress.bench import busy_warning, machine_name
from ptstress.compare_markdown import markdown_text
from ptstress.compare_page import page_text
from ptstress.compare_summary import Cell, CompareSummary, Repetition, summarize_row
from ptstress.driver import Outcome, Sample, Stopper, run_job
from ptstress.errors import ExitCode, UsageError
from ptstress.failures import keep_failures
from ptstress.hdrlog import Interval, log_text
from ptstress.histogram import Histogram
from ptstress.layout import Counter
from ptstress.plan import Overrides, StagePlan, distinct_stages, plan_run
from ptstress.report import status_line
from ptstress.results import Canaries, ResultsFolder
from ptstress.running import check_build, command_line, flags_of, refuse_silent_bugs
from ptstress.statusline import StatusLine
from ptstress.units import format_geometry
from ptstress.verdict import VERDICTS, summarize_stage, worst
from ptstress.workload import Source, load_workload

MIN_SCHEMES = 2
DEFAULT_BUILD = "fast"
PAGE, MARKDOWN = "compare.html", "compare.md"
MEANING_NOTE = "rates and means are over the racing time; table bytes are looked at every 5 ms of it"
LATENCY_NOTE = "latencies are wall-clock; with more threads than cores their tail is time slices of others"
CANARY_NOTE = "no canaries were planted: 'ptstress run' shows that such runs can fail"


@dataclass(frozen=True)
class CompareRequest:
    """The command line. ``overrides``: of every run; its scheme is not used, its seed is that of the first repetition."""

    workloads: tuple[str, ...]
    schemes: tuple[str, ...]
    repeat: int
    overrides: Overrides
    results: Path
    quiet: bool = False
    verbose: bool = False


@dataclass(frozen=True)
class Case:
    """What is compared: one workload, or one stage of it. ``given``: the workload as the command line has it."""

    name: str
    given: str
    source: Source
    stage: int

    def plan(self, overrides: Overrides) -> StagePlan:
        """The stage under the scheme of the overrides."""
        return plan_run(self.source, overrides)[self.stage]


def compare_schemes(request: CompareRequest) -> CompareSummary:
    """Run everything and write the results folder. Raises ``PtstressError`` if it cannot start."""
    cases = plan_cases(request)
    return _Comparison(request, cases).run()


def plan_cases(request: CompareRequest) -> list[Case]:
    """What is compared, seen to be possible under every scheme. Raises ``UsageError`` and the like."""
    schemes = request.schemes
    if len(set(schemes)) < MIN_SCHEMES:
        raise UsageError(
            f"--schemes {','.join(schemes)}: nothing to compare: expected two schemes or more, such as linux-6.12,linux-6.18"
        )
    if len(set(schemes)) != len(schemes):
        raise UsageError(f"--schemes {','.join(schemes)}: expected each scheme once")
    check_build(request.overrides)
    cases: list[Case] = []
    for given in dict.fromkeys(request.workloads):
        source = load_workload(given)
        plans = {scheme: plan_run(source, replace(request.overrides, scheme=scheme)) for scheme in schemes}
        refuse_silent_bugs(request.overrides.bugs, [plan for stages in plans.values() for plan in stages])
        stages = plans[schemes[0]]
        distinct = distinct_stages(stages)
        for stage in distinct:
            # Stages that differ in their scheme only go by the name of the workload.
            alone = stage == 0 and len(distinct) < len(stages) or len(stages) == 1
            name = source.workload.name if alone else f"{source.workload.name}/{stages[stage].name}"
            if name in [case.name for case in cases]:
                raise UsageError(f"workload {given!r}: another one is called {name!r} too: expected different names")
            cases.append(Case(name, given, source, stage))
    return cases


class _Comparison:
    def __init__(self, request: CompareRequest, cases: list[Case]) -> None:
        self.request = request
        self.cases = cases
        self.folder = ResultsFolder(request.results)
        self.status = StatusLine(request.quiet)
        self.load = os.getloadavg()[0]
        self.began = time.time()
        self.before: Sample | None = None
        self.duration_s = 0.0
        self.stopped = ""
        self.cells: dict[tuple[str, str], Cell] = {}
        for case in cases:
            for scheme in request.schemes:
                plan = case.plan(self._overrides(scheme, 0))
                self.duration_s = max(self.duration_s, plan.job.duration_s)
                geometry = format_geometry(plan.geometry)
                self.cells[case.name, scheme] = Cell(case.name, scheme, plan.scheme.parts, geometry, plan.threads)

    def run(self) -> CompareSummary:
        """All repetitions. What there is by then is written whatever ends them: a signal, or an error."""
        request = self.request
        self.folder.log("start", workloads=list(request.workloads), schemes=list(request.schemes), seed=request.overrides.seed)
        try:
            self._take_turns()
        finally:
            summary = self._write()
        return summary

    def _take_turns(self) -> None:
        """Repetition by repetition, workload by workload, one scheme after the other."""
        request = self.request
        turns = [(n, case, scheme) for n in range(request.repeat) for case in self.cases for scheme in request.schemes]
        with Stopper() as stopper, self.status:
            for at, (number, case, scheme) in enumerate(turns):
                if not self.cells[case.name, scheme].failed:
                    head = f"compare {at + 1}/{len(turns)}  {case.name}  {scheme}"
                    self._repeat(number, case, scheme, stopper, head)
                if stopper.requests:
                    self.stopped = f"stopped early, in run {at + 1} of {len(turns)}"
                    break

    def _write(self) -> CompareSummary:
        """Histograms, page, tables and summary."""
        summary = self._summary()
        self.folder.write_text(PAGE, page_text(summary, self.cells))
        self.folder.write_text(MARKDOWN, markdown_text(summary))
        self.folder.write_summary(summary)
        self.folder.log("end", verdict=summary.verdict, exit_code=summary.exit_code)
        return summary

    def _overrides(self, scheme: str, number: int) -> Overrides:
        return replace(self.request.overrides, scheme=scheme, seed=self.request.overrides.seed + number)

    def _repeat(self, number: int, case: Case, scheme: str, stopper: Stopper, head: str) -> None:
        cell, overrides = self.cells[case.name, scheme], self._overrides(scheme, number)
        plan = case.plan(overrides)
        start_s, self.before = time.time() - self.began, None
        job = structs.replace(plan.job, measure=True)
        outcome = run_job(job, stopper, lambda sample: self._on_sample(head, sample), self.status.interval_s)
        stage = summarize_stage(plan, outcome, Canaries(note=CANARY_NOTE))
        if stage.exit_code in (ExitCode.VIOLATION, ExitCode.KILLED):
            replay = command_line(case.given, overrides, plan.threads)
            keep_failures(self.folder, plan, case.source, stage, outcome, replay)
        elif stopper.requests:
            return      # a part of a run is no figure
        cell.stages.append(stage)
        repetition = repetition_of(number, start_s, stage, outcome)
        if cell.failed:
            cell.repetitions.clear()    # figures of something that is wrong
        elif repetition:
            cell.repetitions.append(repetition)
        self.folder.log(
            "run", workload=case.name, scheme=scheme, repetition=number, verdict=stage.verdict, operations=stage.ops.total,
            per_second=repetition.per_second if repetition else None, tables=msgspec.to_builtins(stage.tables),
        )
        if outcome.result and not (self.folder.path / "testid.txt").exists():
            self.folder.write_testid(self._command(), self.request.overrides.seed, outcome.result.flags)

    def _command(self) -> str:
        """The command that does all of this again."""
        r, o = self.request, self.request.overrides
        turns = ["--schemes", ",".join(r.schemes), "--repeat", str(r.repeat)]
        return shlex.join(["ptstress", "compare", *r.workloads, *turns, *flags_of(o, o.threads, DEFAULT_BUILD)])

    def _on_sample(self, head: str, sample: Sample) -> None:
        self.status.show(status_line(head, sample, self.before), keep=self.request.verbose or self.before is None)
        self.before = sample

    def _summary(self) -> CompareSummary:
        request, rows = self.request, []
        for case in self.cases:
            for scheme in request.schemes:
                cell = self.cells[case.name, scheme]
                rows.append(summarize_row(cell, self.cells[case.name, request.schemes[0]], self._write_histograms(cell)))
        codes = [ExitCode(s.exit_code) for cell in self.cells.values() for s in cell.stages]
        unmeasured = ", ".join(f"{c.workload} under {c.scheme}" for c in self.cells.values() if not c.stages)
        code = worst([*codes, *([ExitCode.UNTRUSTWORTHY] if unmeasured else [])])
        found = [self.stopped, f"not measured: {unmeasured}" if unmeasured else "", busy_warning(self.load)]
        return CompareSummary(
            verdict=VERDICTS[code], exit_code=code, workloads=[case.name for case in self.cases], schemes=list(request.schemes),
            build=request.overrides.build, seed=request.overrides.seed, repeat=request.repeat, duration_s=self.duration_s,
            rows=rows,
            machine=machine_name(), kernel=f"{platform.system()} {platform.release()}",
            date=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(self.began)), version=__version__, load=self.load,
            notes=[*filter(None, found), MEANING_NOTE, LATENCY_NOTE, CANARY_NOTE],
            failure=next((row.failure for row in rows if row.failure), None), results=str(self.folder.path), page=PAGE,
        )

    def _write_histograms(self, cell: Cell) -> str:
        """The latencies of a cell: one interval for each repetition, with a tag for each operation. Returns the file's name."""
        if not cell.repetitions:
            return ""
        name = f"{cell.workload}-{cell.scheme}.hlog".replace("/", "-")
        intervals = [
            Interval(verb, r.start_s, r.stage.duration_s, histogram)
            for r in cell.repetitions for verb, histogram in r.latency.items()
        ]
        about = f"ptstress {__version__}: {cell.workload} under {cell.scheme}, nanoseconds"
        self.folder.write_text(name, log_text(intervals, self.began, about))
        return name


def repetition_of(number: int, start_s: float, stage, outcome: Outcome) -> Repetition | None:
    """The figures of a run, or ``None`` if it has not come to an end of its own."""
    result = outcome.result
    if result is None or result.measured is None:
        return None
    measured = result.measured
    latency = {verb: Histogram.of_ticks(pairs, measured.ns_per_tick) for verb, pairs in measured.latency.items()}
    stalls = outcome.view.total(Counter.RCU_BACKPRESSURE)
    return Repetition(number, start_s, result.race_ns / 1e9, result.raced, stalls, stage, measured, latency)


def compare_lines(s: CompareSummary, out: Callable[[str], None]) -> None:
    """What stands below the tables."""
    out(f"verdict: {s.verdict.upper()} (exit {int(s.exit_code)})  compare of {', '.join(s.schemes)}")
    for row in s.rows:
        for note in row.notes:
            out(f"  {row.workload} under {row.scheme}: {note}")
    if s.failure:
        what, _, _ = s.failure.what.partition("\n")
        out(f"failure: {s.failure.oracle}: {what}")
    for note in s.notes:
        out(f"note: {note}")
    out(f"results: {s.results}  (page: {s.results}/{s.page})")
    if s.failure:
        out(f"next: read {s.failure.path}/description.txt; again: {s.failure.replay}")
