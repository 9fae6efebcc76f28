"""Where a soak stands, as the sum of the lines of its log. A checkpoint is this, written down.

So a checkpoint that is lost costs nothing but the time to read the log again.
"""

from collections.abc import Iterable

import msgspec
from msgspec import Struct

from ptstress import __version__
from ptstress.errors import ExitCode
from ptstress.memory import Line
from ptstress.results import Canaries, CanaryItem, StageSummary
from ptstress.soak_rotation import SoakRequest
from ptstress.verdict import pool

#: Memory is looked at from minute 10 on: before, caches fill.
SETTLED_S = 600.0
SECONDS_PER_HOUR = 3600.0


class Event(Struct, tag_field="event"):
    """One line of the log. ``n``: its number; ``t``: time of day; ``at_s``: age of the soak, all sessions together."""

    n: int = 0
    t: float = 0.0
    at_s: float = 0.0


class Started(Event, tag="start"):
    """A soak began."""

    request: SoakRequest | None = None
    version: str = ""
    left_out: list[str] = []


class Resumed(Event, tag="resume"):
    """It goes on in another process."""

    request: SoakRequest | None = None
    version: str = ""
    notes: list[str] = []


class CanariesRan(Event, tag="canaries"):
    """A round of canaries under one scheme, geometry and number of threads."""

    key: str = ""
    seconds: float = 0.0
    canaries: Canaries | None = None


class Alive(Event, tag="status"):
    """A slice runs, and so does the parent, which needs ``rss_mib``."""

    slice: int = 0
    key: str = ""
    phase: str = ""
    ops: int = 0
    rss_mib: float = 0.0
    session_s: float = 0.0


class FailureSeen(Event, tag="failure"):
    """A violation, a crash or a hang. ``path``: its folder, empty if it is one that was known."""

    slice: int = 0
    key: str = ""
    oracle: str = ""
    what: str = ""
    path: str = ""
    exit_code: int = int(ExitCode.VIOLATION)


class SliceEnded(Event, tag="slice-end"):
    """``kind``: see ``Outcome``. ``summary``: of this slice; ``None`` if its end was not seen or it could not run."""

    slice: int = 0
    key: str = ""
    canary_key: str = ""
    kind: str = ""
    trusted: bool = False
    session_s: float = 0.0
    rss_mib: float = 0.0
    summary: StageSummary | None = None
    error: str = ""


class Ended(Event, tag="end"):
    """``reason``: duration, until, failure or stopped."""

    reason: str = ""
    verdict: str = ""
    exit_code: int = 0


AnyEvent = Started | Resumed | CanariesRan | Alive | FailureSeen | SliceEnded | Ended


class Found(Struct):
    """A distinct failure, and how often it came."""

    oracle: str
    what: str
    key: str
    slice: int
    path: str
    exit_code: int
    count: int = 1


class Part(Struct):
    """One combination: the sum of its slices. ``trusted_overlaps``: of slices whose canaries were all found."""

    summary: StageSummary | None = None
    slices: int = 0
    killed: int = 0
    trusted_overlaps: int = 0
    rss: Line = msgspec.field(default_factory=Line)


class Round(Struct):
    """The last round of canaries that holds for a combination, and slices that ran since."""

    canaries: Canaries
    slices_since: int = 0

    @property
    def trusted(self) -> bool:
        """Every canary was found."""
        return self.canaries.found == self.canaries.planted


class SoakState(Struct):
    """See the head of the file. ``lines``: number of the last log line that is in it."""

    request: SoakRequest
    version: str = __version__
    lines: int = 0
    next_slice: int = 0
    elapsed_s: float = 0.0
    sessions: int = 1
    killed: int = 0
    canary_s: float = 0.0
    canary_rounds: int = 0
    parts: dict[str, Part] = {}
    rounds: dict[str, Round] = {}
    found: list[Found] = []
    errors: list[str] = []
    left_out: list[str] = []
    parent_rss: dict[str, Line] = {}
    ended: str = ""

    def apply(self, event: AnyEvent) -> None:
        """Add one line of the log."""
        self.lines = max(self.lines, event.n)
        self.elapsed_s = max(self.elapsed_s, event.at_s)
        match event:
            case Started(left_out=left_out):
                self.left_out = left_out
            case Resumed(request=request):
                self.sessions += 1
                self.ended = ""
                self.request = request or self.request
            case CanariesRan(key=key, seconds=seconds, canaries=Canaries() as canaries):
                self.rounds[key] = Round(canaries)
                self.canary_rounds += 1
                self.canary_s += seconds
            case Alive(session_s=age, rss_mib=rss) if age >= SETTLED_S:
                self.parent_rss.setdefault(str(self.sessions), Line()).add(age / SECONDS_PER_HOUR, rss)
            case FailureSeen():
                self._add_failure(event)
            case SliceEnded():
                self._add_slice(event)
            case Ended(reason=reason):
                self.ended = reason

    def find(self, oracle: str, what: str, key: str) -> Found | None:
        """The failure of this signature, if it is known."""
        return next((f for f in self.found if (f.oracle, f.what, f.key) == (oracle, what, key)), None)

    @property
    def trusted_overlaps(self) -> int:
        """Overlaps that count as evidence."""
        return sum(part.trusted_overlaps for part in self.parts.values())

    @property
    def canaries(self) -> Canaries:
        """The last round of every kind together."""
        items: list[CanaryItem] = [item for one in self.rounds.values() for item in one.canaries.items]
        note = next((one.canaries.note for one in self.rounds.values()), "")
        return Canaries(len(items), sum(item.found for item in items), items, note)

    def _add_failure(self, event: FailureSeen) -> None:
        known = self.find(event.oracle, event.what, event.key)
        if known:
            known.count += 1
            return
        self.found.append(Found(event.oracle, event.what, event.key, event.slice, event.path, event.exit_code))

    def _add_slice(self, event: SliceEnded) -> None:
        self.next_slice = event.slice + 1
        if event.error:
            self.errors = [*self.errors[-9:], f"slice {event.slice}, {event.key}: {event.error}"]
        if event.summary is None:
            return
        if event.canary_key in self.rounds:
            self.rounds[event.canary_key].slices_since += 1
        part = self.parts.setdefault(event.key, Part())
        part.slices += 1
        died = event.kind in ("crashed", "hung")
        part.killed += died
        self.killed += died
        if event.trusted:
            part.trusted_overlaps += event.summary.overlaps.total
        if event.rss_mib and event.session_s >= SETTLED_S:
            part.rss.add(event.at_s / SECONDS_PER_HOUR, event.rss_mib)
        before = [part.summary] if part.summary else []
        part.summary = msgspec.structs.replace(event.summary, notes=[], **pool([*before, event.summary]))


def replay_log(state: SoakState | None, lines: Iterable[bytes]) -> tuple[SoakState | None, int]:
    """``state`` with the lines that it does not hold yet, or all lines from nothing; how many could not be read."""
    bad = 0
    decoder = msgspec.json.Decoder(AnyEvent)
    for line in lines:
        try:
            event = decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            bad += 1
            continue
        if state is None and isinstance(event, Started) and event.request is not None:
            state = SoakState(event.request, event.version)
        if state is not None and event.n > state.lines:
            state.apply(event)
    return state, bad
