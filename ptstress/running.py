"""The verb ``run``: stages one after the other, each with its canaries, its screen and its folder."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec import structs

from ptstress.bugs import find_bugs
from ptstress.canary import count_canaries, run_canaries
from ptstress.driver import Outcome, Sample, Stopper, no_outcome, run_job
from ptstress.engine import require_build
from ptstress.errors import ExitCode, UnsupportedError, UsageError
from ptstress.failures import keep_failures
from ptstress.plan import Overrides, StagePlan, plan_run
from ptstress.reconstructing import SECONDS, is_of_the_engine, look_for_schedule, request_of
from ptstress.report import comparison, last_screen, status_line
from ptstress.results import Canaries, ResultsFolder, RunSummary, StageSummary
from ptstress.schemes import SCHEMES
from ptstress.statusline import StatusLine
from ptstress.verdict import find_canary, summarize_run, summarize_stage
from ptstress.vocabulary import EXPLORED
from ptstress.workload import Source, load_workload


@dataclass(frozen=True)
class RunRequest:
    """The command line of ``run``. ``history``: file for the history of the last ``history_bursts`` bursts of each stage.

    ``reconstruct_s``: how long to look for a schedule of a violation, 0: not at all.
    """

    workload: str
    overrides: Overrides
    results: Path
    quiet: bool = False
    verbose: bool = False
    history: str = ""
    history_bursts: int = 0
    reconstruct_s: float = SECONDS


def run_workload(request: RunRequest, out: Callable[[str], None]) -> RunSummary:
    """Run every stage and report it through ``out``. Raises ``PtstressError`` if it cannot start."""
    source = load_workload(request.workload)
    overrides = request.overrides
    check_build(overrides)
    if overrides.build == "fast":
        require_build("stress")
    plans = plan_run(source, overrides)
    refuse_silent_bugs(overrides.bugs, plans)
    folder = ResultsFolder(request.results)
    folder.log("start", workload=source.workload.name, path=str(source.path), seed=overrides.seed)
    stages: list[StageSummary] = []
    status = StatusLine(request.quiet)
    with Stopper() as stopper:
        for plan in plans:
            with status:
                stages.append(_Stage(plan, source, request, folder, stopper, status).run(_earlier(stages, plan)))
            for line in last_screen(source.workload.name, stages[-1], str(folder.path), request.workload):
                out(line)
            if stopper.requests:
                break
            if len(plans) > 1:
                out("")
    summary = summarize_run(source.workload.name, stages, str(folder.path))
    if len(plans) > 1:
        for line in comparison(summary):
            out(line)
    folder.write_summary(summary)
    folder.log("end", verdict=summary.verdict, exit_code=summary.exit_code)
    return summary


def check_build(overrides: Overrides) -> None:
    """Refuse a build that cannot run on threads, or that has not the bugs. Raises ``UsageError`` or ``UnsupportedError``."""
    require_build(overrides.build)
    if overrides.build in EXPLORED:
        raise UnsupportedError(f"build {overrides.build} runs one worker at a time: expected fast, stress or tsan")
    find_bugs(overrides.bugs)
    if overrides.build == "fast" and overrides.bugs:
        raise UnsupportedError("build fast has no bugs: plant them in build stress")


def command_line(workload: str, o: Overrides, threads: int | None) -> str:
    """The command that runs a workload in this way."""
    return shlex.join(["ptstress", "run", workload, *flags_of(o, threads)])


def flags_of(o: Overrides, threads: int | None, build: str = "stress") -> list[str]:
    """The flags that say the same. ``build``: what the verb takes without a flag."""
    words = ["--seed", str(o.seed)]
    values = (("--threads", threads), ("--scheme", o.scheme), ("--geometry", o.geometry), ("--duration", o.duration))
    for flag, value in values:
        words += [flag, str(value)] if value else []
    words += ["--build", o.build] if o.build != build else []
    for bug in o.bugs:
        words += ["--bug", bug]
    return words


def refuse_silent_bugs(bugs: tuple[str, ...], plans: list[StagePlan]) -> None:
    """A bug in code that no stage's scheme runs would survive however long the run."""
    for bug in bugs:
        if not any(plan.scheme.runs(bug) for plan in plans):
            able = ", ".join(scheme.name for scheme in SCHEMES if scheme.runs(bug))
            if not able:
                raise UsageError(f"bug {bug}: no threads show it soon: expected ptstress explore --bug {bug}")
            names = ", ".join(sorted({plan.scheme.name for plan in plans}))
            raise UsageError(f"bug {bug} sits in code that {names} never runs: expected one of {able}")


def _earlier(stages: list[StageSummary], plan: StagePlan) -> Canaries | None:
    """Canaries of an earlier stage that hold for this one too."""
    for stage in stages:
        if stage.scheme == plan.scheme.name and stage.threads == plan.threads:
            return stage.canaries
    return None


class _Stage:
    def __init__(
        self, plan: StagePlan, source: Source, request: RunRequest, folder: ResultsFolder, stopper: Stopper,
        status: StatusLine,
    ) -> None:
        self.plan = plan
        self.source = source
        self.request = request
        self.folder = folder
        self.stopper = stopper
        self.status = status
        self.before: Sample | None = None

    def run(self, earlier: Canaries | None) -> StageSummary:
        """Canaries first, so that a run that is stopped early still says what it is worth."""
        bugs = self.request.overrides.bugs
        canaries = Canaries()
        if not bugs:
            canaries = earlier or run_canaries(self.plan, self.stopper, self._on_canary)
        for item in [] if earlier else canaries.items:
            self.folder.log("canary", stage=self.plan.name, **msgspec.to_builtins(item))
        self.folder.log("stage", name=self.plan.name, scheme=self.plan.scheme.name, threads=self.plan.threads)
        if self.stopper.requests:
            outcome = no_outcome(self.plan.job)
        else:
            job = structs.replace(self.plan.job, history=self.request.history, history_bursts=self.request.history_bursts)
            outcome = run_job(job, self.stopper, self._on_sample, self.status.interval_s)
        if outcome.result:
            o = self.request.overrides
            command = command_line(self.request.workload, o, o.threads)
            self.folder.write_testid(command, self.plan.job.seed, outcome.result.flags)
        if bugs:
            # The planted bugs are the canaries of this run: it must find one of them.
            oracles = {bug.id: bug.oracles for bug in find_bugs(bugs)}
            canaries = count_canaries([find_canary(bug, oracles[bug], outcome) for bug in bugs])
        summary = summarize_stage(self.plan, outcome, canaries)
        if summary.exit_code in (ExitCode.VIOLATION, ExitCode.KILLED):
            replay = command_line(self.request.workload, self.request.overrides, self.plan.threads)
            keep_failures(self.folder, self.plan, self.source, summary, outcome, replay)
            if self.request.reconstruct_s and is_of_the_engine(outcome) and not self.stopper.requests:
                self._reconstruct(summary, outcome)
        self.folder.log("stage-end", name=self.plan.name, verdict=summary.verdict, exit_code=summary.exit_code)
        return summary

    def _reconstruct(self, summary: StageSummary, outcome: Outcome) -> None:
        """Look for a schedule of the first failure, and put it beside what threads left."""
        self.status.show(f"{self.plan.name}  looking for a schedule of {summary.failure.oracle}", keep=self.request.verbose)
        request = request_of(self.plan, outcome, self.request.reconstruct_s)
        answer = look_for_schedule(request, lambda: self.stopper.requests > 0)
        self.folder.add_to_failure(Path(summary.failure.path), answer.files)
        summary.failure.schedule = answer.found

    def _on_canary(self, bug: str) -> None:
        self.status.show(f"{self.plan.name}  canary: {bug}", keep=self.request.verbose)

    def _on_sample(self, sample: Sample) -> None:
        line = status_line(self.plan.name, sample, self.before)
        self.folder.log("status", stage=self.plan.name, **msgspec.to_builtins(sample, enc_hook=str))
        self.before = sample
        self.status.show(line)
