"""The verb ``soak``: slices without end, each in a fresh child, until it was long enough or somebody stops it."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from msgspec import json, structs

from ptstress import __version__
from ptstress.bugs import find_bugs
from ptstress.canary import count_canaries, run_canaries
from ptstress.driver import Outcome, Sample, Stopper, run_job
from ptstress.engine import require_build
from ptstress.errors import ExitCode, PtstressError, UnsupportedError, UsageError
from ptstress.failures import Kept, distinct_failures
from ptstress.memory import KB_PER_MIB, resident_kb
from ptstress.plan import StagePlan
from ptstress.reconstructing import is_of_the_engine, look_for_schedule, request_of
from ptstress.results import TESTID, Canaries, StageSummary, make_results_folder, testid_text
from ptstress.report import schedule_line
from ptstress.running import refuse_silent_bugs
from ptstress.soak_checkpoint import load_state
from ptstress.soak_evidence import parse_until, seconds_until, until_text
from ptstress.soak_journal import Journal, adopt_failures, failure_name
from ptstress.soak_matrix import make_matrix, matrix_lines
from ptstress.soak_report import junit, soak_line, soak_screen, turn_text
from ptstress.soak_rotation import Combination, Rotation, SoakRequest, make_rotation
from ptstress.soak_state import Alive, CanariesRan, Ended, FailureSeen, Resumed, SliceEnded, SoakState, Started
from ptstress.soak_summary import SoakSummary, summarize_soak
from ptstress.statusline import StatusLine
from ptstress.units import parse_duration
from ptstress.verdict import find_canary, summarize_stage
from ptstress.vocabulary import EXPLORED

#: A combination's canaries are planted again after so many slices that they speak for.
CANARIES_EVERY = 50
#: Slices that could not run, one after the other, until the soak gives up.
MAX_ERRORS = 3
BEAT_S = 1.0
#: A soak is there to race: it looks so long for schedules of what it finds, each time and in one session.
SCHEDULE_S, SCHEDULES_S = 10.0, 120.0
MATRIX = "matrix.txt"


@dataclass(frozen=True)
class Screens:
    """Where a soak shows itself. ``out``: takes the lines of the last screen."""

    out: Callable[[str], None]
    quiet: bool = False
    verbose: bool = False
    junit: Path | None = None


def soak(request: SoakRequest, results: Path, screens: Screens) -> SoakSummary:
    """Begin a soak and run it to its end. Raises ``PtstressError`` if it cannot start."""
    rotation = _check(request)
    with Stopper() as stopper:
        journal = Journal(make_results_folder(results), SoakState(request, left_out=list(rotation.left_out)))
        journal.log(Started(request=request, version=__version__, left_out=list(rotation.left_out)))
        return _Soak(rotation, journal, screens).run(stopper)


def resume(folder: Path, duration: str | None, screens: Screens) -> SoakSummary:
    """Go on with the soak in ``folder``. Raises ``PtstressError`` if that is none, is finished, or is being worked on."""
    state, notes = load_state(folder)
    request = structs.replace(state.request, duration=duration or state.request.duration)
    rotation = _check(request)
    reason = _over(request, state, len(rotation.combinations))
    if duration and reason == "until":
        request = structs.replace(request, until=None)      # that is reached, and more is asked for
        reason = _over(request, state, len(rotation.combinations))
    if reason:
        raise UsageError(f"{folder}: this soak is finished, it ended by {reason}; to go on: --duration TIME")
    # From the first line of the log on a signal asks for the report.
    with Stopper() as stopper:
        journal = Journal(folder, state)
        # Somebody may have worked on it between the first look and the lock.
        journal.state, _ = load_state(folder)
        journal.log(Resumed(request=request, version=__version__, notes=notes, at_s=state.elapsed_s))
        for event in adopt_failures(folder, journal.state):
            journal.log(event)
        return _Soak(rotation, journal, screens, notes).run(stopper)


def _check(request: SoakRequest) -> Rotation:
    """Refuse what cannot run, before anything is written."""
    require_build(request.build)
    if request.build in EXPLORED:
        raise UnsupportedError(f"build {request.build} runs one worker at a time: expected fast, stress or tsan")
    if request.build == "fast" and request.bugs:
        raise UnsupportedError("build fast has no bugs: plant them in build stress")
    find_bugs(request.bugs)
    if request.until:
        parse_until(request.until)
    if request.duration:
        parse_duration(request.duration)
    parse_duration(request.slice)
    rotation = make_rotation(request)
    refuse_silent_bugs(tuple(request.bugs), [combination.plan for combination in rotation.combinations])
    return rotation


def _over(request: SoakRequest, state: SoakState, combinations: int) -> str:
    """Why a soak has come to its end, or empty. Enough evidence is some from every combination.

    Who asks for all combinations gets them, whatever was found in one.
    """
    if request.duration and state.elapsed_s >= parse_duration(request.duration):
        return "duration"
    if request.until and parse_until(request.until).each_once:
        return "until" if state.next_slice >= combinations else ""
    if request.until:
        if any(f.exit_code == ExitCode.VIOLATION for f in state.found):
            # No silence is left to wait for.
            return "" if request.duration else "failure"
        if len(state.parts) >= combinations and state.trusted_overlaps >= parse_until(request.until).overlaps:
            return "until"
    return ""


class _Soak:
    def __init__(self, rotation: Rotation, journal: Journal, screens: Screens, notes: list[str] | None = None) -> None:
        self.rotation = rotation
        self.journal = journal
        self.screens = screens
        self.notes = notes or []
        self.request = journal.state.request
        self.began = time.monotonic()
        self.earlier_s = journal.state.elapsed_s
        self.status = StatusLine(screens.quiet)
        self.shown_at = -math.inf
        self.said: set[str] = set()
        self.errors = 0
        self.searched_s = 0.0

    @property
    def state(self) -> SoakState:
        """Where the soak stands."""
        return self.journal.state

    def run(self, stopper: Stopper) -> SoakSummary:
        """Slices until the end or a signal, then the report."""
        try:
            with self.status:
                for note in self.notes:
                    self.status.say(note)
                reason = self._slices(stopper)
            return self._report(reason)
        finally:
            self.journal.close()

    def _slices(self, stopper: Stopper) -> str:
        self.journal.checkpoint()
        self.status.say(turn_text(self.rotation))
        while not stopper.requests:
            reason = _over(self.request, self.state, len(self.rotation.combinations))
            if reason:
                return reason
            number = self.state.next_slice
            _Slice(self, self.rotation.at(number), number, stopper).run()
            self.journal.checkpoint()
            self._write_reports()
            self._say_until()
        return "stopped"

    def elapsed_s(self) -> float:
        """Age of the soak, all sessions together."""
        return round(self.earlier_s + self.session_s(), 3)

    def session_s(self) -> float:
        """Age of this process's part."""
        return time.monotonic() - self.began

    def say_once(self, key: str, line: str) -> None:
        """A line of trouble that is said when it begins."""
        if key not in self.said:
            self.said.add(key)
            self.status.say(line)

    def note_trouble(self) -> None:
        """Say once that the disk is full, and once that it is not any more."""
        if self.journal.trouble:
            self.say_once("disk", f"!!! {self.journal.trouble}; goes on, tries again each second")
        elif "disk" in self.said:
            self.said.discard("disk")
            self.status.say("disk: what was kept in memory is written")

    def _say_until(self) -> None:
        """Whether the evidence that was asked for can be had in time, as soon as every combination was seen."""
        if not self.request.until or self.state.next_slice < len(self.rotation.combinations):
            return
        until, seen = parse_until(self.request.until), self.state.trusted_overlaps
        left = parse_duration(self.request.duration) - self.elapsed_s() if self.request.duration else math.inf
        if seconds_until(until, seen, self.state.elapsed_s) > left:
            self.say_once("until", f"!!! {until_text(until, seen, self.state.elapsed_s)}; --duration ends before that")

    def _write_reports(self) -> None:
        summary = self._summary()
        self.journal.write("summary.json", json.format(json.encode(summary), indent=2) + b"\n")
        self.journal.write(MATRIX, "\n".join([*matrix_lines(summary.matrix), ""]).encode())
        self._write_junit(summary)

    def _summary(self, unwritten: bool = False) -> SoakSummary:
        summary = summarize_soak(self.state, len(self.rotation.combinations), str(self.journal.path), unwritten)
        summary.matrix = make_matrix(self.rotation, self.state, summary.stages)
        return summary

    def _write_junit(self, summary: SoakSummary) -> None:
        if not self.screens.junit:
            return
        try:
            self.journal.disk.replace(self.screens.junit, junit(summary))
        except OSError as error:
            self.say_once("junit", f"!!! --junit {self.screens.junit}: {error.strerror}")

    def _report(self, reason: str) -> SoakSummary:
        self.state.ended = reason
        summary = self._summary()
        self.journal.log(Ended(at_s=self.elapsed_s(), reason=reason, verdict=summary.verdict, exit_code=summary.exit_code))
        self.journal.checkpoint()
        summary = self._summary(unwritten=bool(self.journal.trouble))
        self._write_reports()
        for line in soak_screen(summary):
            self.screens.out(line)
        if len(summary.matrix) > 1:
            for line in ["", *matrix_lines(summary.matrix)]:
                self.screens.out(line)
        if self.journal.trouble:
            self.screens.out(f"!!! {self.journal.trouble}")
            for found in self.state.found:
                self.screens.out(f"  {found.key}, slice {found.slice}: {found.oracle}: {found.what}")
        return summary


class _Slice:
    """One slice of a soak."""

    def __init__(self, soak: _Soak, combination: Combination, number: int, stopper: Stopper) -> None:
        self.soak = soak
        self.combination = combination
        self.number = number
        self.stopper = stopper
        self.journal = soak.journal
        self.key = combination.key
        self.before: Sample | None = None
        self.paths: dict[tuple[str, str], str] = {}

    def run(self) -> None:
        """Canaries if they are due, the slice, and what it left."""
        try:
            if not self.soak.request.bugs:
                self._plant_canaries()
            if self.stopper.requests:
                return
            outcome = run_job(
                self._plan().job, self.stopper, self._on_sample, min(BEAT_S, self.soak.status.interval_s),
                on_report=lambda outcome: self._keep(outcome, self._summary(outcome)),
            )
        except PtstressError as error:
            self._failed(error)
            return
        self.soak.errors = 0
        summary = self._summary(outcome)
        if outcome.reports or outcome.kind in ("crashed", "hung") or (outcome.result and outcome.result.stuck):
            self._keep(outcome, summary)
            self._look_for_schedule(outcome)
        elif outcome.kind == "killed":
            # Cut by a stop: nobody knows what its last check covered, and it will run again.
            return
        self._end(outcome, summary)

    def _plan(self) -> StagePlan:
        """The last slice is cut to what is left, but not below half: a short one shows no pair that must meet."""
        plan = self.combination.plan
        whole = plan.job.duration_s
        if self.soak.request.duration:
            left = parse_duration(self.soak.request.duration) - self.soak.elapsed_s()
            plan = replace(plan, job=structs.replace(plan.job, duration_s=min(whole, max(whole / 2, left))))
        return plan

    def _plant_canaries(self) -> None:
        key = self.combination.canary_key
        last = self.soak.state.rounds.get(key)
        if last and last.trusted and last.slices_since < CANARIES_EVERY:
            return
        begin = time.monotonic()
        canaries = run_canaries(self.combination.plan, self.stopper, self._on_canary)
        if self.stopper.requests:
            return  # cut short: what was not asked proves nothing
        seconds = round(time.monotonic() - begin, 3)
        self.journal.log(CanariesRan(at_s=self.soak.elapsed_s(), key=key, seconds=seconds, canaries=canaries))

    def _canaries(self, outcome: Outcome) -> Canaries:
        bugs = self.soak.request.bugs
        if bugs:
            return count_canaries([find_canary(bug.id, bug.oracles, outcome) for bug in find_bugs(bugs)])
        return self.soak.state.rounds[self.combination.canary_key].canaries

    def _summary(self, outcome: Outcome) -> StageSummary:
        return summarize_stage(self.combination.plan, outcome, self._canaries(outcome))

    def _end(self, outcome: Outcome, summary: StageSummary) -> None:
        if outcome.result:
            self._write_testid(outcome.result.flags)
        clean = not outcome.reports and outcome.kind == "done" and not outcome.result.stuck
        trusted = clean and summary.canaries.found == summary.canaries.planted and not self.soak.request.bugs
        self.journal.log(SliceEnded(
            at_s=self.soak.elapsed_s(), slice=self.number, key=self.key, canary_key=self.combination.canary_key,
            kind=outcome.kind, trusted=trusted, session_s=round(self.soak.session_s(), 3),
            rss_mib=round(outcome.result.rss_kb / KB_PER_MIB, 2) if outcome.result else 0.0, summary=summary,
        ))
        self.soak.note_trouble()
        if self.soak.screens.verbose:
            self.soak.status.say(f"slice {self.number}  {self.key}  {summary.verdict}  {summary.confidence}")

    def _failed(self, error: PtstressError) -> None:
        """A slice that could not run is no pass; several in a row end the soak."""
        self.soak.errors += 1
        self.journal.log(SliceEnded(at_s=self.soak.elapsed_s(), slice=self.number, key=self.key, kind="error", error=str(error)))
        self.soak.status.say(f"!!! slice {self.number}, {self.key}: {error}")
        if self.soak.errors >= MAX_ERRORS:
            self.journal.checkpoint()
            raise error

    def _keep(self, outcome: Outcome, summary: StageSummary) -> None:
        """Keep what is new at once, the rest when the slice has ended and everything is known."""
        for kept in distinct_failures(self._plan(), self.combination.source, summary, outcome, self._replay):
            path = self.paths.get((kept.oracle, kept.what))
            if path is None:
                self._add(kept, outcome)
            elif path:
                self.journal.complete_failure(path, kept.files)
        self.soak.note_trouble()

    def _look_for_schedule(self, outcome: Outcome) -> None:
        """Of the slice's first failure, if it is new and the soak is not about to end."""
        path = next(iter(self.paths.values()), "")
        seconds = min(SCHEDULE_S, SCHEDULES_S - self.soak.searched_s)
        if self.soak.request.duration:
            seconds = min(seconds, parse_duration(self.soak.request.duration) - self.soak.elapsed_s())
        if not path or seconds <= 0 or self.stopper.requests or not is_of_the_engine(outcome):
            return
        request = request_of(self._plan(), outcome, seconds)
        answer = look_for_schedule(request, lambda: self.stopper.requests > 0, self.journal.flush)
        self.soak.searched_s += answer.found.seconds
        self.journal.complete_failure(path, answer.files)
        self.soak.status.say(schedule_line(answer.found))

    def _add(self, kept: Kept, outcome: Outcome) -> None:
        known = self.soak.state.find(kept.oracle, kept.what, self.key)
        died = outcome.kind in ("crashed", "hung") and not outcome.reports
        event = FailureSeen(
            at_s=self.soak.elapsed_s(), slice=self.number, key=self.key, oracle=kept.oracle, what=kept.what,
            exit_code=ExitCode.KILLED if died else ExitCode.VIOLATION,
        )
        if known:
            self.journal.log(event)
        else:
            self.journal.add_failure(event, kept.files)
            self.soak.status.say(f"!!! {kept.oracle}: {kept.what}  ({self.key}, slice {self.number}): {event.path}")
        self.paths[kept.oracle, kept.what] = "" if known else event.path

    def _replay(self, oracle: str) -> str:
        return f"ptstress again {self.journal.path / failure_name(self.number, oracle)}"

    def _write_testid(self, flags: dict[str, object]) -> None:
        if not (self.journal.path / TESTID).exists():
            text = testid_text(self.soak.request.command_line(), self.soak.request.seed, flags)
            self.journal.write(TESTID, text.encode())

    def _on_canary(self, bug: str) -> None:
        self.journal.flush()
        self.soak.status.show(f"soak  slice: {self.number}  {self.key}  canary: {bug}", keep=self.soak.screens.verbose)

    def _on_sample(self, sample: Sample) -> None:
        rss = round(resident_kb() / KB_PER_MIB, 2)
        self.journal.log(Alive(
            at_s=self.soak.elapsed_s(), slice=self.number, key=self.key, phase=sample.phase.name.lower(), ops=sample.ops,
            rss_mib=rss, session_s=round(self.soak.session_s(), 3), child_s=round(sample.age_s, 3),
            child_mib=round(sample.rss_kb / KB_PER_MIB, 2),
        ), urgent=False)
        self.soak.note_trouble()
        now = time.monotonic()
        if now - self.soak.shown_at >= self.soak.status.interval_s:
            self.soak.shown_at = now
            line = soak_line(
                self.soak.state, self.soak.elapsed_s(), self.key, rss, sample, self.before, self.journal.trouble
            )
            self.before = sample
            self.soak.status.show(line)
