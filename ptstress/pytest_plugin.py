"""pytest plugin: a user's own test runs a program under explored schedules and on real threads.

    @pytest.mark.ptstress(scheme="linux-6.18", executions=5000)
    def test_a_write_survives(ptstress):
        ptstress.check("prefix: mmap(p0..p4); t0: write(p0) | t1: dontneed(p0..p4)")

``ptstress`` is a ``Laboratory``. A failure shows the program, the two-column story of the schedule that
failed, and the line that replays it. The marker's arguments are the fields of ``Settings``; each has a default.
The package registers the plugin: nothing has to be switched on.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields

import pytest

from ptstress.bugs import find_bugs
from ptstress.errors import PtstressError
from ptstress.explore_report import explore_lines
from ptstress.exploring import DEFAULT_GEOMETRY, ExploreRequest, explore, read_program
from ptstress.program import Program
from ptstress.schemes import find_scheme
from ptstress.trial import SmallMachine
from ptstress.units import parse_geometry

MARKER = "ptstress(scheme, geometry, executions, rounds, seed, bugs): how the fixture `ptstress` runs programs"


@dataclass(frozen=True)
class Settings:
    """``executions``: explored schedules of a program; ``rounds``: how often real threads run it."""

    scheme: str = "linux-6.18"
    geometry: str = DEFAULT_GEOMETRY
    executions: int = 2000
    rounds: int = 100
    seed: int = 1
    bugs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        find_scheme(self.scheme)
        find_bugs(self.bugs)
        parse_geometry(self.geometry)


class Laboratory:
    """Runs programs as ``settings`` say. Programs are text, the path of a file, or ``ptstress.program.Program``.

    Every method fails the test if an oracle or the model objects; ``pytest.fail`` carries the story.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._machines: dict[tuple[int, int], SmallMachine] = {}

    def check(self, program: str | Program) -> None:
        """Explore, then race."""
        self.explore(program)
        self.race(program)

    def explore(self, program: str | Program) -> None:
        """Run the program under ``executions`` schedules, or under all that there are."""
        s = self.settings
        text = program if isinstance(program, str) else program.text()
        request = ExploreRequest(
            text, s.scheme, parse_geometry(s.geometry), s.bugs, s.executions, None, s.seed, "random"
        )
        summary = explore(request, lambda line: None)
        if summary.failures:
            pytest.fail("\n".join(explore_lines(summary)), pytrace=False)
        if summary.stop_reason == "stopped":
            raise KeyboardInterrupt

    def race(self, program: str | Program) -> None:
        """Run the program on real threads, ``rounds`` times."""
        parsed = read_program(program) if isinstance(program, str) else program
        machine = self._machine(len(parsed.branches), parsed.mms())
        for seed in range(self.settings.seed, self.settings.seed + self.settings.rounds):
            verdict = machine.race(parsed, seed)
            if verdict.verdict != "ok":
                recorded = [f"CPU{w}: {line}" for w in range(machine.workers) for line in machine.view.last_operations(w, 8)]
                head = f"{verdict.verdict} on real threads, round {seed}: {verdict.oracle}: {verdict.detail}"
                pytest.fail("\n".join([head, f"program: {parsed.text()}", *recorded]), pytrace=False)

    def close(self) -> None:
        """Join the threads."""
        for machine in self._machines.values():
            machine.machine.stop()

    def _machine(self, workers: int, mms: int) -> SmallMachine:
        if (workers, mms) not in self._machines:
            s = self.settings
            self._machines[workers, mms] = SmallMachine(
                "stress", s.scheme, parse_geometry(s.geometry), workers, bugs=s.bugs, mms=mms
            )
        return self._machines[workers, mms]


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", MARKER)


@pytest.fixture
def ptstress(request: pytest.FixtureRequest) -> Iterator[Laboratory]:
    """Runs programs under explored schedules and on real threads, as the marker ``ptstress`` says."""
    laboratory = Laboratory(_settings(request.node))
    try:
        yield laboratory
    finally:
        laboratory.close()


def _settings(node: pytest.Item) -> Settings:
    given: dict = {}
    known = [f.name for f in fields(Settings)]
    # The nearest marker last: a test's own arguments win over its module's.
    for marker in reversed(list(node.iter_markers("ptstress"))):
        unknown = sorted(set(marker.kwargs) - set(known))
        if marker.args or unknown:
            found = repr(unknown[0]) if unknown else "an argument without a name"
            pytest.fail(f"marker ptstress: {found}: expected some of {', '.join(known)}", pytrace=False)
        given.update(marker.kwargs)
    try:
        return Settings(**{**given, "bugs": tuple(given.get("bugs", ()))})
    except PtstressError as error:
        pytest.fail(f"marker ptstress: {error}", pytrace=False)
