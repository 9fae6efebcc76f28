"""``explore --weaken``: leave out one ordering after the other, and see which oracle catches that.

An ordering stands at an access, and is left out there at run time (``cy/base/weak.pxd``): the programs run as they are written,
only that access orders nothing. What may show it is run first without leaving out anything, so that each ordering is looked for
where its access is made. Each is looked for in a copy of this process, as an engine without it may crash. An ordering that
nothing catches is one that nothing needs, or that no oracle sees: its reason stands in ``ptstress.weaken_reasons``, and is
wrong as soon as something does catch it.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import msgspec
from msgspec import Struct

from ptstress.apart import run_apart
from ptstress.bugs import BUGS
from ptstress.driver import Stopper
from ptstress.errors import ExitCode, PtstressError, UsageError
from ptstress.generator import generate
from ptstress.lab import KNOBS, MAX_STEPS, Lab, fingerprint, invariants_of, judge
from ptstress.orderings import Place, find_places, name_of, reason_of
from ptstress.program import Program, parse
from ptstress.schedule import Replay, encode
from ptstress.texttable import flush_left
from ptstress.units import format_count, format_finding, format_geometry, format_seconds
from ptstress.weaken_aims import AIMS, POLLS

#: Schemes that make all labelled accesses between them.
SCHEMES = ("linux-6.3", "linux-6.18", "seed-zero", "rfc-2024", "seed-rcu", "seed-srcu", "seed-refcount")
#: Programs that are drawn, for each scheme. They are long: their turn comes after some of the others.
DRAWN, DRAWN_FROM = 20, 2
#: Schemes under which a program is run without an ordering, at most.
SCHEMES_EACH = 2
#: Executions of a program that show what it passes through, and of the first turn through the programs that do.
SURVEY, FIRST_TURN = 8, 8
#: Before them: so many times the executions of an ordering for each policy and program that is aimed at it, in turns that grow
#: this much. "pct" comes a second time there, with two points at which the first cpu falls behind.
AIMED, AIMED_GROWTH, AIMED_DEPTH = 20, 4, 3
#: What catches an ordering whose absence ends the process.
CRASH = "crash"
#: Who picks the schedules of a turn.
POLICIES = ("random", "pos", "pct")
AIMED_POLICIES = (("random", None), ("pos", None), ("pct", None), ("pct", AIMED_DEPTH))


@dataclass(frozen=True)
class WeakenRequest:
    """The command line. ``program``: in place of the planted bugs' and of drawn ones; ``scheme``: in place of several.

    ``executions``: for each ordering, at most; ``AIMED`` times as many for each policy and program that is aimed at it.
    """

    labels: tuple[str, ...]
    program: Program | None
    scheme: str | None
    geometry: tuple[int, ...]
    executions: int
    seed: int


class Weakened(Struct):
    """One access without its ordering. ``programs``: how many of those that were tried make it.

    ``executions``: until it was caught, or all. ``together``: what catches it if all accesses of its label order nothing.
    ``reason``: why nothing is expected to catch it.
    """

    label: str
    where: str
    access: str
    programs: int = 0
    caught: bool = False
    executions: int = 0
    oracle: str = ""
    invariant: int = 0
    scheme: str = ""
    program: str = ""
    replay: str = ""
    together: str = ""
    reason: str = ""

    @property
    def as_expected(self) -> bool:
        """Caught, or with a reason why not."""
        return self.caught != bool(self.reason)


class WeakenSummary(Struct):
    """All of them."""

    verdict: str
    exit_code: int
    geometry: str
    seed: int
    executions: int
    seconds: float
    orderings: list[Weakened]
    notes: list[str]
    schema: str = "ptstress.weaken/1"


def weaken(request: WeakenRequest, tell: Callable[[str], None]) -> WeakenSummary:
    """Leave out each ordering of the labels, or all. Raises ``UsageError``."""
    places = find_places(request.labels)
    begin = time.monotonic()
    bench = _Bench(request)
    rows: list[Weakened] = []
    with Stopper() as stopper:

        def stopped() -> bool:
            return stopper.requests > 0

        makes = bench.survey(places, stopped)
        for place in places:
            if (row := bench.look_apart([place], makes[place], stopped)) is None:
                break
            rows.append(row)
            tell(f"weaken  {place.label} {place.where}: {_outcome(row)}")
        for row in rows:
            same = [p for p in places if p.label == row.label]
            if not row.caught and len(same) > 1:
                targets = list(dict.fromkeys(target for p in same for target in makes[p]))
                if (both := bench.look_apart(same, targets, stopped)) is None:
                    break
                row.together = format_finding(both.oracle, both.invariant) if both.caught else ""
    notes = ["stopped before the end"] * bool(stopper.requests)
    notes += [f"{r.label} {r.where}: {_doubt(r)}" for r in rows if not r.as_expected]
    code = ExitCode.UNTRUSTWORTHY if notes else ExitCode.PASS
    return WeakenSummary(
        "unknown" if notes else "pass", code, format_geometry(request.geometry), request.seed, bench.executions,
        round(time.monotonic() - begin, 3), rows, notes,
    )


def weaken_lines(s: WeakenSummary) -> list[str]:
    """The last screen."""
    labels = {row.label for row in s.orderings}
    caught = {row.label for row in s.orderings if row.caught}
    rows = [["label", "without the ordering of", "", "executions", "caught by"]]
    rows += [[row.label, row.access, row.where, format_count(row.executions), _outcome(row)] for row in s.orderings]
    return [
        f"verdict: {s.verdict.upper()} (exit {int(s.exit_code)})  {sum(r.caught for r in s.orderings)} of "
        f"{len(s.orderings)} accesses, {len(caught)} of {len(labels)} labels are caught when they order nothing",
        f"executions: {format_count(s.executions)} in {format_seconds(s.seconds)}, geometry {s.geometry}, seed {s.seed}",
        *(f"note: {note}" for note in s.notes), "", *flush_left(rows),
    ]


def _outcome(row: Weakened) -> str:
    if row.caught:
        return format_finding(row.oracle, row.invariant) + (f", under {row.scheme}" if row.scheme else "")
    reason = f": {row.reason}" if row.reason else ""
    return "nothing" + reason + (f" (all of {row.label}: {row.together})" if row.together else "")


def _doubt(row: Weakened) -> str:
    if row.caught:
        return f"its reason is wrong: {row.reason}"
    return "no program makes this access" if row.programs == 0 else f"nothing caught it in {row.executions:,} executions"


@dataclass(frozen=True)
class _Target:
    scheme: str
    program: Program
    drawn: bool = False
    aim: tuple[str, str] = ("", "")
    polls: bool = False


class _Bench:
    """Where orderings are left out: a machine for each scheme and shape of program."""

    def __init__(self, request: WeakenRequest) -> None:
        self.request = request
        self.labs: dict[tuple[str, bool, int, int], Lab] = {}
        self.executions = 0

    def survey(self, places: Sequence[Place], stopped: Callable[[], bool]) -> dict[Place, list[_Target]]:
        """The programs that make each access, those aimed at it first, however seldom they do. Raises ``UsageError``."""
        seen: dict[Place, list[tuple[int, _Target]]] = {place: [] for place in places}
        targets = list(self._targets())
        for target in targets:
            if stopped():
                break
            lab = self._lab(target, places, count_only=True)
            result = lab.explorer.explore(seed=self.request.seed, executions=SURVEY, max_steps=MAX_STEPS)
            self.executions += result["executions"]
            if result["failure"]:
                oracle, what = judge(result["failure"]["outcome"], lab.view.reports())
                raise UsageError(f"nothing is left out yet, and there is a failure under {target.scheme}: {oracle}: {what}; "
                                 f"see 'ptstress explore' of {target.program.text()!r}")
            times = dict(zip(_lines(places), lab.explorer.memory.times(), strict=True))
            for place in places:
                if times[place.module, place.line]:
                    seen[place].append((times[place.module, place.line], target))
        return {place: [t for t in targets if t.aim == (place.label, name_of(place))] + _few(found)
                for place, found in seen.items()}

    def look_apart(
        self, places: Sequence[Place], targets: Sequence[_Target], stopped: Callable[[], bool],
    ) -> Weakened | None:
        """``look``, in a copy of this process; ``None``: it was stopped."""
        if stopped():
            return None
        ended = run_apart(lambda: msgspec.json.encode(self.look(places, targets)), stopped)
        if ended.crash:
            row = _row(places, targets)
            row.caught, row.oracle = True, CRASH
        elif ended.said is None and not stopped():
            raise PtstressError(f"the process that looked at {places[0].label} {places[0].where} failed")
        elif ended.said is None:
            return None
        else:
            row = msgspec.json.decode(ended.said, type=Weakened)
        self.executions += row.executions
        return row

    def look(self, places: Sequence[Place], targets: Sequence[_Target]) -> Weakened:
        """Run the programs in turns, each turn longer, without the ordering of these accesses."""
        place = places[0]
        row = _row(places, targets)
        turn = 0
        aimed = [t for t in targets if t.aim == (place.label, name_of(place))]
        if self._look_aimed(row, places, aimed):
            return row
        begin = row.executions
        if all(target.drawn for target in targets):
            turn = DRAWN_FROM
        while targets and row.executions - begin < self.request.executions:
            for target in (t for t in targets if turn >= DRAWN_FROM or not t.drawn):
                left = self.request.executions - (row.executions - begin)
                if left <= 0:
                    break
                if self._run(row, places, target, POLICIES[turn % len(POLICIES)], min(left, FIRST_TURN << turn), turn):
                    return row
            turn += 1
        return row

    def _look_aimed(self, row: Weakened, places: Sequence[Place], aimed: Sequence[_Target]) -> bool:
        """The same for the programs that are aimed at it, in turns of all policies."""
        done, turn, executions = 0, -1, max(1, self.request.executions // AIMED)
        while aimed and done < AIMED * self.request.executions:
            executions = min(executions, AIMED * self.request.executions - done)
            for policy, depth in AIMED_POLICIES:
                for target in aimed:
                    if self._run(row, places, target, policy, executions, turn, depth):
                        return True
            done, turn, executions = done + executions, turn - 1, executions * AIMED_GROWTH
        return False

    def _run(self, row: Weakened, places: Sequence[Place], target: _Target, policy: str, executions: int, turn: int,
             depth: int | None = None) -> bool:
        """Executions of one program. Returns whether something went wrong, and notes it in ``row``."""
        lab = self._lab(target, places)
        result = lab.explorer.explore(
            policy=policy, seed=_mixed(self.request.seed, turn, target), executions=executions, max_steps=MAX_STEPS,
            depth=depth)
        row.executions += result["executions"]
        if result["failure"]:
            self._caught(row, places, target, lab, result["failure"])
        return result["failure"] is not None

    def _caught(self, row: Weakened, places: Sequence[Place], target: _Target, lab: Lab, found: dict) -> None:
        reports = lab.view.reports()
        row.caught, row.scheme, row.program = True, target.scheme, target.program.text()
        row.oracle = judge(found["outcome"], reports)[0]
        row.invariant = next(iter(invariants_of(found["outcome"], reports)), 0)
        row.replay = encode(Replay(
            fingerprint=fingerprint(target.scheme), program=row.program, scheme=target.scheme, geometry=self.request.geometry,
            knobs=_knobs(target), seed=found["seed"], choices=found["choices"], max_steps=found["max_steps"],
            outcome=found["outcome"], trace_hash=found["hash"], weakened=tuple(_lines(places)),
        ))

    def _targets(self) -> Iterator[_Target]:
        given = self.request.program
        programs = [given] if given else list(dict.fromkeys(parse(bug.program, bug.id) for bug in BUGS))
        for aim in () if given else AIMS:
            if self.request.scheme in (None, aim.scheme):
                yield _Target(aim.scheme, parse(aim.program, aim.label), aim=(aim.label, aim.function), polls=aim.polls)
        for scheme in [self.request.scheme] if self.request.scheme else SCHEMES:
            yield from (_Target(scheme, program) for program in programs)
            for index in range(0 if given else DRAWN):
                yield _Target(scheme, generate(_mixed(self.request.seed, index, None), self.request.geometry), True)

    def _lab(self, target: _Target, places: Sequence[Place], count_only: bool = False) -> Lab:
        shape = (target.scheme, target.polls, len(target.program.branches), target.program.mms())
        if shape not in self.labs:
            self.labs[shape] = Lab(target.scheme, self.request.geometry, (), _knobs(target), self.request.seed)
        lab = self.labs[shape]
        lab.load(target.program)
        lab.explorer.memory.weaken(_lines(places), count_only)
        return lab


def _row(places: Sequence[Place], targets: Sequence[_Target]) -> Weakened:
    place = places[0]
    return Weakened(place.label, place.where, place.access, len(targets), reason=reason_of(place))


def _knobs(target: _Target) -> dict:
    return dict(KNOBS) | (dict(POLLS) if target.polls else {})


def _lines(places: Sequence[Place]) -> list[tuple[str, int]]:
    """Where they stand, each once: an access may have several labels."""
    return list(dict.fromkeys((place.module, place.line) for place in places))


def _few(found: Sequence[tuple[int, _Target]]) -> list[_Target]:
    """Of each program that makes an access, the schemes under which it makes it most often; short programs first."""
    by_program: dict[Program, list[_Target]] = {}
    for _, target in sorted((one for one in found if one[1].aim == ("", "")), key=lambda one: -one[0]):
        by_program.setdefault(target.program, []).append(target)
    return sorted((t for some in by_program.values() for t in some[:SCHEMES_EACH]), key=lambda t: len(t.program.text()))


def _mixed(seed: int, index: int, target: _Target | None) -> int:
    """A seed for a turn of a target, or for a program that is drawn."""
    text = f"{seed}/{index}" + (f"/{target.scheme}/{target.program.text()}" if target else "")
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest())
