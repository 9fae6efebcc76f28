"""What people and other tools read of a soak: status line, last screen, JUnit XML."""

import re
from xml.etree import ElementTree

from ptstress.driver import Sample
from ptstress.errors import ExitCode
from ptstress.report import MAX_SCREEN, SHOWN_PAIRS, checked_text, debt_text, near_text, status_line
from ptstress.results import StageSummary
from ptstress.soak_rotation import Rotation
from ptstress.soak_state import SoakState
from ptstress.soak_summary import Slope, SoakSummary
from ptstress.units import format_count, format_kb, format_seconds

#: What a slice takes beyond its time, and a canary, with two cores to themselves.
START_S, CANARY_S = 0.9, 0.5
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def soak_line(state: SoakState, age_s: float, key: str, rss_mib: float, now: Sample, before: Sample | None, trouble: str) -> str:
    """One line, always the same keys in the same order; ``!!!`` at its end on trouble."""
    line = status_line(key, now, before)
    head = (
        f"soak  age: {format_seconds(age_s)}  slice: {state.next_slice}  failures: {len(state.found)}"
        f"  killed: {state.killed}  overlaps: {format_count(state.trusted_overlaps)}  rss: {rss_mib:.0f} MiB"
    )
    separator = ", " if "!!!" in line else "  !!! "
    return f"{head}  {line}" + (f"{separator}{trouble}" if trouble else "")


def soak_screen(s: SoakSummary) -> list[str]:
    """At most 12 lines: what happened, what it is worth, what to do next."""
    ran = len(s.stages)
    lines = [
        f"verdict: {s.verdict.upper()} (exit {int(s.exit_code)})  soak, {s.slices} slices over {ran} of "
        f"{s.combinations} workloads x schemes{_because(s)}",
        f"workload: {_short(s.workload)}  scheme: {s.scheme}  build: {s.build}  seed: {s.seed}",
        f"threads: up to {s.threads}  duration: {format_seconds(s.elapsed_s)}, {s.racing_share:.0%} of a slice racing  "
        f"ended by: {s.ended or 'nothing yet'}",
        f"operations: {format_count(s.ops.total)} ({format_count(s.ops.per_second)}/s)  checked: "
        f"{checked_text(s)}, violations: {s.checked.violations}, slices killed: {s.killed}",
        f"overlaps: {format_count(s.overlaps.total)} ({format_count(s.overlaps.per_second)}/s racing)  {_pairs(s)}",
        f"near misses: {near_text(s)}",
        f"tables: peak {format_kb(s.tables.peak_bytes)}  ({format_count(s.tables.reclaimed)} reclaimed)  debt: {debt_text(s)}",
        f"canaries: found {s.canaries.found} of {s.canaries.planted} planted{_missed(s)}, {s.canary_share:.1%} of the time",
        f"memory: {memory_text(s.slope)}",
        f"confidence: {s.confidence}{f'; {s.until}' if s.until else ''}",
        f"results: {s.results}",
        f"next: {_next_step(s)}",
    ]
    return lines[:MAX_SCREEN]


def turn_text(rotation: Rotation) -> str:
    """How long it takes until everything ran once."""
    slices_s = sum(combination.plan.job.duration_s + START_S for combination in rotation.combinations)
    rounds = {c.canary_key: len(c.plan.scheme.canaries) for c in rotation.combinations}
    canaries_s = CANARY_S * sum(rounds.values())
    return (
        f"soak  one turn: {len(rotation.combinations)} workloads x schemes, about {format_seconds(slices_s + canaries_s)}, "
        f"of which {format_seconds(canaries_s)} for canaries"
    )


def memory_text(slope: Slope) -> str:
    """``parent 54 MiB, slope +0.12 MiB/h; ...``, or that it is too early to say."""
    parts = []
    for who, rate, high in (
        ("parent", slope.parent_mib_per_hour, slope.parent_mib), ("children", slope.children_mib_per_hour, slope.children_mib),
    ):
        if rate is not None:
            parts.append(f"{who} at most {high:.0f} MiB, slope {rate:+.2f} MiB/h")
    if slope.inside_mib_per_hour is not None:
        parts.append(f"inside a slice {slope.inside_mib_per_hour:+.2f} MiB/h")
    return f"{'; '.join(parts)} (from minute 10 on)" if parts else "slope is measured from minute 10 on"


def junit(s: SoakSummary) -> bytes:
    """One test case for each combination that ran."""
    suite = ElementTree.Element("testsuite", name="ptstress soak", timestamp="", time=f"{s.elapsed_s:.3f}")
    del suite.attrib["timestamp"]
    failures = errors = 0
    for stage in s.stages:
        case = ElementTree.SubElement(
            suite, "testcase", classname=f"ptstress.soak.{stage.scheme}", name=stage.name, time=f"{stage.duration_s:.3f}"
        )
        for found in s.failures:
            if found.key != f"{stage.name} {stage.scheme}":
                continue
            broken = found.exit_code == ExitCode.VIOLATION
            failures, errors = failures + broken, errors + (not broken)
            node = ElementTree.SubElement(
                case, "failure" if broken else "error", type=found.oracle, message=_clean(found.what)
            )
            node.text = _clean(f"seen {found.count} times, first in slice {found.slice}\nagain: ptstress again {found.path}")
        if stage.exit_code == ExitCode.UNTRUSTWORTHY:
            errors += 1
            ElementTree.SubElement(case, "error", type="untrustworthy", message=_clean("; ".join(stage.notes)))
        ElementTree.SubElement(case, "system-out").text = _clean(_one_line(stage))
    suite.set("tests", str(len(s.stages)))
    suite.set("failures", str(failures))
    suite.set("errors", str(errors))
    return ElementTree.tostring(suite, encoding="utf-8", xml_declaration=True)


def _one_line(stage: StageSummary) -> str:
    return f"{format_count(stage.ops.total)} operations, {stage.confidence}"


def _clean(text: str) -> str:
    return _NOT_IN_XML.sub("?", text)


def _because(s: SoakSummary) -> str:
    if s.failure:
        more = f" (and {len(s.failures) - 1} more)" if len(s.failures) > 1 else ""
        return f": {s.failure.oracle}: {s.failure.what}{more}"
    return f": {s.notes[0]}{f' (and {len(s.notes) - 1} more)' if len(s.notes) > 1 else ''}" if s.notes else ""


def _pairs(s: SoakSummary) -> str:
    most = sorted(s.overlaps.by_pair.items(), key=lambda item: -item[1])[:SHOWN_PAIRS]
    return ", ".join(f"{pair} {format_count(count)}" for pair, count in most)


def _missed(s: SoakSummary) -> str:
    missed = dict.fromkeys(item.bug for item in s.canaries.items if not item.found)
    return f" (NOT FOUND: {', '.join(missed)})" if missed else ""


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def _next_step(s: SoakSummary) -> str:
    if s.failure:
        return f"read {s.failure.path}/description.txt; again: {s.failure.replay}"
    if s.ended == "stopped":
        return f"ptstress resume {s.results}"
    if s.exit_code == ExitCode.UNTRUSTWORTHY:
        return f"ptstress resume {s.results} --duration TIME, for more evidence"
    return f"ptstress again {s.results}, or ptstress resume {s.results} --duration TIME"
